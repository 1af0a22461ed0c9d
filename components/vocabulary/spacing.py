"""Which words are written without a space between them. This module is copied into every registered model."""

import re
from collections.abc import Iterable

UNSPACED = (
    "\u0e00-\u0e4f\u0e5a-\u0ecf\u0eda-\u0eff\u1780-\u17df\u17ea-\u17ff"  # Thai, Lao, Khmer
    "\u1000-\u103f\u104a-\u108f\u109a-\u109f\ua9e0-\ua9ef\ua9fa-\ua9ff\uaa60-\uaa7f"  # Burmese
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # Hiragana, Katakana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese characters
)
"""Characters of scripts that put no space between words, for a class of a regular expression (Unicode 16 blocks).

Their digits are not among them: a number is a word of its own, with spaces around.
"""
_BETWEEN = re.compile(rf"(?<=[{UNSPACED}]) (?=[{UNSPACED}])")


def join_words(words: Iterable[str]) -> str:
    """The words as people write them: with spaces, but for scripts that have none."""
    return _BETWEEN.sub("", " ".join(words))
