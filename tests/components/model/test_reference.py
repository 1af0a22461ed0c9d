import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.encoder.pool import Vectors
from components.model import reference
from components.model.reference import Reference
from data_contracts.schema import DRIFT

CAPTIONS = pd.Series(["a cat sits on grass", "a dog", "two birds fly"], dtype="str")


def vectors(values: np.ndarray, shards: int = 3) -> Vectors:
    """The rows of `values`, in that order, dealt out to shards like cards."""
    values = values.astype(np.float32)
    number = np.arange(len(values))
    dealt = [values[start::shards] for start in range(shards)]
    return Vectors(dealt, number % shards, number // shards, values.shape[1])


def normal(count: int, seed: int) -> np.ndarray:
    """Embeddings of five numbers whose means and scales differ."""
    return np.random.default_rng(seed).normal([0, 1, -2, 300, 0.5], [1, 0.1, 5, 20, 0.01], (count, 5))


def compare(values: np.ndarray, captions: "pd.Series[str]" = CAPTIONS) -> "pd.Series[float]":
    drift = Reference.of(vectors(normal(4000, seed=1)), CAPTIONS).compare(vectors(values), captions)
    assert {name: str(dtype) for name, dtype in drift.dtypes.items()} == DRIFT
    assert len(drift) == 1
    return drift.iloc[0]


@pytest.mark.parametrize("rows", [7, 1000, 4096])
def test_the_figures_are_numpys(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(reference, "ROWS", rows)
    values = normal(1000, seed=0).astype(np.float32)
    found = Reference.of(vectors(values), CAPTIONS)
    mean, deviation = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(found.deviation, deviation, rtol=1e-6)
    distances = np.sqrt((((values - mean) / deviation) ** 2).mean(axis=1))
    assert found.far == pytest.approx(np.quantile(distances, 0.99))
    assert found.caption_words == pytest.approx(10 / 3)


def test_numbers_that_never_change_do_not_count() -> None:
    values = normal(500, seed=0)
    constant = np.insert(values, [0, 3], [7.25, 0], axis=1)
    plain, padded = (Reference.of(vectors(v), CAPTIONS) for v in (values, constant))
    assert [padded.deviation[0], padded.deviation[4]] == [0, 0]
    assert padded.far == pytest.approx(plain.far)
    moved = np.add(constant, [1000, 0, 0, 0, 1000, 0, 0])
    shift = padded.compare(vectors(moved), CAPTIONS)["embedding_shift"].item()
    assert shift == pytest.approx(0, abs=1e-6)


def test_a_reference_survives_its_file(tmp_path: Path) -> None:
    found = Reference.of(vectors(normal(50, seed=0)), CAPTIONS)
    found.save(tmp_path / "reference.json")
    assert Reference.load(tmp_path / "reference.json") == found
    assert set(json.loads((tmp_path / "reference.json").read_text())) == {"mean", "deviation", "far", "caption_words"}


def test_embeddings_of_the_same_distribution_hardly_differ() -> None:
    drift = compare(normal(4000, seed=2))
    assert drift["images"] == 4000
    assert drift["embedding_shift"] < 0.05
    assert drift["outlier_share"] == pytest.approx(0.01, abs=0.005)
    assert drift["caption_words"] == drift["training_caption_words"] == pytest.approx(10 / 3)


@pytest.mark.parametrize(
    ("deviations", "shift"),
    [([0.5] * 5, 0.5), ([3, -3, 3, -3, 3], 3), ([4, 0, 0, 0, 0], 4 / np.sqrt(5))],
)
def test_shifted_embeddings_differ_by_the_shift(deviations: list[float], shift: float) -> None:
    values = normal(500, seed=0)
    training = Reference.of(vectors(values), CAPTIONS)
    moved = values + np.multiply(training.deviation, deviations)
    assert training.compare(vectors(moved), CAPTIONS)["embedding_shift"].item() == pytest.approx(shift, rel=1e-4)


def test_embeddings_that_are_far_out_are_counted() -> None:
    values = normal(1000, seed=2)
    values[:250] *= 50
    assert compare(values)["outlier_share"] == pytest.approx(0.25 + 0.75 * 0.01, abs=0.01)


def test_captions_tell_their_mean_length_and_that_of_training() -> None:
    drift = compare(normal(2, seed=2), pd.Series(["a cat", "a cat sits"], dtype="str"))
    assert drift["caption_words"] == 2.5
    assert drift["training_caption_words"] == pytest.approx(10 / 3)


def test_no_images_differ_from_nothing() -> None:
    drift = compare(np.empty((0, 5)), CAPTIONS[:0])
    assert drift[["images", "embedding_shift", "outlier_share"]].tolist() == [0, 0, 0]
    assert drift["caption_words"] == drift["training_caption_words"]


def test_training_images_that_are_all_the_same_leave_a_usable_reference() -> None:
    found = Reference.of(vectors(np.ones((3, 5))), CAPTIONS)
    assert found.compare(vectors(np.ones((2, 5))), CAPTIONS).notna().all(axis=None)
