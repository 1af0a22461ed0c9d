"""The caption table: every source's images and captions as two tables, split and sampled."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from components.archives.archive import Location, open_archive
from components.archives.listing import list_pictures
from components.config import DatasetConfig
from components.dataset.caption_table import CAPTIONS_FILE, IMAGES_FILE, UNCAPTIONED_FILE
from components.dataset.formats import read_source
from components.dataset.names import match_names
from components.dataset.sources import Source
from components.dataset.splits import read_splits
from components.errors import ConfigurationError
from components.vocabulary.tokenizer import tokenize
from data_contracts.schema import CAPTIONS, IMAGES

log = logging.getLogger(__name__)


def write_caption_table(
    sources: Mapping[str, Source], config: DatasetConfig, folder: Path, split_file: Path | None = None
) -> int:
    """Writes `images.parquet` and `captions.parquet` (see `data_contracts.schema`). Returns the number of captions.

    Photographs that no captions file mentions are named in a third file, if there are any.
    Raises `ConfigurationError` for a captions or split file that cannot be read.
    """
    splits = _read_splits(split_file, config) if split_file else None
    named: set[str] = set()
    read = {name: read_source(source) for name, source in sources.items()}
    if uncaptioned := _find_uncaptioned(sources, {name: images for name, (images, _) in read.items()}):
        (folder / UNCAPTIONED_FILE).write_text(json.dumps(uncaptioned, ensure_ascii=False), encoding="utf-8")
        first = ", ".join(uncaptioned[:3])
        log.info("photographs without captions, which are not used: %d, first %s", len(uncaptioned), first)
    tables = [_divide(name, *found, config, splits, named) for name, found in read.items()]
    if unknown := [image for image in splits or () if image not in named]:
        first = ", ".join(unknown[:3])
        log.warning("%s: %d entries name no image of the captions files, first %s", split_file, len(unknown), first)
    images = pd.concat([images for images, _ in tables], ignore_index=True)
    captions = pd.concat([captions for _, captions in tables], ignore_index=True)
    captions["tokens"] = captions["caption"].map(lambda caption: " ".join(tokenize(caption)))
    images.astype(IMAGES)[list(IMAGES)].to_parquet(folder / IMAGES_FILE, index=False)
    captions.astype(CAPTIONS)[list(CAPTIONS)].to_parquet(folder / CAPTIONS_FILE, index=False)
    return len(captions)


def _read_splits(path: Path, config: DatasetConfig) -> dict[str, str]:
    wanted = {name.casefold(): name for name in (config.train_split, config.validation_split)}
    splits = {image: wanted.get(split.strip().casefold(), split.strip()) for image, split in read_splits(path).items()}
    counts = Counter(splits.values())
    there = sorted(counts)
    if missing := set(wanted.values()) - set(there):
        raise ConfigurationError(
            f"{path} has no split {', '.join(sorted(missing))}; it has {', '.join(there)}. "
            "Set dataset.train_split and dataset.validation_split"
        )
    used = ", ".join(f"{counts[name]:,} {name}" for name in wanted.values())
    others = ", ".join(f"{counts[name]:,} {name}" for name in there if name not in wanted.values())
    log.info("%s: %s%s", path, used, f"; neither trained nor validated on: {others}" if others else "")
    return splits


def _find_uncaptioned(sources: Mapping[str, Source], images: Mapping[str, pd.DataFrame]) -> list[str]:
    """The photographs of all archives that no source mentions. Two sources may share an archive."""
    mentioned: dict[Location, set[str]] = {}
    for name, source in sources.items():
        mentioned.setdefault(source.images, set()).update(images[name]["file_name"])
    found: list[str] = []
    for location, names in mentioned.items():
        with open_archive(location) as archive:
            found += sorted(set(list_pictures(archive).names) - names)
    return found


def _divide(
    name: str,
    images: pd.DataFrame,
    captions: pd.DataFrame,
    config: DatasetConfig,
    splits: Mapping[str, str] | None,
    named_there: set[str],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The source's tables, split and sampled; adds the split file's entries that name its images to `named_there`."""
    images["archive"] = name
    if splits is not None:
        named = images["name"].where(
            images["name"].isin(splits) | ~images["file_name"].isin(splits), images["file_name"]
        )
        found = match_names(named, list(splits), config.split_file)
        images["split"] = named.map(lambda image: splits.get(found[image]))
        named_there.update(found.values())
    elif config.holdout is not None:
        # By the photograph, and not by an id that only some formats have: any captions file gives the same splits.
        photographs = images["file_name"].where(images["file_name"] != "", images["name"])
        photographs = photographs.where(photographs != "", images["image_id"].astype("str"))
        held_out = _chances(photographs, f"{config.seed}/holdout") < config.holdout
        images["split"] = held_out.map({True: config.validation_split, False: config.train_split})
    elif "split" not in images:
        images["split"] = name
    # A caption of an image that is listed nowhere stays, for the contract to name it.
    orphan = ~captions["image_id"].isin(images["image_id"])
    left_out = images["split"].isna()
    if left_out.any():
        first = ", ".join(images["name"][left_out][:3])
        log.warning("%s: %d images are in no split and are left out, first %s", name, left_out.sum(), first)
    kept = _sample(images[~left_out], config)
    captions = captions[orphan | captions["image_id"].isin(kept["image_id"])]
    split_of = kept.drop_duplicates("image_id").set_index("image_id")["split"]
    return kept, captions.assign(split=captions["image_id"].map(split_of).astype("str").fillna(name))


def _sample(images: pd.DataFrame, config: DatasetConfig) -> pd.DataFrame:
    """A subset that depends on the images' ids and the seed only; a smaller one is part of a larger one."""
    chance = _chances(images["image_id"], f"{config.seed}/sample")
    kept = chance < config.sample
    if config.max_images is not None:
        kept &= chance.where(kept).groupby(images["split"]).rank(method="first") <= config.max_images
    return images[kept]


def _chances(image_ids: pd.Series, seed: str) -> pd.Series:
    """A number in [0, 1) for each id, always the same for an id and a seed."""
    return image_ids.map(
        lambda i: int.from_bytes(hashlib.blake2b(f"{seed}/{i}".encode(), digest_size=7).digest()) / 2**56
    )
