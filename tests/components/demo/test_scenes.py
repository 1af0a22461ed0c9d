import io
import json
import re
from pathlib import Path
from random import Random
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageColor

from components.demo.scene_captions import KINDS, SETTINGS, Scene, describe_scene, imagine_scene
from components.demo.scene_shapes import PALETTE
from tests.toy import draw_scenes

SIZE = 96
COUNTS = {"train": 12, "dev": 5}

scenes = st.integers(min_value=0).map(lambda seed: imagine_scene(Random(seed)))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    draw_scenes(folder, COUNTS, seed=7, size=SIZE)
    return folder


def layout(folder: Path, split: str) -> dict[str, Any]:
    with ZipFile(folder / "captions.zip") as archive:
        coco: dict[str, Any] = json.loads(archive.read(f"annotations/captions_{split}.json"))
    return coco


def photograph(folder: Path, split: str, name: str) -> Image.Image:
    with ZipFile(folder / f"{split}.zip") as archive:
        return Image.open(io.BytesIO(archive.read(f"scenes_{split}/{name}")))


def words_of(caption: str) -> list[str]:
    return re.findall(r"[a-z]+", caption.lower())


def test_same_arguments_give_the_same_bytes(demo: Path, tmp_path: Path) -> None:
    draw_scenes(tmp_path, COUNTS, seed=7, size=SIZE)
    for name in ("train.zip", "dev.zip", "captions.zip"):
        assert (tmp_path / name).read_bytes() == (demo / name).read_bytes()


def test_other_splits_do_not_change_a_split(demo: Path, tmp_path: Path) -> None:
    draw_scenes(tmp_path, {"dev": COUNTS["dev"], "test": 2}, seed=7, size=SIZE)
    assert (tmp_path / "dev.zip").read_bytes() == (demo / "dev.zip").read_bytes()
    assert layout(tmp_path, "dev") == layout(demo, "dev")


def test_seed_and_split_change_the_scenes(demo: Path, tmp_path: Path) -> None:
    draw_scenes(tmp_path, {"dev": COUNTS["dev"]}, seed=8, size=SIZE)

    def captions(folder: Path, split: str) -> list[str]:
        return [annotation["caption"] for annotation in layout(folder, split)["annotations"]]

    assert captions(tmp_path, "dev") != captions(demo, "dev")
    assert captions(demo, "train")[: 5 * COUNTS["dev"]] != captions(demo, "dev")


def test_captions_file_is_in_coco_layout(demo: Path) -> None:
    image_ids, caption_ids = [], []
    for split, count in COUNTS.items():
        coco = layout(demo, split)
        assert set(coco) == {"images", "annotations"}
        assert len(coco["images"]) == count
        of_split = [image["id"] for image in coco["images"]]
        assert sorted(a["image_id"] for a in coco["annotations"]) == sorted(5 * of_split)
        image_ids += of_split
        caption_ids += [annotation["id"] for annotation in coco["annotations"]]
    assert len(set(image_ids)) == sum(COUNTS.values())
    assert len(set(caption_ids)) == 5 * sum(COUNTS.values())
    assert max(caption_ids) < 2**53  # whole numbers survive readers that parse JSON numbers as floats


@pytest.mark.parametrize("split", COUNTS)
def test_every_listed_photograph_is_there_at_its_size(demo: Path, split: str) -> None:
    listed = layout(demo, split)["images"]
    with ZipFile(demo / f"{split}.zip") as archive:
        assert archive.namelist() == [f"scenes_{split}/{image['file_name']}" for image in listed]
        assert {(entry.date_time[0], entry.compress_type) for entry in archive.infolist()} == {(1980, ZIP_STORED)}
    for image in listed:
        opened = photograph(demo, split, image["file_name"])
        assert (opened.format, opened.mode) == ("JPEG", "RGB")
        assert opened.size == (image["width"], image["height"]) == (SIZE, SIZE)


def test_pictures_have_the_colours_their_captions_tell(demo: Path) -> None:
    coco = layout(demo, "train")
    names = {image["id"]: image["file_name"] for image in coco["images"]}
    for annotation in coco["annotations"]:
        pixels = np.asarray(photograph(demo, "train", names[annotation["image_id"]]), dtype=float)
        for colour in re.findall(rf"(\w+) (?:{'|'.join(KINDS)})\b", annotation["caption"]):
            main = np.array(ImageColor.getrgb(PALETTE[colour][1]))
            alike = np.linalg.norm(pixels - main, axis=-1) < 30
            assert alike.sum() > 20, annotation["caption"]


@given(scenes)
def test_scene_is_possible(scene: Scene) -> None:
    kinds = [thing.kind for thing in scene.things]
    assert set(kinds) <= set(SETTINGS[scene.setting].kinds)
    assert len({(t.kind, t.colour) for t in scene.things}) == len({t.colour for t in scene.things}) == len(kinds)
    assert [KINDS[kind].place for kind in kinds].count("sky") <= 1


@given(scenes, st.integers(min_value=0))
def test_captions_differ_and_read_like_sentences(scene: Scene, seed: int) -> None:
    captions = describe_scene(scene, Random(seed))
    assert len(set(captions)) == 5
    for caption in captions:
        assert 6 <= len(words_of(caption)) <= 16
        assert re.fullmatch(r"[A-Z][a-z]*(,? [a-z]+)+\.", caption)
        assert not re.search(r"\b(a [aeiou]|an [^aeiou])", caption.lower())


@given(scenes, st.integers(min_value=0))
def test_captions_are_true_of_the_scene(scene: Scene, seed: int) -> None:
    adjectives = {"small": "small", "little": "small", "big": "big", "large": "big"}
    for caption in describe_scene(scene, Random(seed)):
        words = words_of(caption)
        assert SETTINGS[scene.setting].noun in caption.lower()
        assert sorted(word for word in words if word in KINDS) == sorted(t.kind for t in scene.things)
        for thing in scene.things:
            kind_at = words.index(thing.kind)
            assert words[kind_at - 1] == thing.colour
            assert adjectives.get(words[kind_at - 2], thing.size) == thing.size


@given(scenes.filter(lambda scene: len(scene.things) == 2), st.integers(min_value=0))
def test_relations_are_true_of_the_scene(scene: Scene, seed: int) -> None:
    first, second = scene.things
    true_relations = {
        ("sky", "ground"): {"above", "over"},
        ("sky", "water"): {"above", "over"},
        ("ground", "water"): {"in front of"},
    }.get((KINDS[first.kind].place, KINDS[second.kind].place), {"next to", "beside"})
    opposites = {"above": "under", "in front of": "behind", "next to": "next to"}
    for caption in describe_scene(scene, Random(seed)):
        between = re.search(rf"({first.kind}|{second.kind})(.*)(?:{first.kind}|{second.kind})", caption)
        assert between is not None
        told = re.search(r"above|over|under|next to|beside|in front of|behind", between[2])
        allowed = true_relations
        if between[1] == second.kind:
            allowed = {opposites[relation] for relation in true_relations & set(opposites)}
        assert (told[0] in allowed) if told else (" and " in between[2])


def test_vocabulary_is_small() -> None:
    vocabulary = set()
    for seed in range(1000):
        rng = Random(seed)
        vocabulary |= {word for caption in describe_scene(imagine_scene(rng), rng) for word in words_of(caption)}
    assert 50 < len(vocabulary) < 120
    assert set(KINDS) < vocabulary
