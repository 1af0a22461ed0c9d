"""How a caption is chosen, and what is known of a caption that was."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from components.errors import ConfigurationError

MAX_SEED = 2**31


@dataclass(frozen=True)
class Search:
    """How a caption is chosen. See `components.decoder.search`."""

    method: Literal["greedy", "beam", "sample"] = "greedy"
    beam: int = 5
    """Hypotheses kept by a beam search."""
    temperature: float = 1.0
    """Of sampling: towards 0 the most probable words, above 1 the more surprising ones."""
    top_k: int = 0
    """Sampling draws from this many of the most probable words; 0 means all."""
    top_p: float = 1.0
    """Sampling draws from the fewest words that together are so probable."""
    seed: int = 0
    """Of sampling."""
    max_length: int = 0
    """Words of a caption at most; 0, or more than the model learnt: as many as it learnt."""

    def __post_init__(self) -> None:
        if self.method not in ("greedy", "beam", "sample"):
            raise ConfigurationError(f"search must be greedy, beam or sample, not {self.method!r}")
        if self.beam < 1:
            raise ConfigurationError(f"beam must be 1 or more, not {self.beam}")
        if not self.temperature > 0:
            raise ConfigurationError(f"temperature must be above 0, not {self.temperature}")
        if self.top_k < 0:
            raise ConfigurationError(f"top_k must be 1 or more, or 0 for all words, not {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ConfigurationError(f"top_p must be above 0 and at most 1, not {self.top_p}")
        if self.max_length < 0:
            raise ConfigurationError(f"max_length must be 1 or more, or 0 for the model's own, not {self.max_length}")
        if not 0 <= self.seed < MAX_SEED:
            raise ConfigurationError(f"the seed must be at least 0 and below {MAX_SEED}, not {self.seed}")

    @classmethod
    def of_width(cls, beam: int) -> "Search":
        """A beam search, or greedy when only one hypothesis is kept."""
        return cls("beam", beam=beam) if beam > 1 else cls()


@dataclass(frozen=True)
class Caption:
    """A caption, and how sure the decoder is of it."""

    text: str
    """Its words as people write them: with spaces, but for scripts that have none."""
    logprobs: tuple[float, ...]
    """The natural logarithm of each word's probability given those before it, and last that of the end."""
    words: tuple[str, ...] = ()
    """The words, one for each of `logprobs` but the last; by default what spaces in the text divide."""

    def __post_init__(self) -> None:
        if self.text and not self.words:
            object.__setattr__(self, "words", tuple(self.text.split(" ")))

    @property
    def logprob(self) -> float:
        """That of the whole caption's probability."""
        return sum(self.logprobs)

    @property
    def mean_probability(self) -> float:
        """The geometric mean of the words' probabilities, the end's among them, whatever the caption's length."""
        return per_word(self.logprobs)


def per_word(logprobs: Sequence[float]) -> float:
    """The geometric mean of probabilities given as natural logarithms; 0 of none."""
    return math.exp(sum(logprobs) / len(logprobs)) if logprobs else 0.0
