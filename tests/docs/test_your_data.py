"""The guide's examples, built and read as the guide says."""

import re
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

from components.dataset.caption_table import read_caption_table
from components.dataset.captions import write_caption_table
from components.dataset.sources import locate_sources, locate_split_file, obtain_sources
from components.profile import load_profile

GUIDE = (Path(__file__).parents[2] / "docs" / "your-data.md").read_text(encoding="utf-8")
EXAMPLES = {title: text for title, text in re.findall(r"^## (.*)\n((?:(?!^#).*\n)*)", GUIDE, re.M) if "```toml" in text}
ENCODER = '[encoder]\nname = "efficientnet_lite0"\nweights = "package"\n'


def test_every_format_has_an_example() -> None:
    assert len(EXAMPLES) == 7


@pytest.mark.parametrize("title", EXAMPLES)
def test_an_example_is_a_profile_and_its_captions(
    title: str, tmp_path: Path, photograph: Callable[[int], bytes]
) -> None:
    example = EXAMPLES[title]
    for name, text in re.findall(r"^`([^`\n]+)`\n\n```\w+\n(.*?)^```", example, re.M | re.S):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    toml = re.findall(r"^```toml\n(.*?)^```", example, re.M | re.S)[0]
    (tmp_path / "mine.toml").write_text(toml + ENCODER, encoding="utf-8")
    config = load_profile(tmp_path / "mine.toml", {"dataset.root": str(tmp_path)}).dataset
    for source in config.sources.values():
        photographs = set(re.findall(r"\w+\.jpg", (tmp_path / source.captions).read_text(encoding="utf-8")))
        if source.images.endswith(".zip"):
            with ZipFile(tmp_path / source.images, "w") as archive:
                for name in photographs:
                    archive.writestr(f"below/{name}", photograph(len(name)))
        else:
            for name in photographs:
                (tmp_path / source.images / name).write_bytes(photograph(len(name)))

    obtain_sources(config, tmp_path / "downloads")
    sources = locate_sources(config, tmp_path / "downloads")
    split_file = locate_split_file(config, tmp_path / "downloads")
    assert write_caption_table(sources, config, tmp_path, split_file) == 3
    images, captions = read_caption_table(tmp_path)

    name_of = dict(zip(images["image_id"], images["file_name"].str.rpartition("/")[2], strict=True))
    told = captions.assign(name=captions["image_id"].map(name_of)).groupby("name")["caption"].apply(list)
    assert told.to_dict() == {
        "dog.jpg": ["A dog runs.", "A dog, brown, on the grass."],
        "cat.jpg": ["A cat sleeps."],
    }
    if config.holdout is None:
        assert dict(zip(images["image_id"].map(name_of), images["split"], strict=True)) == {
            "dog.jpg": "train",
            "cat.jpg": "val",
        }
