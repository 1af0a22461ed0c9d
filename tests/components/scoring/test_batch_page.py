import os
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from zipfile import ZipFile

import pandas as pd
import pytest

from components.decoder.caption import Search
from components.errors import ConfigurationError
from components.pages.batch import thumbnail_path
from components.scoring.batch_page import PAGE_FILE, is_stale, load_batches, write_page, write_single_page
from components.scoring.dataset import Scorer, commit_batch, write_csv
from components.scoring.inputs import place_of, uri_of
from data_contracts.schema import PREDICTIONS

Photograph = Callable[[int], bytes]


@pytest.fixture
def results(tmp_path: Path, photograph: Photograph) -> Path:
    """Predictions of a folder, of a zip file, and of a picture that is gone."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    (folder / "1.jpg").write_bytes(photograph(1))
    with ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("in/2.jpg", photograph(2))
    uris = {f"{folder}/1.jpg": 1, f"{tmp_path}/photos.zip!in/2.jpg": 2, f"{tmp_path}/gone/3.jpg": 3}
    digests = [sha256(photograph(number)).hexdigest() for number in uris.values()]
    table = pd.DataFrame({"image_id": digests, "uri": list(uris), "caption": "a kite, flying", "logprob": -3.0})
    table = table.assign(status="ok", error="", model_version="7", encoder_fingerprint="f", scored_at=datetime.now(UTC))
    parts = tmp_path / "parts"
    parts.mkdir()
    table.astype(PREDICTIONS)[list(PREDICTIONS)].to_parquet(parts / "part-00000.parquet", index=False)
    commit_batch(tmp_path / "results", "0123", parts, Scorer("models:/captioner/7", "a" * 64, Search()))
    return tmp_path / "results"


def test_pictures_that_can_be_read_have_a_thumbnail(results: Path, photograph: Photograph) -> None:
    page = write_page(results, load_batches(results))
    assert page == results / PAGE_FILE
    made = [thumbnail_path(results / "_page" / "thumbnails", sha256(photograph(n)).hexdigest()) for n in (1, 2, 3)]
    assert [path.exists() for path in made] == [True, True, False]
    before = made[0].stat().st_mtime_ns
    write_page(results, load_batches(results))
    assert made[0].stat().st_mtime_ns == before
    assert "captioner version 7" in page.read_text(encoding="utf-8")


def test_a_page_is_stale_until_it_is_newer_than_every_batch(results: Path, tmp_path: Path) -> None:
    assert not is_stale(tmp_path)
    assert is_stale(results)
    write_page(results, load_batches(results))
    assert not is_stale(results)
    later = (results / PAGE_FILE).stat().st_mtime + 5
    os.utime(results / "batch=0123" / "_manifest.json", (later, later))
    assert is_stale(results)


def test_readers_of_parquet_folders_pass_over_the_page(results: Path) -> None:
    write_page(results, load_batches(results))
    assert len(pd.read_parquet(results)) == 3


def test_the_table_is_there_as_csv_too(results: Path) -> None:
    path = write_csv(results)
    assert path == results.with_name("results.csv")
    assert pd.read_csv(path)["caption"].tolist() == ["a kite, flying"] * 3


def test_a_single_file_goes_where_it_is_wanted(results: Path, tmp_path: Path) -> None:
    assert write_single_page(results, load_batches(results), tmp_path / "page.html") == tmp_path / "page.html"
    assert not (results / PAGE_FILE).exists()
    assert (tmp_path / "page.html").read_text(encoding="utf-8").count("data:image/jpeg") == 2


def test_where_nothing_was_scored_there_is_no_page(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no predictions"):
        load_batches(tmp_path)


@pytest.mark.parametrize("name", ["1.jpg", "in/2.jpg", "a!b.jpg", "ünï.jpg"])
@pytest.mark.parametrize("images", ["/photos", "/photos.zip", "s3://bucket/photos.zip", "s3://bucket/photos/"])
def test_the_place_of_an_input_is_found_again(images: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_file", lambda path: path.suffix == ".zip")
    uri = uri_of(images, name)
    assert place_of(uri, images) == (images, name)
    archive, found = place_of(uri)
    assert uri_of(archive, found) == uri
