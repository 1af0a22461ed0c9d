from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

from components.artifacts import Artifact
from components.profile import load_profile
from flows.settings import settings
from flows.tasks.data import build_caption_table, fetch_dataset

PROFILE = """
[dataset]
root = "{root}"
split_file = "splits.csv"
[dataset.sources.photos]
images = "photos"
captions = "captions.csv"
[encoder]
name = "efficientnet_lite0"
weights = "package"
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    settings.cache_clear()
    with mock.patch.dict("os.environ", {"CAPTIONING_HOME": str(tmp_path / "home")}):
        yield tmp_path
    settings.cache_clear()


@pytest.fixture
def table(home: Path, photograph: Callable[[int], bytes]) -> Callable[[], Artifact]:
    """Makes the caption table of two photographs; the files are written once."""
    (home / "photos").mkdir()
    (home / "photos" / "a.jpg").write_bytes(photograph(1))
    (home / "captions.csv").write_text("image,caption\na.jpg,x\nb.jpg,y\n")
    (home / "splits.csv").write_text("image,split\na.jpg,train\nb.jpg,val\n")
    (home / "mine.toml").write_text(PROFILE.format(root=home))

    def build() -> Artifact:
        profile = load_profile(home / "mine.toml", {})
        return build_caption_table.fn(fetch_dataset.fn(profile), profile)

    return build


def test_a_caption_table_is_made_again_when_its_split_file_changes(home: Path, table: Callable[[], Artifact]) -> None:
    first = table()
    assert not first.reused
    assert table().reused
    (home / "splits.csv").write_text("image,split\na.jpg,val\nb.jpg,train\n")
    second = table()
    assert not second.reused
    assert second.key != first.key


def test_a_caption_table_is_made_again_when_the_columns_change(home: Path, table: Callable[[], Artifact]) -> None:
    (home / "captions.csv").write_text("image,caption,other\na.jpg,x,u\nb.jpg,y,v\n")
    first = table()
    assert table().reused
    profile = (home / "mine.toml").read_text()
    (home / "mine.toml").write_text(profile.replace('"captions.csv"', '"captions.csv"\ncaption_column = "other"'))
    assert table().key != first.key
