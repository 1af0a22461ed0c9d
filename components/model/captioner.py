"""A packaged captioner: photographs or embeddings in, captions out. Needs TensorFlow, and nothing of Keras' layers.

Evaluation, batch scoring and the served model all caption through this class. It is copied into every registered
model (see `components.model.bundle`), so it works where this project is not installed.
"""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from components.decoder.caption import MAX_SEED, Caption, Search
from components.errors import BadImageError, CaptioningError
from components.images.preprocessing import read_pixels
from components.vocabulary.spacing import join_words
from components.vocabulary.vocabulary import Vocabulary
from data_contracts.schema import PAD, START, UNK

MODEL_SCHEMA = 4
"""Version of the package's files and of the SavedModel's functions."""

CODE_FILE = "model.py"
CAPTIONER_FOLDER = "captioner"
"""What a package consists of; see `components.model.package`."""

BATCH = 32
"""Photographs encoded at a time."""
IMPOSSIBLE = -1e8
"""Log-probabilities from here down come from the mask of a search, not from a model."""
DECODE_BATCH = 1024
"""Captions searched at a time."""


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
        self.vocabulary = Vocabulary.load(folder / "vocabulary.json")
        self._model = tf.saved_model.load(str(folder / "saved_model"))
        self._length = int(card["max_length"]) - 1  # what follows START
        self.cards: list[dict[str, Any]] = card["encoders"]
        """The encoders that an embedding is made by, its parts one behind the other."""
        self.encoders = tuple(
            PackagedEncoder(encoder, getattr(self._model, f"embed_{number}"))
            for number, encoder in enumerate(self.cards if card["bundled"] else ())
        )
        """The same, when they are in the package."""

    @property
    def fingerprint(self) -> str:
        """The encoders' fingerprints."""
        return "+".join(card["fingerprint"] for card in self.cards)

    @property
    def dimension(self) -> int:
        """Numbers in an embedding."""
        return sum(card["dimension"] for card in self.cards)

    def require_own_encoders(self) -> None:
        """Raises `CaptioningError` when the package takes embeddings only."""
        if not self.encoders:
            names = "+".join(card["name"] for card in self.cards)
            raise CaptioningError(
                f"this model has no encoder in it: it captions embeddings of {names} {self.fingerprint}. "
                "To caption photographs, register it with registry.bundle_encoder=true"
            )

    def require_encoders(self, fingerprint: str) -> None:
        """Raises `CaptioningError` when embeddings of these encoders are not what the model was trained on."""
        if self.fingerprint != fingerprint:
            names = "+".join(card["name"] for card in self.cards)
            raise CaptioningError(
                f"the model was trained on embeddings of {names} {self.fingerprint}, "
                f"these are of {fingerprint}: use a profile with the model's encoders"
            )

    def embed(self, photographs: Sequence[bytes]) -> tuple[np.ndarray, dict[int, BadImageError]]:
        """Embeddings (images, dimension) of the image files that can be read, in their order; why the others cannot."""
        self.require_own_encoders()
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
                # A beam wider than there are captions is filled up with ones that cannot be.
                possible = scores.sum(axis=-1) > IMPOSSIBLE
                found.append([self._caption(*one) for one in zip(captions[possible], scores[possible], strict=True)])
        return found

    def next_words(self, embedding: np.ndarray, caption: Caption) -> np.ndarray:
        """How probable each word of the vocabulary is at each step of a caption, its end the last: (steps, words).

        What no caption consists of, such as PAD, has the probability 0.
        """
        import tensorflow as tf

        steps = [START, *(self.vocabulary.ids.get(word, UNK) for word in caption.words)]
        padded = np.pad(steps, (0, self._length - len(steps)), constant_values=PAD)
        logprobs = self._model.next_words(tf.constant(embedding[None], tf.float32), tf.constant(padded[None], tf.int32))
        probabilities: np.ndarray = np.exp(logprobs.numpy()[0, : len(steps)].astype(np.float64))
        probabilities[:, [PAD, UNK, START]] = 0
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        return probabilities

    def _caption(self, ids: np.ndarray, logprobs: np.ndarray) -> Caption:
        words = self.vocabulary.decode(ids.tolist())
        return Caption(join_words(words), tuple(logprobs[: len(words) + 1].tolist()), tuple(words))

    def _search(self, embeddings: np.ndarray, search: Search) -> tuple[np.ndarray, np.ndarray]:
        """Ids and their log-probabilities, both (images, captions, length)."""
        import tensorflow as tf

        length = min(search.max_length + 1, self._length) if search.max_length else self._length
        inputs = tf.constant(embeddings, tf.float32), tf.constant(length)
        if search.method == "beam":
            ids, logprobs = self._model.beam(*inputs, tf.constant(search.beam))
            return ids.numpy(), logprobs.numpy()
        if search.method == "sample":
            of_sampling = (search.temperature, search.top_k, search.top_p, search.seed)
            ids, logprobs = self._model.sample(*inputs, *map(tf.constant, of_sampling))
        else:
            ids, logprobs = self._model.greedy(*inputs)
        return ids.numpy()[:, None], logprobs.numpy()[:, None]
