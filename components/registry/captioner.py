"""A packaged captioner: photographs or embeddings in, captions out. Needs TensorFlow, and nothing of Keras' layers.

Evaluation, batch scoring and the served model all caption through this class. It is copied into every registered
model (see `components.registry.bundle`), so it works where this project is not installed.
"""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from components.encoder.pixels import read_pixels
from components.errors import BadImageError, CaptioningError, ConfigurationError
from components.vocabulary.vocabulary import Vocabulary

MODEL_SCHEMA = 3
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


@dataclass(frozen=True)
class PackagedEncoder:
    """One of the encoders in a package."""

    card: dict[str, Any]
    """The fields of `components.encoder.pool.EncoderCard`."""
    network: Callable[[np.ndarray], Any]

    def read(self, photograph: bytes) -> np.ndarray | BadImageError:
        """An image file's bytes as pixels, uint8, (size, size, 3), or why not. May be called from several threads."""
        try:
            return read_pixels(photograph, self.card["input_size"], self.card["preprocessing"])
        except BadImageError as error:
            return error

    def embed(self, pixels: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        """Embeddings (images, dimension), float32, of uint8 pixels (size, size, 3)."""
        batches = [np.asarray(pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH)]
        found = [np.asarray(self.network(batch)) for batch in batches]
        return np.concatenate(found) if found else np.empty((0, self.card["dimension"]), np.float32)


class Captioner:
    """The model in a package folder: `saved_model/`, `vocabulary.json`, `model.json`."""

    def __init__(self, folder: Path) -> None:
        import tensorflow as tf

        self.folder = folder
        card: dict[str, Any] = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        if card["schema"] != MODEL_SCHEMA:
            raise CaptioningError(
                f"{folder} holds a model of schema {card['schema']}; this code reads {MODEL_SCHEMA}. "
                "Load it with the model.py that was registered with it"
            )
        self._vocabulary = Vocabulary.load(folder / "vocabulary.json")
        self._model = tf.saved_model.load(str(folder / "saved_model"))
        self.encoders = tuple(
            PackagedEncoder(encoder, getattr(self._model, f"embed_{number}"))
            for number, encoder in enumerate(card["encoders"])
        )
        """An embedding is theirs, one behind the other."""

    @property
    def fingerprint(self) -> str:
        """The encoders' fingerprints."""
        return "+".join(encoder.card["fingerprint"] for encoder in self.encoders)

    def require_encoders(self, fingerprint: str) -> None:
        """Raises `CaptioningError` when embeddings of these encoders are not what the model was trained on."""
        if self.fingerprint != fingerprint:
            names = "+".join(encoder.card["name"] for encoder in self.encoders)
            raise CaptioningError(
                f"the model was trained on embeddings of {names} {self.fingerprint}, "
                f"these are of {fingerprint}: use a profile with the model's encoders"
            )

    def embed(self, photographs: Sequence[bytes]) -> tuple[np.ndarray, dict[int, BadImageError]]:
        """Embeddings (images, dimension) of the image files that can be read, in their order; why the others cannot."""
        with ThreadPoolExecutor() as pool:
            read = [list(pool.map(encoder.read, photographs)) for encoder in self.encoders]
        bad = {row: image for images in read for row, image in enumerate(images) if isinstance(image, BadImageError)}
        good = [row for row in range(len(photographs)) if row not in bad]
        parts = [
            encoder.embed([np.asarray(images[row]) for row in good])
            for encoder, images in zip(self.encoders, read, strict=True)
        ]
        return np.concatenate(parts, axis=1), bad

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
