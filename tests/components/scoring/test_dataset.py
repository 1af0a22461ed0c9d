import json
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from components.decoder.caption import Search
from components.errors import CaptioningError, ConfigurationError, TransientImageError
from components.scoring.dataset import NOTHING, Scorer, commit_batch, new_inputs, prepare_folder, read_dataset
from data_contracts.schema import PREDICTIONS

SCORER = Scorer("models:/captioner/7", "a" * 64, Search())


def rows(*uris: str, bad: tuple[str, ...] = ()) -> pd.DataFrame:
    table = pd.DataFrame({"image_id": [f"digest of {uri}" for uri in uris], "uri": uris, "caption": "a kite"})
    table["status"] = ["quarantined" if uri in bad else "ok" for uri in uris]
    table = table.assign(
        logprob=-1.5, error="", model_version="7", encoder_fingerprint="f", scored_at=datetime.now(UTC)
    )
    return table.astype(PREDICTIONS)[list(PREDICTIONS)]


def staged(folder: Path, *parts: pd.DataFrame) -> Path:
    folder.mkdir()
    for number, part in enumerate(parts):
        part.to_parquet(folder / f"part-{number:05d}.parquet", index=False)
    return folder


def test_a_batch_is_there_whole_and_its_counts_add_up(tmp_path: Path) -> None:
    parts = staged(tmp_path / "work", rows("a", "b", bad=("b",)), rows("c"))
    assert commit_batch(tmp_path / "out", "0123", parts, SCORER) == 2
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"batch=0123"}
    manifest = json.loads((tmp_path / "out" / "batch=0123" / "_manifest.json").read_text(encoding="utf-8"))
    assert manifest["inputs"] == manifest["captioned"] + manifest["quarantined"] == 3
    found = read_dataset(tmp_path / "out")
    assert found["uri"].tolist() == ["a", "b", "c"]
    assert {name: str(dtype) for name, dtype in found.dtypes.items()} == PREDICTIONS


def test_any_reader_of_parquet_folders_sees_the_finished_batches_only(tmp_path: Path) -> None:
    out = tmp_path / "out"
    commit_batch(out, "0123", staged(tmp_path / "one", rows("a")), SCORER)
    commit_batch(out, "4567", staged(tmp_path / "two", rows("b")), SCORER)
    (out / "_staging" / "89ab").mkdir(parents=True)  # of a killed run
    rows("c").to_parquet(out / "_staging" / "89ab" / "part-00000.parquet")
    assert sorted(pd.read_parquet(out)["uri"]) == ["a", "b"]
    assert read_dataset(out)["uri"].tolist() == ["a", "b"]


def test_a_batch_is_committed_once(tmp_path: Path) -> None:
    parts, out = staged(tmp_path / "work", rows("a")), tmp_path / "out"
    first = commit_batch(out, "0123", parts, SCORER)
    before = (out / "batch=0123" / "part-00000.parquet").stat().st_mtime_ns
    assert commit_batch(out, "0123", parts, SCORER) == first
    assert (out / "batch=0123" / "part-00000.parquet").stat().st_mtime_ns == before


def test_what_an_interrupted_commit_left_is_in_nobodys_way(tmp_path: Path) -> None:
    left = tmp_path / "out" / "_staging" / "0123"
    left.mkdir(parents=True)
    (left / "part-00007.parquet").write_bytes(b"half")
    commit_batch(tmp_path / "out", "0123", staged(tmp_path / "work", rows("a")), SCORER)
    assert read_dataset(tmp_path / "out")["uri"].tolist() == ["a"]
    assert not (tmp_path / "out" / "_staging").exists()


def test_only_the_same_model_and_search_know_an_image(tmp_path: Path) -> None:
    commit_batch(tmp_path / "out", "0123", staged(tmp_path / "work", rows("a")), SCORER)
    renamed = Scorer("models:/other/1", SCORER.package, SCORER.search)
    for scorer, known in (
        (SCORER, 1),
        (renamed, 1),
        (Scorer(SCORER.model, "b" * 64, Search()), 0),
        (Scorer(SCORER.model, SCORER.package, Search("beam")), 0),
    ):
        assert len(read_dataset(tmp_path / "out", scorer)) == known


