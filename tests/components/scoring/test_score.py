import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from components.artifacts import Incomplete
from components.decoder.caption import Caption, Search
from components.encoder.pool import EncoderCard
from components.errors import TransientImageError
from components.model.captioner import Captioner, Embeddings, PackagedEncoder
from components.model.reference import Reference
from components.scoring import embed, score
from components.scoring.dataset import Scorer, read_dataset
from components.scoring.inputs import archives_of, list_images, read_inputs
from components.scoring.score import DRIFT_FILE, parts_of, score_parts, with_identity
from data_contracts.schema import DRIFT, PREDICTIONS

Photograph = Callable[[int], bytes]
REFERENCE = Reference([128.0, 128.0, 128.0], [64.0, 32.0, 0.0], 1.5, 4.0)
CARD = EncoderCard("colours", "0123456789abcdef", 3, 8, "antialias", "float32")


class ForeignError(Exception):
    """What a registered model's own code reports."""


@dataclass(frozen=True)
class Eye(PackagedEncoder):
    """Reads photographs as every encoder does, but for one, and counts what it has seen."""

    blind_to: bytes
    reason: str
    seen: list[int] = field(default_factory=list)

    def read(self, photograph: bytes) -> Any:
        if photograph == self.blind_to:
            return ForeignError(self.reason)
        found = super().read(photograph)
        return found if isinstance(found, np.ndarray) else ForeignError(str(found))

    def embed(self, pixels: Any) -> np.ndarray:
        self.seen.append(len(pixels))
        return super().embed(pixels)


def eye(card: EncoderCard = CARD, blind_to: bytes = b"nothing", reason: str = "not for me") -> Eye:
    """An encoder that sees mean colours."""
    return Eye(asdict(card), lambda pixels: np.asarray(pixels, np.float32).mean(axis=(1, 2)), blind_to, reason)


class Colours(Captioner):
    """Calls each photograph by its mean colour."""

    def __init__(self, *encoders: Eye) -> None:
        self.encoders = encoders or (eye(),)
        self.cards = [encoder.card for encoder in self.encoders]

    @property
    def embedded(self) -> list[int]:
        """How many photographs each encoder has seen."""
        return [sum(encoder.seen) for encoder in self.encoders if isinstance(encoder, Eye)]

    def caption(self, embeddings: Embeddings, search: Search) -> list[list[Caption]]:
        worse = Caption(f"not by {search.method}", (-9.0,))
        return [
            [Caption(" ".join(f"{10 * number:.0f}" for number in colour), (-float(colour.mean()),)), worse]
            for colour in embeddings[0 : len(embeddings)]
        ]


def colours(*photographs: bytes, encoders: Sequence[Eye] = ()) -> list[str]:
    captioner = Colours(*encoders)
    embeddings, _ = captioner.embed(photographs)
    return [best.text for best, _ in captioner.caption(embeddings, Search())]


