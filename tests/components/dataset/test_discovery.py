"""What `captioning init` finds, in every format, and that the profile it writes is the one that reads it."""

import json
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pandas as pd
import pytest

from components.dataset.caption_table import read_caption_table
from components.dataset.captions import write_caption_table
from components.dataset.discovery import discover
from components.dataset.new_profile import language_of, profile_of
from components.dataset.sources import locate_sources
from components.errors import ConfigurationError
from components.profile import load_profile

CAPTIONS = {f"{number}.jpg": [f"a dog runs over field {number}", f"the dog number {number}"] for number in range(30)}
PAIRS = [(name, text) for name, texts in CAPTIONS.items() for text in texts]


def csv(delimiter: str = ",", header: str = "image,caption") -> str:
    head = header.replace(",", delimiter)
    return "\n".join([head, *(f"{name}{delimiter}{text}" for name, text in PAIRS)])


def coco() -> str:
    images = [{"id": 7 * number, "file_name": name} for number, name in enumerate(CAPTIONS)]
    ids = {image["file_name"]: image["id"] for image in images}
    texts = [{"id": number, "image_id": ids[name], "caption": text} for number, (name, text) in enumerate(PAIRS)]
    return json.dumps({"images": images, "annotations": texts})


FILES: dict[str, str] = {
    "captions.csv": csv(),
    "excel.csv": csv(";", "Bild,Text"),
    "table.tsv": csv("\t", "caption_text,file").replace("caption_text\tfile", "file_name\ttext"),
    "results.csv": csv("|", "image_name,comment"),
    "captions.json": coco(),
    "metadata.jsonl": "\n".join(json.dumps({"file_name": name, "texts": texts}) for name, texts in CAPTIONS.items()),
    "Flickr.token.txt": "\n".join(f"{name}#{n % 2}\t{text}" for n, (name, text) in enumerate(PAIRS)),
    "captions.txt": csv(),
}


@pytest.fixture
def folder(tmp_path: Path, photograph: Callable[[int], bytes]) -> Path:
    """Thirty photographs, and one that nobody described."""
    place = tmp_path / "my data"
    (place / "photos").mkdir(parents=True)
    for number in range(31):
        (place / "photos" / f"{number}.jpg").write_bytes(photograph(number))
    return place


@pytest.mark.parametrize("name", FILES)
def test_captions_of_any_format_are_found_and_the_profile_reads_them(folder: Path, name: str, tmp_path: Path) -> None:
    (folder / name).write_text(FILES[name], encoding="utf-8")
    found = discover(folder)
    assert (found.photographs, len(found.table), found.missing) == (30, 60, ())
    assert found.without == ("photos/30.jpg",)
    (tmp_path / "mine.toml").write_text(profile_of(found), encoding="utf-8")
    profile = load_profile(tmp_path / "mine.toml", {})
    write_caption_table(locate_sources(profile.dataset, tmp_path), profile.dataset, tmp_path)
    _, table = read_caption_table(tmp_path)
    assert sorted(table["caption"]) == sorted(text for _, text in PAIRS)


def test_the_same_captions_give_the_same_split_whatever_their_format(folder: Path) -> None:
    splits = []
    for name, content in FILES.items():
        (folder / name).write_text(content, encoding="utf-8")
        table = discover(folder, folder / name).table
        splits.append(frozenset(table.loc[table["split"] == "val", "caption"]))
        (folder / name).unlink()
    assert len(set(splits)) == 1
    assert 0 < len(splits[0]) < 60


def test_captions_may_lie_elsewhere_and_photographs_in_a_zip_file(
    folder: Path, tmp_path: Path, photograph: Callable[[int], bytes]
) -> None:
    with ZipFile(tmp_path / "photos.zip", "w") as archive:
        for number in range(30):
            archive.writestr(f"in/{number}.jpg", photograph(number))
    captions = tmp_path / "elsewhere.csv"
    captions.write_text(csv(), encoding="utf-8")
    for place in (tmp_path / "photos.zip", folder):
        found = discover(place, captions)
        assert found.photographs == 30
        assert str(captions) in profile_of(found) or found.captions == captions.name


def test_the_file_with_most_captions_is_taken_and_the_others_are_named(folder: Path) -> None:
    (folder / "captions.csv").write_text(csv(), encoding="utf-8")
    (folder / "few.csv").write_text("\n".join(csv().splitlines()[:9]), encoding="utf-8")
    (folder / "notes.json").write_text("{}", encoding="utf-8")
    found = discover(folder)
    assert found.captions == "captions.csv"
    assert any(text.startswith("few.csv: 8 captions of 4 photographs") for text in found.tried)
    assert any(text.startswith("notes.json: ") for text in found.tried)


def test_without_captions_or_photographs_it_says_so(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="31 photographs and no captions"):
        discover(folder)
    (folder / "captions.csv").write_text('image,caption\n1.jpg,"never closed', encoding="utf-8")
    with pytest.raises(ConfigurationError, match="never closed"):
        discover(folder)
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(ConfigurationError, match=r"there (are|is) no"):
            discover(place)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("a dog is on the grass with a ball", "English"),
        ("ein hund läuft auf der wiese und spielt mit einem ball", "German"),
        ("un chien est dans le jardin et joue avec une balle", "French"),
        ("犬 が 走る", ""),
        ("", ""),
    ],
)
def test_languages_are_known_by_their_commonest_words(text: str, language: str) -> None:
    assert language_of(pd.Series([text])) == language
