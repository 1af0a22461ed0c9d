"""The contract of the caption table: captions, the images they describe, and the splits."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from data_contracts.limits import Limits
from data_contracts.report import ContractReport
from data_contracts.rules import Suite, critical, in_range, in_set, suite, unique, warning
from data_contracts.runner import check_columns, contract, validate
from data_contracts.schema import CAPTIONS, IMAGES

LONGEST_WORDS = 16
"""Characters per word, on average: Finnish and German captions have 7, Flickr8k 4; more is text without spaces."""
PLACEHOLDER = r"(?i)^[\s\p{P}]*(?:nan|null|none|n/a|undefined|todo|tbd)[\s\p{P}]*$"
"""What programs and people write where there is no caption."""
MARKUP = r"</?[A-Za-z][^<>]*>|&(?:[A-Za-z]{2,8}|#\d{1,6}|#x[0-9A-Fa-f]{1,6});|(?i:https?://|www\.)"
"""Tags and entities of HTML, and addresses."""
SPACE = r"\s\p{Z}\x0b\x1c-\x1f\x85"
"""Whatever Unicode counts as a space, for a class of characters."""


@contract
def check(
    captions: pd.DataFrame, images: pd.DataFrame, limits: Limits, *, train_split: str, validation_split: str
) -> Iterator[ContractReport]:
    """Validates tables of `schema.CAPTIONS` and `schema.IMAGES`."""
    yield check_columns("captions", {"captions": (captions, CAPTIONS), "images": (images, IMAGES)})
    yield validate(caption_facts(captions, images), caption_suite(limits), ids=("caption_id", "image_id", "caption"))
    yield validate(image_facts(images, captions), image_suite(limits), ids=("image_id", "split", "name", "nearest"))
    needed = (train_split, validation_split)
    yield validate(split_facts(images, captions, needed), split_suite(limits), ids=("split",))


def caption_facts(captions: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """One row per caption: its ids and text, visible `characters`, `words` (null without characters), `letter_share`
    (null without words), `placeholder`, `markup`, `listed` image, `repeated` (its image has the same words from another
    caption).
    """
    texts = captions["caption"]
    # Counting what is rare, by classes that Arrow knows, takes a tenth of the time of counting letters.
    characters = texts.str.len() - texts.str.count(f"[{SPACE}]")
    letters = characters - texts.str.count(rf"[^\p{{L}}\p{{M}}{SPACE}]")
    spaces = captions["tokens"].str.len() - captions["tokens"].str.replace(" ", "", regex=False).str.len()
    words = (spaces + 1).where(captions["tokens"] != "", 0).astype("float64").where(characters > 0)
    return captions[["caption_id", "image_id", "caption"]].assign(
        characters=characters,
        words=words,
        letter_share=(letters / characters).where(words > 0),
        placeholder=texts.str.contains(PLACEHOLDER),
        markup=texts.str.contains(MARKUP),
        listed=captions["image_id"].isin(images["image_id"]),
        repeated=captions.duplicated(["image_id", "split", "tokens"]) & (characters > 0),
    )


def image_facts(images: pd.DataFrame, captions: pd.DataFrame) -> pd.DataFrame:
    """One row a listing of an image: its ids, in how many `splits` it or its captions are, whether it is
    `repeated` in its split, its `captions`, `captions_if_any` (null for none), `has_file`.
    """
    where = ["image_id", "split"]
    splits = pd.concat([images[where], captions[where]]).drop_duplicates()["image_id"].value_counts()
    counts = images["image_id"].map(captions["image_id"].value_counts()).fillna(0)
    return images[[*where, "name", "nearest"]].assign(
        splits=images["image_id"].map(splits),
        repeated=images.duplicated(where, keep=False),
        captions=counts,
        captions_if_any=counts.where(counts > 0),
        has_file=images["file_name"] != "",
    )


def split_facts(images: pd.DataFrame, captions: pd.DataFrame, needed: tuple[str, str]) -> pd.DataFrame:
    """One row a split, the `needed` ones always: its `images`, the `missing_share` without a file, and the
    `word_length`, characters per word of its captions (null without any).
    """
    missing = (images["file_name"] == "").groupby(images["split"]).agg(["size", "mean"])
    names = list(dict.fromkeys([*needed, *missing.index]))
    sizes = missing["size"].reindex(names, fill_value=0).to_numpy(np.int64)
    shares = missing["mean"].reindex(names).to_numpy(np.float64)
    spaces = captions["tokens"].str.count(" ")
    characters = (captions["tokens"].str.len() - spaces).groupby(captions["split"]).sum()
    words = (spaces + 1).where(captions["tokens"] != "", 0).groupby(captions["split"]).sum()
    lengths = (characters / words.where(words > 0)).reindex(names).to_numpy(np.float64)
    return pd.DataFrame({"split": names, "images": sizes, "missing_share": shares, "word_length": lengths})


def caption_suite(limits: Limits) -> Suite:
    """The rules about single captions."""
    return suite("captions", [
        critical("caption-not-empty", in_range("characters", low=1), "a caption of at least one visible character",
                 remedy="Write or delete these annotations in the captions file."),
        critical("caption-has-words", in_range("words", low=1), "a caption of at least one word",
                 remedy="Delete these annotations: the tokenizer finds no word in them."),
        warning("caption-length", in_range("words", high=limits.max_caption_words),
                f"at most {limits.max_caption_words} words",
                remedy="Read these captions, shorten them or raise limits.max_caption_words."),
        warning("caption-in-letters", in_range("letter_share", low=limits.min_letter_share),
                f"letters for at least {limits.min_letter_share:g} of a caption's characters",
                remedy="Are these captions sentences, or numbers, addresses and markup?"),
        warning("caption-no-placeholder", in_set("placeholder", False), "no caption such as nan or null",
                remedy="Write these captions, or delete them: the model learns to say such words."),
        warning("caption-no-markup", in_set("markup", False), "no tags or entities of HTML, and no addresses",
                remedy="Take them out of these captions: their letters become words of the vocabulary."),
        warning("caption-once", in_set("repeated", False), "no caption of an image twice",
                remedy="Take the copies out of the captions file: a copy is no second reference."),
        critical("caption-id-unique", unique("caption_id"), "an id of its own for each caption",
                 remedy="Renumber the annotations, or look for a captions file that is read twice."),
        critical("caption-of-listed-image", in_set("listed", True), "every caption's image among the images",
                 remedy="List these images in the captions file, or delete their annotations."),
    ])  # fmt: skip


def image_suite(limits: Limits) -> Suite:
    """The rules about single images."""
    low, high = limits.min_captions_per_image, limits.max_captions_per_image
    return suite("images", [
        critical("image-in-one-split", in_range("splits", high=1), "each image, with its captions, in one split",
                 remedy="Take these images out of one of the splits: scores on seen photographs flatter."),
        critical("image-listed-once", in_set("repeated", False), "each image listed once in its split",
                 remedy="Delete the repeated images, or give them ids of their own."),
        critical("image-captioned", in_range("captions", low=1), "at least one caption per image",
                 remedy="Caption these images, or take them out of the captions file."),
        warning("captions-per-image", in_range("captions_if_any", low, high), f"{low} to {high} captions an image",
                remedy="Look at these images, or set limits.min_captions_per_image and its maximum."),
        warning("image-in-archive", in_set("has_file", True), "every listed image in its archive",
                remedy="Add these files to the archive; without them these images are left out."),
    ])  # fmt: skip


def split_suite(limits: Limits) -> Suite:
    """The rules about whole splits."""
    share = limits.max_bad_fraction
    return suite("splits", [
        critical("split-has-images", in_range("images", low=1), "images to train on and images to validate on",
                 remedy="Check the sources' captions files, dataset.holdout and dataset.sample."),
        critical("few-images-missing", in_range("missing_share", high=share),
                 f"at most {share:g} of a split's images without a file",
                 remedy="Compare the archive with its captions file: is it whole, and the right one?"),
        critical("words-separated", in_range("word_length", high=LONGEST_WORDS),
                 f"at most {LONGEST_WORDS} characters per word on average",
                 remedy="These captions have hardly any spaces: separate the words by spaces (docs/languages.md)."),
    ])  # fmt: skip