def test_new_is_what_has_another_name_or_another_content() -> None:
    known, given = rows("a", "b"), rows("a", "b", "c")
    assert new_inputs(given, known)["uri"].tolist() == ["c"]
    changed = given.assign(image_id=["digest of a", "another", "digest of a"])
    assert new_inputs(changed, known)["uri"].tolist() == ["b", "c"]
    assert new_inputs(given, rows())["uri"].tolist() == ["a", "b", "c"]


def failing(table: pd.DataFrame, reason: str, unread: bool = True) -> pd.DataFrame:
    table = table.assign(status="quarantined", error=str(TransientImageError(reason)))
    return table.assign(image_id=NOTHING) if unread else table


def test_what_could_not_be_read_is_tried_again_and_has_one_row_as_long_as_it_fails() -> None:
    known = failing(rows("a"), "cannot be read: 503")
    for reason in ("cannot be read: 503", "cannot be read: a request that took too long"):
        assert new_inputs(failing(rows("a", "b"), reason), known)["uri"].tolist() == ["b"]
    healed = rows("a", "b").assign(error="")
    assert new_inputs(healed, known)["uri"].tolist() == ["a", "b"]
    assert new_inputs(healed, pd.concat([known, healed])).empty


def test_what_was_captioned_once_has_no_second_row_while_it_cannot_be_reached() -> None:
    known = rows("a")
    assert new_inputs(failing(rows("a"), "cannot be read: 503"), known).empty
    assert new_inputs(rows("a").assign(error=""), known).empty
    assert new_inputs(rows("a").assign(error="", image_id="another"), known)["uri"].tolist() == ["a"]


def test_what_could_not_be_decoded_for_now_is_tried_again_and_has_one_row_as_long_as_it_fails(tmp_path: Path) -> None:
    given, out = rows("a").assign(error=""), tmp_path / "out"
    missing = failing(rows("a"), "it needs pi-heif", unread=False)
    commit_batch(out, "0123", staged(tmp_path / "first", missing, rows("b")), SCORER)
    assert new_inputs(given, read_dataset(out, SCORER))["uri"].tolist() == ["a"]
    assert commit_batch(out, "4567", staged(tmp_path / "second", missing), SCORER) == 0
    assert {path.name for path in out.iterdir()} == {"batch=0123"}
    assert commit_batch(out, "89ab", staged(tmp_path / "third", rows("a"), missing), SCORER) == 1
    found = read_dataset(out, SCORER)
    assert sorted(zip(found["uri"], found["status"], strict=True)) == [("a", "ok"), ("a", "quarantined"), ("b", "ok")]
    assert new_inputs(given, found).empty


def test_an_empty_file_is_told_once() -> None:
    empty = rows("a").assign(image_id=NOTHING, error="")
    told = empty.assign(status="quarantined", error="the file is empty")
    assert new_inputs(empty, failing(rows("a"), "cannot be read: 503"))["uri"].tolist() == ["a"]
    assert new_inputs(empty, told).empty
    assert new_inputs(failing(rows("a"), "cannot be read: 503"), told).empty


def test_no_data_set_is_an_empty_one(tmp_path: Path) -> None:
    found = read_dataset(tmp_path / "nowhere")
    assert {name: str(dtype) for name, dtype in found.dtypes.items()} == PREDICTIONS
    assert found.empty


@pytest.mark.parametrize("damage", ["part-00000.parquet", "_manifest.json"])
def test_a_damaged_batch_is_named(tmp_path: Path, damage: str) -> None:
    commit_batch(tmp_path / "out", "0123", staged(tmp_path / "work", rows("a")), SCORER)
    (tmp_path / "out" / "batch=0123" / damage).write_bytes(b"{")
    with pytest.raises(CaptioningError, match=r"batch=0123 is damaged.*scored again"):
        read_dataset(tmp_path / "out")


def test_a_place_that_takes_no_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigurationError, match="cannot write predictions to"):
            prepare_folder(place)
    prepare_folder(tmp_path / "new" / "folder")
    assert (tmp_path / "new" / "folder").is_dir()