@pytest.fixture
def score_files(tmp_path: Path) -> Callable[..., tuple[pd.DataFrame, pd.DataFrame]]:
    """Predictions and drift for files of these names and contents; a name without content is not there."""

    def make(
        captioner: Captioner | None = None, search: Search | None = None, **files: bytes | None
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        for name, content in files.items():
            if content is not None:
                (tmp_path / name).write_bytes(content)
        table = tmp_path / "images.parquet"
        pd.DataFrame({"path": list(files)}).to_parquet(table)
        captioner = captioner or Colours()
        captioner.folder = tmp_path
        count = len(captioner.encoders)
        reference = replace(REFERENCE, mean=REFERENCE.mean * count, deviation=REFERENCE.deviation * count)
        reference.save(tmp_path / "reference.json")
        scorer = Scorer("models:/captioner/7", "a" * 64, search or Search())
        given, out = (
            with_identity(read_inputs(table, list_images(table))),
            tmp_path / f"out-{len(list(tmp_path.iterdir()))}",
        )
        out.mkdir()
        known = read_dataset(tmp_path / "nothing", scorer)
        rows = score_parts(given, known, archives_of(table), captioner, scorer, tmp_path / "pools", out)
        parts = [pd.read_parquet(part) for part in parts_of(out)]
        assert rows == sum(map(len, parts)) == len(files)
        return pd.concat(parts, ignore_index=True), pd.read_parquet(out / DRIFT_FILE)

    return make


@pytest.fixture
def predictions_of(score_files: Callable[..., tuple[pd.DataFrame, pd.DataFrame]]) -> Callable[..., pd.DataFrame]:
    """The predictions alone."""
    return lambda *args, **files: score_files(*args, **files)[0]


@pytest.mark.parametrize("shard", [1, 2, 1024])
def test_every_input_has_a_row_in_its_place(
    photograph: Photograph, predictions_of: Callable[..., pd.DataFrame], monkeypatch: pytest.MonkeyPatch, shard: int
) -> None:
    monkeypatch.setattr(embed, "SHARD", shard)
    monkeypatch.setattr(score, "SHARD", shard)
    cut = photograph(3)[:150]
    files = {"one": photograph(1), "cut": cut, "two": photograph(2), "gone": None, "copy": photograph(1)}
    table = predictions_of(**files)
    assert table["uri"].tolist() == list(files)
    one, two = colours(photograph(1), photograph(2))
    assert one != two
    assert table["caption"].tolist() == [one, "", two, "", one]
    assert table["status"].tolist() == ["ok", "quarantined", "ok", "quarantined", "ok"]
    assert table["logprob"].isna().tolist() == [False, True, False, True, False]
    assert table["image_id"].tolist() == [hashlib.sha256(content or b"").hexdigest() for content in files.values()]
    assert [bool(error) for error in table["error"]] == [False, True, False, True, False]
    assert "decoded" in table["error"][1]
    assert "No such file" in table["error"][3]


def test_what_was_embedded_before_is_not_embedded_again(
    photograph: Photograph, predictions_of: Callable[..., pd.DataFrame]
) -> None:
    first, second = Colours(), Colours()
    predictions_of(first, one=photograph(1), copy=photograph(1), bad=b"bad")
    table = predictions_of(second, renamed=photograph(1), new=photograph(2), bad=b"bad")
    assert (first.embedded, second.embedded) == ([1], [1])
    assert table["caption"].tolist() == [*colours(photograph(1), photograph(2)), ""]


def test_every_row_says_what_made_it_and_when(
    photograph: Photograph, predictions_of: Callable[..., pd.DataFrame]
) -> None:
    table = predictions_of(good=photograph(1), bad=b"bad")
    assert set(table["model_version"]) == {"7"}
    assert set(table["encoder_fingerprint"]) == {"0123456789abcdef"}
    assert ((datetime.now(UTC) - table["scored_at"]) < timedelta(minutes=1)).all()


def test_the_best_of_a_beam_is_taken(photograph: Photograph, predictions_of: Callable[..., pd.DataFrame]) -> None:
    table = predictions_of(search=Search("beam", beam=2), one=photograph(1))
    assert table["caption"].tolist() == colours(photograph(1))


@pytest.mark.parametrize("good", [0, 2])
def test_the_columns_are_the_contracts(
    photograph: Photograph, predictions_of: Callable[..., pd.DataFrame], good: int
) -> None:
    table = predictions_of(**{f"good {n}": photograph(n) for n in range(good)}, bad=b"bad")
    assert {name: str(dtype) for name, dtype in table.dtypes.items()} == PREDICTIONS


def test_a_content_is_captioned_once_and_parts_that_are_there_stay(
    photograph: Photograph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score, "SHARD", 2)
    captioner, scorer = Counting(), Scorer("models:/captioner/7", "a" * 64, Search())
    captioner.folder = tmp_path
    REFERENCE.save(tmp_path / "reference.json")
    (tmp_path / "inbox").mkdir()
    for name, number in (("a", 1), ("b", 2), ("c", 1), ("d", 3), ("e", 2)):
        (tmp_path / "inbox" / f"{name}.jpg").write_bytes(photograph(number))
    images = tmp_path / "inbox"
    given = with_identity(read_inputs(images, list_images(images)))
    known = read_dataset(tmp_path / "out", scorer)

    def parts(known: pd.DataFrame) -> list[bytes]:
        score_parts(given, known, archives_of(images), captioner, scorer, tmp_path / "pools", tmp_path)
        return [path.read_bytes() for path in parts_of(tmp_path)]

    first = parts(known)
    assert (len(first), captioner.captioned) == (3, 3)
    rows = pd.concat([pd.read_parquet(path) for path in parts_of(tmp_path)])
    assert rows["caption"].tolist() == [colours(photograph(n))[0] for n in (1, 2, 1, 3, 2)]
    (tmp_path / "part-00001.parquet").unlink()  # as if killed before it was written
    (tmp_path / "part-00002.parquet").unlink()
    again = parts(known)
    assert again[0] == first[0]
    assert captioner.captioned == 3 + 1  # the third of the contents; the others are in the first part
    for path in parts_of(tmp_path):
        path.unlink()
    parts(rows)  # all known to the data set
    assert captioner.captioned == 4


class Counting(Colours):
    """Counts the embeddings it captions."""

    captioned = 0

    def caption(self, embeddings: Embeddings, search: Search) -> list[list[Caption]]:
        self.captioned += len(embeddings)
        return super().caption(embeddings, search)


def test_what_cannot_be_decoded_for_now_is_decoded_once_it_can_be(
    photograph: Photograph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score, "SHARD", 2)
    (tmp_path / "inbox").mkdir()
    for number in range(1, 5):
        (tmp_path / "inbox" / f"{number}.jpg").write_bytes(photograph(number))
    REFERENCE.save(tmp_path / "reference.json")
    scorer = Scorer("models:/captioner/7", "a" * 64, Search())
    (tmp_path / "out").mkdir()
    given = with_identity(read_inputs(tmp_path / "inbox", list_images(tmp_path / "inbox")))
    known = read_dataset(tmp_path / "nothing")

    def attempt(captioner: Colours) -> tuple[int, pd.DataFrame]:
        captioner.folder = tmp_path
        where = archives_of(tmp_path / "inbox"), captioner, scorer, tmp_path / "pools", tmp_path / "out"
        rows = score_parts(given, known, *where)
        return rows, pd.concat([pd.read_parquet(path) for path in parts_of(tmp_path / "out")], ignore_index=True)

    reason = str(TransientImageError("it needs pi-heif"))
    rows, table = attempt(Colours(eye(blind_to=photograph(3), reason=reason)))
    assert isinstance(rows, Incomplete)
    assert table["error"].tolist() == ["", "", reason, ""]
    captioner = Colours()
    rows, table = attempt(captioner)
    assert not isinstance(rows, Incomplete)
    assert table["caption"].tolist() == colours(*map(photograph, range(1, 5)))
    assert captioner.embedded == [1]


def test_a_file_that_is_away_when_it_is_embedded_is_embedded_once_it_is_back(
    photograph: Photograph, tmp_path: Path
) -> None:
    (tmp_path / "inbox").mkdir()
    path = tmp_path / "inbox" / "a.jpg"
    path.write_bytes(photograph(1))
    REFERENCE.save(tmp_path / "reference.json")
    scorer = Scorer("models:/captioner/7", "a" * 64, Search())
    given, known = with_identity(read_inputs(path.parent, list_images(path.parent))), read_dataset(tmp_path / "nothing")
    captioner, out = Colours(), tmp_path / "out"
    captioner.folder = tmp_path
    out.mkdir()
    found = []
    for away in (True, False):
        (path.unlink if away else lambda: path.write_bytes(photograph(1)))()
        rows = score_parts(given, known, archives_of(path.parent), captioner, scorer, tmp_path / "pools", out)
        table = pd.read_parquet(parts_of(out)[0])
        found.append((isinstance(rows, Incomplete), table["status"][0], "No such file" in table["error"][0]))
    assert found == [(True, "quarantined", True), (False, "ok", False)]


def test_drift_is_that_of_the_captioned_images(
    photograph: Photograph, score_files: Callable[..., tuple[pd.DataFrame, pd.DataFrame]]
) -> None:
    _, drift = score_files(one=photograph(1), bad=b"bad", two=photograph(2), gone=None, copy=photograph(1))
    embeddings, _ = Colours().embed([photograph(1), photograph(2), photograph(1)])
    deviations = ((embeddings - 128) / [64, 32, 1])[:, :2]
    far = np.sqrt((deviations**2).mean(axis=1)) > 1.5
    [found] = drift.to_dict("records")
    assert {name: str(dtype) for name, dtype in drift.dtypes.items()} == DRIFT
    assert found == pytest.approx(
        {
            "images": 3,
            "embedding_shift": np.sqrt((deviations.mean(axis=0) ** 2).mean()),
            "outlier_share": far.mean(),
            "caption_words": 3,
            "training_caption_words": 4,
        }
    )


def test_drift_of_no_readable_image_is_a_row(score_files: Callable[..., tuple[pd.DataFrame, pd.DataFrame]]) -> None:
    _, drift = score_files(bad=b"bad", gone=None)
    assert {name: str(dtype) for name, dtype in drift.dtypes.items()} == DRIFT
    assert drift["images"].tolist() == [0]
    assert drift["embedding_shift"].tolist() == [0]


LARGE = EncoderCard("large", "fedcba9876543210", 3, 12, "notebook", "float32")


@pytest.mark.parametrize("shard", [1, 2, 1024])
def test_several_encoders_see_every_photograph_and_their_numbers_are_joined(
    photograph: Photograph, predictions_of: Callable[..., pd.DataFrame], monkeypatch: pytest.MonkeyPatch, shard: int
) -> None:
    monkeypatch.setattr(embed, "SHARD", shard)
    monkeypatch.setattr(score, "SHARD", shard)
    predictions_of(Colours(eye(LARGE)), three=photograph(3), two=photograph(2))  # in the second's pool already
    captioner = Colours(eye(), eye(LARGE))
    table = predictions_of(captioner, one=photograph(1), bad=b"bad", two=photograph(2), copy=photograph(1))
    one, two = colours(photograph(1), photograph(2), encoders=(eye(), eye(LARGE)))
    assert table["caption"].tolist() == [one, "", two, one]
    assert len(one.split()) == 6
    assert len(set(one.split())) > 3, "both encoders saw the same"
    assert captioner.embedded == [2, 1]
    assert set(table["encoder_fingerprint"]) == {"0123456789abcdef+fedcba9876543210"}
    assert {name: str(dtype) for name, dtype in table.dtypes.items()} == PREDICTIONS


def test_a_photograph_that_one_of_the_encoders_cannot_read_is_quarantined_once(
    photograph: Photograph, predictions_of: Callable[..., pd.DataFrame]
) -> None:
    captioner = Colours(eye(), eye(LARGE, blind_to=photograph(2)))
    table = predictions_of(captioner, one=photograph(1), two=photograph(2), bad=b"bad", three=photograph(3))
    assert table["status"].tolist() == ["ok", "quarantined", "quarantined", "ok"]
    assert table["error"][1] == "not for me"
    assert "not an image" in table["error"][2]
    assert table["caption"].tolist()[::3] == colours(photograph(1), photograph(3), encoders=(eye(), eye(LARGE)))
    assert table["logprob"].isna().tolist() == [False, True, True, False]


def test_nothing_readable_for_several_encoders_is_rows_all_the_same(
    photograph: Photograph, score_files: Callable[..., tuple[pd.DataFrame, pd.DataFrame]], tmp_path: Path
) -> None:
    captioner = Colours(eye(blind_to=photograph(1)), eye(LARGE, blind_to=photograph(2)))
    table, drift = score_files(captioner, one=photograph(1), two=photograph(2), gone=None)
    assert table["status"].tolist() == ["quarantined"] * 3
    assert drift["images"].tolist() == [0]
