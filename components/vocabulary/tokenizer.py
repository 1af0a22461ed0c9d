"""From a caption to words, as the notebook does it."""

import re

_NOT_WORD = re.compile(r"\W+")


def tokenize(caption: str) -> list[str]:
    """Lower-case runs of letters, digits and underscores, of any alphabet; everything else separates words."""
    return [word for word in _NOT_WORD.split(caption.lower()) if word]
