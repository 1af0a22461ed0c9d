"""The words the decoder knows, and their ids."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from components.errors import CaptioningError
from data_contracts.schema import END, PAD, SPECIALS, START, UNK, VOCABULARY


@dataclass(frozen=True)
class Vocabulary:
    """Words by id: the four specials, then the known words, the most frequent first."""

    words: tuple[str, ...]
    counts: tuple[int, ...]
    """Occurrences in the training captions; 0 for the specials."""
    ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # A special's name is no ordinary word's: text that spells "<end>" must not end a caption.
        known = {word: index for index, word in enumerate(self.words) if index >= len(SPECIALS)}
        object.__setattr__(self, "ids", known)

    def __len__(self) -> int:
        return len(self.words)

    @classmethod
    def build(cls, captions: Iterable[Sequence[str]], min_count: int) -> "Vocabulary":
        """The vocabulary of tokenized captions: the words that occur at least `min_count` times."""
        occurrences = Counter(word for caption in captions for word in caption)
        known = [(word, count) for word, count in occurrences.items() if count >= min_count]
        known.sort(key=lambda pair: (-pair[1], pair[0]))
        words, counts = zip(*known, strict=True) if known else ((), ())
        return cls(SPECIALS + words, (0,) * len(SPECIALS) + counts)

    def encode(self, words: Sequence[str], max_length: int) -> list[int]:
        """START, the words' ids (UNK for an unknown one), END: at most `max_length` ids, END always among them."""
        inner = [self.ids.get(word, UNK) for word in words[: max_length - 2]]
        return [START, *inner, END]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The words before the first END or PAD; a START in front is skipped."""
        words = []
        for index in ids:
            if index in (END, PAD):
                break
            if index != START:
                words.append(self.words[index])
        return words

    def save(self, path: Path) -> None:
        """Writes the vocabulary as JSON."""
        content = {"words": self.words, "counts": self.counts}
        path.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Reads what `save` wrote. Raises `CaptioningError` when the file is not such a vocabulary."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            vocabulary = cls(tuple(content["words"]), tuple(content["counts"]))
            "".join(vocabulary.words).encode()  # all of them text, and text that can be written
            if len(vocabulary.ids) < len(vocabulary) - len(SPECIALS):
                raise ValueError("a word is there twice")
            if not all(type(count) is int and 0 <= count < 2**63 for count in vocabulary.counts):
                raise ValueError("a count is none")
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            message = f"cannot read the vocabulary {path}: {error!r}. Delete what it belongs to: it is made again"
            raise CaptioningError(message) from error
        if vocabulary.words[: len(SPECIALS)] != SPECIALS or len(vocabulary.words) != len(vocabulary.counts):
            raise CaptioningError(f"{path} is not a vocabulary: its ids 0 to 3 must be {', '.join(SPECIALS)}")
        return vocabulary

    def to_frame(self) -> pd.DataFrame:
        """The vocabulary as the contract's table (see `data_contracts.schema.VOCABULARY`)."""
        columns = {"id": range(len(self)), "word": self.words, "count": self.counts}
        return pd.DataFrame(columns).astype(VOCABULARY)
