"""What a good CIDEr can hide: captions that break off, that repeat one another, that use few words."""

from collections.abc import Sequence

from data_contracts.schema import FUNCTION_WORDS


def describe_captions(captions: Sequence[Sequence[str]]) -> dict[str, float]:
    """`dangling` and `distinct`, shares of the captions, and `words_used`, a number; 0 of no captions."""
    count = max(len(captions), 1)
    return {
        "dangling": sum(bool(words) and words[-1] in FUNCTION_WORDS for words in captions) / count,
        "distinct": len({tuple(words) for words in captions}) / count,
        "words_used": float(len({word for words in captions for word in words})),
    }
