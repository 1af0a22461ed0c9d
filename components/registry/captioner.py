"""A packaged captioner: photographs or embeddings in, captions out. Needs TensorFlow, and nothing of Keras' layers.

Evaluation, batch scoring and the served model all caption through this class. It is copied into every registered
model (see `components.registry.bundle`), so it works where this project is not installed.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from components.encoder.pixels import read_pixels
from components.errors import BadImageError, CaptioningError, ConfigurationError
from components.vocabulary.vocabulary import Vocabulary

MODEL_SCHEMA = 2
"""Version of the package's files and of the SavedModel's functions."""

CODE_FILE = "model.py"
CAPTIONER_FOLDER = "captioner"
"""What a package consists of; see `components.registry.package`."""

BATCH = 32
"""Photographs encoded at a time."""
MAX_SEED = 2**31
IMPOSSIBLE = -1e8
"""Log-probabilities from here down come from the mask of a search, not from a model."""
DECODE_BATCH = 512
"""Captions searched at a time."""


@dataclass(frozen=True)
class Search:
    """How a caption is chosen."""

    method: Literal["greedy", "beam", "sample"] = "greedy"
    beam: int = 5
    """Hypotheses kept by a beam search."""
    temperature: float = 1.0
    """Of sampling: towards 0 the most probable words, above 1 the more surprising ones."""
    seed: int = 0
    """Of sampling."""

    def __post_init__(self) -> None:
        if self.method not in ("greedy", "beam", "sample"):
            raise ConfigurationError(f"search must be greedy, beam or sample, not {self.method!r}")
        if self.beam < 1:
            raise ConfigurationError(f"beam must be 1 or more, not {self.beam}")
        if not self.temperature > 0:
            raise ConfigurationError(f"temperature must be above 0, not {self.temperature}")
        if not 0 <= self.seed < MAX_SEED:
            raise ConfigurationError(f"the seed must be at least 0 and below {MAX_SEED}, not {self.seed}")


@dataclass(frozen=True)
class Caption:
    """A caption and the natural logarithm of its probability."""

    text: str
    logprob: float


class Embeddings(Protocol):
    """An array (images, dimension), float32, or what reads one in slices."""

    def __len__(self) -> int: ...

    def __getitem__(self, which: slice, /) -> Any: ...


class Captioner:
    """The model in a package folder: `saved_model/`, `vocabulary.json`, `model.json`."""

    def __init__(self, folder: Path) -> None:
        import tensorflow as tf

        self.folder = folder
        self.card: dict[str, Any] = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        if self.card["schema"] != MODEL_SCHEMA:
            raise CaptioningError(
                f"{folder} holds a model of schema {self.card['schema']}; this code reads {MODEL_SCHEMA}. "
                "Load it with the model.py that was registered with it"
            )
        self._vocabulary = Vocabulary.load(folder / "vocabulary.json")
        self._model = tf.saved_model.load(str(folder / "saved_model"))

    def require_encoder(self, fingerprint: str) -> None:
        """Raises `CaptioningError` when embeddings of this encoder are not what the model was trained on."""
        own = self.card["encoder"]
        if own["fingerprint"] != fingerprint:
            raise CaptioningError(
                f"the model was trained on embeddings of {own['name']} {own['fingerprint']}, "
                f"these are of {fingerprint}: use a profile with the model's encoder"
            )

    def read(self, photographs: Sequence[bytes]) -> list[np.ndarray | BadImageError]:
        """Each image file's bytes as the pixels the encoder sees, or why they cannot be."""
        with ThreadPoolExecutor() as pool:
            return list(pool.map(self.read_one, photographs))

    def read_one(self, photograph: bytes) -> np.ndarray | BadImageError:
        """One image file's bytes as pixels: uint8, (size, size, 3). May be called from several threads."""
        encoder = self.card["encoder"]
        try:
            return read_pixels(photograph, encoder["input_size"], encoder["preprocessing"])
        except BadImageError as error:
            return error

    def embed(self, pixels: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        """Embeddings (images, dimension), float32, of uint8 pixels (size, size, 3)."""
        batches = [np.asarray(pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH)]
        found = [np.asarray(self._model.embed(batch)) for batch in batches]
        return np.concatenate(found) if found else np.empty((0, self.card["encoder"]["dimension"]), np.float32)

    def caption(self, embeddings: Embeddings, search: Search) -> list[list[Caption]]:
        """For each embedding its captions, best first: `search.beam` of them from a beam search, else one."""
        found: list[list[Caption]] = []
        for start in range(0, len(embeddings), DECODE_BATCH):
            # Each batch of samples has a seed of its own: a seed's noise depends on the place in the batch.
            own = replace(search, seed=(search.seed + start) % MAX_SEED)
            ids, logprobs = self._search(embeddings[start : start + DECODE_BATCH], own)
            for captions, scores in zip(ids, logprobs, strict=True):
                texts = [" ".join(self._vocabulary.decode(caption)) for caption in captions]
                ranked = [Caption(text, float(score)) for text, score in zip(texts, scores, strict=True)]
                # A beam wider than there are captions is filled up with ones that cannot be.
                found.append([caption for caption in ranked if caption.logprob > IMPOSSIBLE])
        return found

    def _search(self, embeddings: np.ndarray, search: Search) -> tuple[np.ndarray, np.ndarray]:
        """Ids (images, captions, length) and log-probabilities (images, captions)."""
        import tensorflow as tf

        inputs = tf.constant(embeddings, tf.float32)
        if search.method == "beam":
            ids, logprobs = self._model.beam(inputs, tf.constant(search.beam))
            return ids.numpy(), logprobs.numpy()
        if search.method == "sample":
            ids, logprobs = self._model.sample(inputs, tf.constant(search.temperature), tf.constant(search.seed))
        else:
            ids, logprobs = self._model.greedy(inputs)
        return ids.numpy()[:, None], logprobs.numpy()[:, None]
