"""COCO's own captions: what the contracts say of real data, looked up by hand."""

import json
import re
from collections import Counter
from pathlib import Path
from zipfile import ZipFile

import pandas as pd
import pytest

from components.config import DatasetConfig
from components.dataset.caption_table import read_caption_table
from components.dataset.captions import write_caption_table
from components.dataset.sources import Source
from components.vocabulary.vocabulary import Vocabulary
from data_contracts.limits import Limits
from data_contracts.suites import captions, vocabulary

COCO = Path(__file__).parents[3].parent / "shared" / "data" / "coco-captions" / "captions_val2017.zip"
MEMBER = "annotations/captions_val2017.json"

pytestmark = pytest.mark.skipif(not COCO.exists(), reason=f"{COCO} is not there")


@pytest.fixture(scope="module")
def annotated() -> dict[int, tuple[int, str]]:
    """Each caption's image and words, by the caption's id, straight from the file."""
    with ZipFile(COCO) as archive:
        annotations = json.loads(archive.read(MEMBER))["annotations"]
    return {a["id"]: (a["image_id"], " ".join(re.findall(r"\w+", a["caption"].lower()))) for a in annotations}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Images and captions, a fifth of the images to validate on; of the photographs there are the names only."""
    folder = tmp_path_factory.mktemp("coco")
    with ZipFile(COCO) as archive, ZipFile(folder / "images.zip", "w") as images:
        for image in json.loads(archive.read(MEMBER))["images"]:
            images.writestr(image["file_name"], b"")
    source = {"images": "", "captions": "captions.json"}
    config = DatasetConfig.model_validate({"sources": {"val2017": source}, "holdout": 0.2})
    write_caption_table({"val2017": Source(folder / "images.zip", COCO, MEMBER)}, config, folder)
    return read_caption_table(folder)


def test_cocos_captions_pass_but_for_copies(
    tables: tuple[pd.DataFrame, pd.DataFrame], annotated: dict[int, tuple[int, str]]
) -> None:
    images, texts = tables
    report = captions.check(texts, images, Limits(), train_split="train", validation_split="val")
    assert report.passed
    [copies] = report.warnings
    assert copies.rule == "caption-once"
    times = Counter(annotated.values())
    assert copies.count == sum(count - 1 for count in times.values())
    named = [int(re.findall(r"caption_id=(\d+)", offender)[0]) for offender in copies.offenders]
    assert len(set(named)) == copies.count
    assert all(times[annotated[caption]] > 1 for caption in named)


def test_the_vocabulary_of_cocos_captions_passes(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    _, texts = tables
    training = texts.loc[texts["split"] == "train", "tokens"]
    words = Vocabulary.build((tokens.split() for tokens in training), 5).to_frame()
    report = vocabulary.check(words, texts, Limits(), train_split="train")
    assert report.passed
    assert report.warnings == ()
