"""From a caption to words, as the notebook does it."""

import re


def tokenize(caption: str) -> list[str]:
    """Lower-case runs of letters, digits and underscores, of any alphabet; everything else separates words."""
    return re.findall(r"\w+", caption.lower())
