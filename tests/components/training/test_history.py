from pathlib import Path

import pytest

from components.training.history import History, best_of, describe, is_stuck, rank, read_history, write_history


def history_of(*ciders: float, phase: float = 1, loss: float = 2.0) -> History:
    return [
        {"phase": phase, "epoch": epoch, "loss": 3.0, "val_loss": loss, "val_cider": cider}
        for epoch, cider in enumerate(ciders, start=1)
    ]


def test_the_best_epoch_has_the_highest_cider_then_the_lowest_validation_loss() -> None:
    (row,) = history_of(0.5)
    better, worse = row | {"val_loss": 1.0}, row | {"val_cider": 0.4, "val_loss": 0.1}
    assert rank(better) > rank(row) > rank(worse)
    assert best_of([worse, row, better]) is better


def test_the_first_of_equally_good_epochs_is_the_best() -> None:
    assert best_of(history_of(0.1, 0.5, 0.5, 0.2))["epoch"] == 2


@pytest.mark.parametrize(
    ("ciders", "stuck"),
    [
        ((), False),
        ((0.5, 0.4), False),  # too few epochs to tell
        ((0.5, 0.4, 0.3), True),
        ((0.5, 0.4, 0.6), False),
        ((0.5, 0.6, 0.4), False),
        ((0.5, 0.5, 0.5), True),  # as good is not better
        ((0.5, 0.6, 0.4, 0.5), True),
    ],
)
def test_a_training_is_stuck_when_its_last_two_epochs_were_no_better(ciders: tuple[float, ...], stuck: bool) -> None:
    assert is_stuck(history_of(*ciders), 1, 2) == stuck


def test_a_phase_is_given_its_own_patience_but_compared_with_all_before() -> None:
    first = history_of(0.9, 0.4, 0.4)
    assert not is_stuck(first + history_of(0.5, phase=2), 2, 2)
    assert is_stuck(first + history_of(0.5, 0.6, phase=2), 2, 2)
    assert not is_stuck(first + history_of(0.5, 1.0, phase=2), 2, 2)


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    history = history_of(0.1, 1 / 3)
    write_history(history, tmp_path)
    assert read_history(tmp_path) == history


def test_an_epoch_is_described_by_what_it_learnt_from() -> None:
    text = describe({"phase": 1, "epoch": 1, "loss": 4.31, "accuracy": 0.25, "val_loss": 3.73, "val_cider": 0.5})
    assert all(figure in text for figure in ("loss 4.310", "3.730", "0.500"))
    text = describe({"phase": 2, "epoch": 9, "reward": 1.25, "val_loss": 3.73, "val_cider": 0.5})
    assert text.startswith("reward 1.250")
