import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from components.config import DatasetConfig
from components.dataset.caption_table import read_caption_table, read_uncaptioned
from components.dataset.captions import write_caption_table
from components.dataset.sources import Source
from components.errors import ConfigurationError
from data_contracts.schema import CAPTIONS, IMAGES

ANY = {"images": "", "captions": "", "annotations": ""}
image_ids = st.sets(st.integers(0, 10**9), min_size=1, max_size=40)


def config(*splits: str, **options: object) -> DatasetConfig:
    names = {"sources": dict.fromkeys(splits, ANY), "validation_split": splits[-1]} if splits[1:] else {}
    return DatasetConfig.model_validate({"sources": {"all": ANY}, "holdout": None if names else 0.25} | names | options)


def table(
    config: DatasetConfig, split_file: Path | None = None, **sources: Source
) -> tuple[pd.DataFrame, pd.DataFrame]:
    with tempfile.TemporaryDirectory() as folder:
        rows = write_caption_table(sources, config, Path(folder), split_file)
        images, captions = read_caption_table(Path(folder))
    assert rows == len(captions)
    return images, captions


def of_ids(ids: set[int] | range, config: DatasetConfig) -> pd.Series:
    """The split of each image that is kept, by id; the source lists `ids` with a caption each and no photographs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "captions.json")
        images = [{"id": i, "file_name": ""} for i in ids]
        annotations = [{"id": i, "image_id": i, "caption": ""} for i in ids]
        path.write_text(json.dumps({"images": images, "annotations": annotations}))
        table_of_images, captions = table(config, all=Source(Path(folder), path, ""))
    assert captions.set_index("image_id")["split"].equals(table_of_images.set_index("image_id")["split"])
    return table_of_images.set_index("image_id")["split"]


def test_photographs_that_no_captions_file_mentions_are_named(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg", "d.JPG", "é.png", "notes.txt", ".DS_Store"):
        (photos / name).touch()
    sources = {}
    for split, name in (("train", "a.jpg"), ("val", "b.jpg")):
        captions = tmp_path / f"{split}.csv"
        captions.write_text(f"image,caption\n{name},a dog\n", encoding="utf-8")
        sources[split] = Source(photos, captions, format="csv")
    write_caption_table(sources, config("train", "val"), tmp_path)
    assert read_uncaptioned(tmp_path) == ("c.jpg", "d.JPG", "é.png")
    # What a sample leaves out has captions.
    (photos / "c.jpg").unlink(), (photos / "d.JPG").unlink(), (photos / "é.png").unlink()
    (tmp_path / "sampled").mkdir()
    write_caption_table(sources, config("train", "val", max_images=1, sample=0.01), tmp_path / "sampled")
    assert read_uncaptioned(tmp_path / "sampled") == ()


@pytest.mark.parametrize("zipped", [True, False])
def test_every_source_is_a_split(make_source: Callable[..., Source], zipped: bool) -> None:
    train = make_source({1: ["A dog!", "Dogs, two."], 2: ["A cat"]}, "train", zipped=zipped)
    val = make_source({3: ["Il fait beau; l'été"]}, "val", zipped=zipped)
    images, captions = table(config("train", "val"), train=train, val=val)
    assert {name: str(dtype) for name, dtype in images.dtypes.items()} == IMAGES
    assert {name: str(dtype) for name, dtype in captions.dtypes.items()} == CAPTIONS
    assert images.to_dict("tight")["data"] == [
        [1, "train", "train", "train/000000000001.jpg", "000000000001.jpg", ""],
        [2, "train", "train", "train/000000000002.jpg", "000000000002.jpg", ""],
        [3, "val", "val", "val/000000000003.jpg", "000000000003.jpg", ""],
    ]
    assert captions.to_dict("tight")["data"] == [
        [1, 1, "train", "A dog!", "a dog"],
        [2, 1, "train", "Dogs, two.", "dogs two"],
        [3, 2, "train", "A cat", "a cat"],
        [1, 3, "val", "Il fait beau; l'été", "il fait beau l été"],
    ]


def test_a_photograph_the_archive_lacks_has_no_name(make_source: Callable[..., Source]) -> None:
    source = make_source({1: ["a"], 2: ["b"]})
    (source.images / "train" / "000000000001.jpg").unlink()
    images, captions = table(config(), all=source)
    assert images["file_name"].tolist() == ["", "train/000000000002.jpg"]
    assert len(captions) == 2


@hypothesis_settings(max_examples=20)
@given(image_ids, st.integers(0, 3), st.data())
def test_an_image_stays_in_its_split_whatever_others_there_are(ids: set[int], seed: int, data: st.DataObject) -> None:
    some = set(data.draw(st.lists(st.sampled_from(sorted(ids)), min_size=1)))
    everything, subset = (of_ids(part, config(seed=seed)) for part in (ids, some))
    assert set(everything.index) == ids
    assert set(everything) <= {"train", "val"}
    assert subset.sort_index().equals(everything[everything.index.isin(some)].sort_index())


def test_the_holdout_is_a_share_that_the_seed_decides() -> None:
    ids = range(4000)
    splits = [of_ids(ids, config(seed=seed, holdout=0.1)) for seed in (0, 0, 1)]
    assert splits[0].equals(splits[1])
    assert not splits[0].equals(splits[2])
    for split in splits:
        assert (split == "val").mean() == pytest.approx(0.1, abs=0.02)  # four standard deviations
    both = (splits[0] == "val") & (splits[2] == "val")
    assert both.mean() == pytest.approx(0.01, abs=0.007)  # as two independent draws would have it


@pytest.mark.parametrize(("key", "amounts"), [("sample", (0.1, 0.5, 1.0)), ("max_images", (1, 30, 10**6))])
def test_a_smaller_subset_is_part_of_a_larger_one(key: str, amounts: tuple[float, ...]) -> None:
    ids = range(500)
    small, medium, large = (of_ids(ids, config(**{key: amount})) for amount in amounts)
    assert set(small.items()) < set(medium.items()) < set(large.items())
    assert len(large) == 500
    assert set(small.items()) == set(of_ids(ids, config(**{key: amounts[0]})).items())
    assert set(small.items()) != set(of_ids(ids, config(seed=1, **{key: amounts[0]})).items())


def test_images_of_a_limit_do_not_depend_on_the_sample_they_are_taken_from() -> None:
    ids = range(500)
    assert of_ids(ids, config(sample=0.5, max_images=9)).equals(of_ids(ids, config(max_images=9)))


def test_the_sample_is_a_share_of_every_split() -> None:
    split = of_ids(range(4000), config(sample=0.25))
    assert len(split) == pytest.approx(1000, abs=110)
    assert (split == "val").mean() == pytest.approx(0.25, abs=0.06)


@hypothesis_settings(max_examples=20)
@given(image_ids, st.integers(1, 10))
def test_max_images_is_of_each_split(ids: set[int], most: int) -> None:
    everything, some = of_ids(ids, config()), of_ids(ids, config(max_images=most))
    assert some.value_counts().to_dict() == everything.value_counts().clip(upper=most).to_dict()


def test_captions_of_images_left_out_go_with_them(make_source: Callable[..., Source]) -> None:
    source = make_source({n: [f"{n} a", f"{n} b"] for n in range(20)})
    images, captions = table(config(max_images=3, holdout=0.5), all=source)
    assert len(images) == 6
    assert sorted(captions["image_id"]) == sorted([*images["image_id"], *images["image_id"]])


@pytest.mark.parametrize("listed", [{1: ["a dog"], 2: ["a cat"]}, {}])
def test_a_caption_of_an_unknown_image_is_kept_for_the_contract(
    make_source: Callable[..., Source], listed: dict[int, list[str]]
) -> None:
    source = make_source(listed)
    coco = json.loads(source.captions.read_text())
    coco["annotations"].append({"id": 77, "image_id": 99, "caption": "An orphan"})
    source.captions.write_text(json.dumps(coco))
    images, captions = table(config("train", "val", max_images=1), train=source, val=make_source({}, "val"))
    assert 99 not in images["image_id"].tolist()
    orphan = captions[captions["image_id"] == 99]
    assert orphan.to_dict("tight")["data"] == [[77, 99, "train", "An orphan", "an orphan"]]


def test_an_image_listed_twice_is_kept_twice_for_the_contract(make_source: Callable[..., Source]) -> None:
    source = make_source({1: ["a dog"]})
    coco = json.loads(source.captions.read_text())
    coco["images"] *= 2
    source.captions.write_text(json.dumps(coco))
    images, captions = table(config(), all=source)
    assert images["image_id"].tolist() == [1, 1]
    assert captions["image_id"].tolist() == [1]


def test_empty_sources_make_empty_tables(make_source: Callable[..., Source]) -> None:
    images, captions = table(config(), all=make_source({}))
    assert (len(images), len(captions)) == (0, 0)
    assert {name: str(dtype) for name, dtype in images.dtypes.items()} == IMAGES


def split_of(folder: Path, text: str) -> tuple[DatasetConfig, Path]:
    (folder / "splits.csv").write_text("image,split\n" + text)
    return config("a", "b", split_file="splits.csv", validation_split="val"), folder / "splits.csv"


def test_a_split_file_divides_the_images_of_all_sources(
    tmp_path: Path, make_source: Callable[..., Source], caplog: pytest.LogCaptureFixture
) -> None:
    sources = {"a": make_source({1: ["A dog"], 2: ["A cat"], 3: ["A bee"]}, "a"), "b": make_source({4: ["Me"]}, "b")}
    (sources["a"].images / "a" / "000000000002.jpg").unlink()
    names = [f"{n:012}.jpg" for n in (2, 1, 4)]
    lines = zip(names, ("val", "train", "test"), strict=True)
    images, captions = table(*split_of(tmp_path, "".join(f"{n},{split}\n" for n, split in lines)), **sources)
    assert dict(zip(images["image_id"], images["split"], strict=True)) == {1: "train", 2: "val", 4: "test"}
    assert images["archive"].tolist() == ["a", "a", "b"]
    assert dict(zip(captions["image_id"], captions["split"], strict=True)) == {1: "train", 2: "val", 4: "test"}
    assert "a: 1 images are in no split and are left out, first 000000000003.jpg" in caplog.text


def test_split_names_in_other_case_are_meant_and_what_nothing_uses_is_told(
    make_source: Callable[..., Source], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sources = {"a": make_source({n: ["a dog"] for n in range(1, 5)}, "a"), "b": make_source({9: ["a cat"]}, "b")}
    names = {1: "Train", 2: "VAL ", 3: "validation", 4: "train", 9: "train", 7: "train"}
    with caplog.at_level("INFO", "components.dataset"):
        images, _ = table(*split_of(tmp_path, "".join(f"{n:012}.jpg,{s}\n" for n, s in names.items())), **sources)
    found = dict(zip(images["image_id"], images["split"], strict=True))
    assert found == {1: "train", 2: "val", 3: "validation", 4: "train", 9: "train"}
    assert "4 train, 1 val; neither trained nor validated on: 1 validation" in caplog.text
    assert "1 entries name no image of the captions files, first 000000000007.jpg" in caplog.text


def test_a_split_file_without_the_splits_of_the_profile_is_told(
    tmp_path: Path, make_source: Callable[..., Source]
) -> None:
    config, path = split_of(tmp_path, "a.jpg,train\nb.jpg,validation\n")
    with pytest.raises(
        ConfigurationError, match=r"splits\.csv has no split val; it has train, validation\. Set dataset"
    ):
        table(config, path, a=make_source({1: ["A dog"]}))


@pytest.mark.parametrize(("holdout", "expected"), [(None, {"train", "test"}), (0.5, {"train", "val"})])
def test_splits_of_a_karpathy_file_hold_unless_the_profile_divides(
    tmp_path: Path, holdout: float | None, expected: set[str]
) -> None:
    entry = {"sentences": [{"raw": "A dog"}, {"raw": "A cat"}]}
    images = [entry | {"filename": f"{n}.jpg", "split": ["restval", "test"][n % 2]} for n in range(50)]
    (tmp_path / "k.json").write_text(json.dumps({"images": images}))
    told = DatasetConfig.model_validate({"sources": {"all": ANY | {"format": "karpathy"}}, "holdout": holdout})
    table_of_images, captions = table(told, all=Source(tmp_path, tmp_path / "k.json", format="karpathy"))
    assert set(table_of_images["split"]) == set(captions["split"]) == expected
    assert len(captions) == 100
