"""A profile for what was found, and the language of its captions."""

import json
from collections import Counter

import pandas as pd

from components.dataset.discovery import Discovery

SMALL = 1000
"""Captions; with fewer, words and epochs are counted otherwise."""
COMMON_WORDS = {
    "English": {"the", "is", "and", "with", "on", "of", "are"},
    "German": {"ein", "eine", "der", "die", "und", "auf", "mit", "ist", "einem"},
    "French": {"un", "une", "le", "les", "et", "dans", "avec", "est", "sur"},
    "Spanish": {"un", "una", "el", "los", "y", "con", "en", "está", "de"},
    "Italian": {"un", "una", "il", "che", "con", "di", "su", "è", "nel"},
    "Portuguese": {"um", "uma", "o", "com", "em", "está", "do", "da", "na"},
    "Dutch": {"een", "de", "het", "en", "met", "op", "van", "in", "staat"},
}


def language_of(captions: pd.Series) -> str:
    """The language of captions by its commonest words, or their script; empty when that is not clear."""
    words = Counter(word for text in captions.head(5000) for word in str(text).split())
    total = max(1, sum(words.values()))
    shares = {name: sum(words[word] for word in common) / total for name, common in COMMON_WORDS.items()}
    best = max(shares, key=lambda name: shares[name])
    return best if shares[best] > 0.08 else ""


def profile_of(found: Discovery) -> str:
    """A profile for it, as commented TOML."""
    lines = [
        "# Written by `captioning init`. Every value can be changed; docs/training.md has the others.",
        "[dataset]",
        f"root = {json.dumps(str(found.root), ensure_ascii=False)}",
    ]
    if found.holdout:
        lines.append(f"holdout = {found.holdout}  # this share of the photographs is validated on")
    lines += ["", "[dataset.sources.photos]", f"images = {json.dumps(found.images, ensure_ascii=False)}"]
    keys = {"captions": found.captions, **found.source}
    lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in keys.items()]
    if len(found.table) < SMALL:
        lines += [
            "",
            "[vocabulary]",
            f"min_count = {1 if len(found.table) < SMALL // 4 else 2}  # a word is known when it occurs so often",
            "",
            "[training]",
            "steps_per_epoch = 100  # few captions: an epoch goes over them more than once",
        ]
    lines += ["", "[encoder]", 'name = "efficientnet_lite0"  # or any of keras.applications', 'weights = "package"', ""]
    return "\n".join(lines)
