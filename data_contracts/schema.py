"""The tables that travel between the stages: column names, dtypes and the special word ids. Imports nothing."""

from typing import Final

PAD: Final = 0
UNK: Final = 1
START: Final = 2
END: Final = 3
SPECIALS: Final = ("<pad>", "<unk>", "<start>", "<end>")
"""The special words; a word's position is its id."""

FUNCTION_WORDS: Final = frozenset([
    "a", "an", "the", "and", "or", "but", "of", "in", "on", "at", "by", "to", "from", "for", "with", "without",
    "into", "onto", "over", "under", "near", "next", "between", "behind", "beside", "above", "below", "through",
    "across", "around", "against", "along", "as", "is", "are", "was", "were", "be", "being", "been", "has", "have",
    "had", "that", "which", "who", "while", "his", "her", "its", "their", "these", "those", "this", "very",
])  # fmt: skip
"""Words that no English caption ends in unless it was broken off; rewarding n-grams is known to produce such ends."""

Columns = dict[str, str]
"""Column name → pandas dtype."""

IMAGES: Final[Columns] = {
    "image_id": "int64",
    "split": "str",
    "archive": "str",  # the source in the profile whose zip file or folder holds the photograph
    "file_name": "str",  # the member's whole name in that archive; empty when the archive lacks it
    "name": "str",  # as the captions file has it
    "nearest": "str",  # the archive's name most like a missing photograph's, for the first of them
}
"""One row a photograph listed in a captions file."""

CAPTIONS: Final[Columns] = {
    "caption_id": "int64",
    "image_id": "int64",
    "split": "str",
    "caption": "str",  # as annotated
    "tokens": "str",  # the tokenizer's words, joined by spaces
}
"""One row a reference caption."""

VOCABULARY: Final[Columns] = {"id": "int64", "word": "str", "count": "int64"}
"""One row a word, specials included (their count is 0)."""

PHOTOGRAPHS: Final[Columns] = {
    "image_id": "int64",
    "archive": "str",
    "file_name": "str",
    "bytes": "int64",
    "digest": "str",  # the content's SHA-256; empty when it cannot be read
    "error": "str",  # why it cannot be read; empty when it can
}
"""One row a photograph that has a file, read but not decoded."""

EMBEDDING_INDEX: Final[Columns] = {
    "image_id": "int64",
    "digest": "str",  # as in PHOTOGRAPHS
    "shard": "int64",
    "row": "int64",
}
"""Where each image's embedding lies: row `row` of shard `shard`. Images of the same content share one."""

QUARANTINE: Final[Columns] = {
    "image_id": "int64",
    "archive": "str",
    "file_name": "str",
    "digest": "str",  # as in PHOTOGRAPHS
    "reason": "str",
    "remedy": "str",  # what to do
}
"""One row a photograph that could not be read."""

DRIFT: Final[Columns] = {
    "images": "int64",
    "embedding_shift": "float64",  # of the mean from training's, in standard deviations (root mean square)
    "outlier_share": "float64",  # of the embeddings, farther from training's mean than 99 % of its own
    "caption_words": "float64",  # in a caption, on average
    "training_caption_words": "float64",
}
"""One row: what a scoring run was given, beside what its model was trained on."""

PREDICTIONS: Final[Columns] = {
    "image_id": "str",  # the content's SHA-256
    "uri": "str",
    "caption": "str",  # empty when quarantined
    "logprob": "float64",  # natural log of the caption's probability; NaN when quarantined
    "status": "str",  # "ok" or "quarantined"
    "error": "str",  # empty when ok
    "model_version": "str",
    "encoder_fingerprint": "str",
    "scored_at": "datetime64[us, UTC]",
}
"""One row an input image of a scoring run, whatever happened to it."""
