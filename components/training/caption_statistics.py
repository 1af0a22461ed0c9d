"""What a good CIDEr can hide: captions that break off, that repeat one another, that use few words."""

from collections.abc import Sequence

DANGLING = frozenset([
    "a", "an", "the", "of", "in", "on", "at", "to", "with", "for",
    "by", "from", "into", "onto", "near", "over", "under", "and", "or", "is",
    "are", "while", "as", "that", "his", "her", "its", "their",
])  # fmt: skip
"""Words that no English caption ends in unless it was broken off; rewarding n-grams is known to produce such ends."""


def describe_captions(captions: Sequence[Sequence[str]]) -> dict[str, float]:
    """`dangling` and `distinct`, shares of the captions, and `words_used`, a number; 0 of no captions."""
    count = max(len(captions), 1)
    return {
        "dangling": sum(bool(words) and words[-1] in DANGLING for words in captions) / count,
        "distinct": len({tuple(words) for words in captions}) / count,
        "words_used": float(len({word for words in captions for word in words})),
    }
