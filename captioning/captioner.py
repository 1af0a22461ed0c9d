"""A captioner for photographs: any that a notebook has, with every kind of search."""

import itertools
import warnings
from collections.abc import Iterator
from dataclasses import replace
from numbers import Integral, Real
from pathlib import Path

import numpy as np

from captioning.photographs import Photograph, Photographs, photographs
from captioning.results import Embeddings, Result, Results
from components.decoder.caption import MAX_SEED, Caption, Search
from components.errors import ConfigurationError
from components.model.captioner import Captioner
from components.model.reference import REFERENCE_FILE, Reference
from data_contracts.schema import SPECIALS

BATCH = 64
"""Photographs in memory at a time."""


class PhotoCaptioner:
    """Captions photographs with a packaged model. `load_captioner` makes one."""

    def __init__(self, model: Captioner, name: str) -> None:
        self._model = model
        self._reference = Reference.load(model.folder / REFERENCE_FILE)
        self.name = name
        """`models:/name/version`, or the folder of the package."""

    def __repr__(self) -> str:
        encoders = "+".join(card["name"] for card in self._model.cards)
        return f"PhotoCaptioner({self.name}, {encoders}, {len(self.vocabulary):,} words)"

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The words that it knows, the most frequent first."""
        return tuple(self._model.vocabulary.words[len(SPECIALS) :])

    @property
    def dimension(self) -> int:
        """Numbers in an embedding."""
        return self._model.dimension

    def caption(
        self,
        photos: Photographs | Embeddings,
        *,
        beam: int = 1,
        top: int = 1,
        temperature: float | None = None,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
        max_length: int = 0,
    ) -> Results:
        """The captions of photographs, or of embeddings that `embed` made.

        Args:
            photos: see `captioning.photographs.Photographs`.
            beam: Hypotheses kept by a beam search; 1 is greedy.
            top: Captions per photograph: the best of a beam at least as wide, or as many samples.
            temperature: Samples words; higher is more varied, 1 is the model's own distribution.
            top_k: Samples from this many of the most probable words; 0 means all.
            top_p: Samples from the fewest words whose total probability reaches this.
            seed: Of sampling.
            max_length: Words per caption at most; 0 means as many as the model learnt.

        Returns:
            One result per photograph, in order. One that cannot be read has an `error` and no captions.

        Raises:
            ConfigurationError: an option is wrong, `photos` are of no kind that is read, or a folder has none.
            CaptioningError: the model has no encoder in it.
        """
        search = choose_search(beam, temperature, top_k, top_p, seed, max_length)
        if not isinstance(top, Integral) or top < 1:
            raise ConfigurationError(f"top must be 1 or more, not {top!r}")
        if isinstance(photos, Embeddings):
            self._require_width(photos.vectors)
            ranked = rank_captions(self._model, photos.vectors, search, top)
            rows = zip(photos.ids, ranked, self._unlike_training(photos.vectors), strict=True)
            return Results(tuple(Result(str(name), found, unlike_training=unlike) for name, found, unlike in rows))
        results: list[Result] = []
        for batch, vectors, errors in self._embedded(photos):
            captions = iter(rank_captions(self._model, vectors, search, top))
            unlike = iter(self._unlike_training(vectors))
            for row, photo in enumerate(batch):
                shown = _without_copy(photo)
                if row in errors:
                    results.append(Result(photo.name, (), errors[row], photograph=shown))
                else:
                    results.append(Result(photo.name, next(captions), "", next(unlike), shown))
        return Results(tuple(results))

    def embed(self, photos: Photographs) -> Embeddings:
        """The embeddings of the photographs that can be read; `errors` says why the others cannot.

        Raises as `caption` does.
        """
        names: list[str] = []
        parts: list[np.ndarray] = [np.empty((0, self.dimension), np.float32)]
        reasons: dict[str, str] = {}
        for batch, vectors, errors in self._embedded(photos):
            names += [photo.name for row, photo in enumerate(batch) if row not in errors]
            reasons |= {batch[row].name: error for row, error in errors.items()}
            parts.append(vectors)
        return Embeddings(np.array(names, dtype=object), np.concatenate(parts), reasons)

    def _embedded(self, photos: Photographs) -> Iterator[tuple[list[Photograph], np.ndarray, dict[int, str]]]:
        """Batches of photographs, the embeddings of those that can be read, and why the others, by position, cannot."""
        self._model.require_own_encoders()
        rest = photographs(photos)
        while batch := list(itertools.islice(rest, BATCH)):
            vectors, bad = self._model.embed([photo.content for photo in batch])
            yield batch, vectors, {row: batch[row].error or str(error) for row, error in bad.items()}

    def _unlike_training(self, vectors: np.ndarray) -> list[bool]:
        return [bool(far) for far in self._reference.distances(vectors) > self._reference.far]

    def _require_width(self, vectors: np.ndarray) -> None:
        if np.ndim(vectors) != 2 or np.shape(vectors)[1] != self.dimension:
            raise ConfigurationError(
                f"embeddings for {self.name} have the shape (images, {self.dimension}), not {np.shape(vectors)}"
            )


def load_captioner(model: str | Path = "models:/captioner@champion") -> PhotoCaptioner:
    """Loads a registered model, `models:/NAME@ALIAS` or `models:/NAME/VERSION`, or the folder of a package.

    Raises `CaptioningError` when there is no such model, or its files are not those that were registered.
    """
    from components.registry import versions
    from flows.settings import prepare_environment, use_mlflow

    prepare_environment(debug=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*Any type hint is inferred")  # MLflow's, for the code in the model
        if isinstance(model, str) and model.startswith("models:/"):
            use_mlflow(create=False)
            uri = versions.describe(model).uri  # once: an alias may move meanwhile
            return PhotoCaptioner(versions.load_captioner(uri), uri)
        return PhotoCaptioner(versions.load_package(Path(model)), str(model))


def choose_search(
    beam: int = 1,
    temperature: float | None = None,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    max_length: int = 0,
) -> Search:
    """What the options ask for. Raises `ConfigurationError` when one is wrong, or they ask for a search and a draw."""
    whole = {"beam": beam, "top_k": top_k, "seed": seed, "max_length": max_length}
    for name, value in whole.items():
        if not isinstance(value, Integral) or isinstance(value, bool):
            raise ConfigurationError(f"{name} must be a whole number, not {value!r}")
    for name, share in {"temperature": temperature, "top_p": top_p}.items():
        if not (isinstance(share, Real) or (share is None and name == "temperature")):
            raise ConfigurationError(f"{name} must be a number, not {share!r}")
    beam, top_k, seed, max_length = (int(value) for value in whole.values())
    if temperature is None and top_k == 0 and top_p == 1:
        found = Search("beam", beam=beam) if beam != 1 else Search()
        return replace(found, seed=seed, max_length=max_length)
    if beam > 1:
        raise ConfigurationError("beam cannot be combined with temperature, top_k and top_p, which sample")
    chosen = 1.0 if temperature is None else float(temperature)
    return Search("sample", temperature=chosen, top_k=top_k, top_p=float(top_p), seed=seed, max_length=max_length)


def rank_captions(model: Captioner, vectors: np.ndarray, search: Search, top: int) -> list[tuple[Caption, ...]]:
    """`top` captions per embedding: the best of a beam at least as wide, or as many samples."""
    if search.method == "sample":
        seeds = [(search.seed + draw) % MAX_SEED for draw in range(top)]
        draws = [model.caption(vectors, replace(search, seed=seed)) for seed in seeds]
        found = [[caption for (caption,) in drawn] for drawn in zip(*draws, strict=True)]
    else:
        width = max(search.beam if search.method == "beam" else 1, top)
        found = model.caption(vectors, replace(search, method="beam", beam=width) if width > 1 else search)
    # A registered model brings its own code, and with it a class of its own.
    return [tuple(Caption(one.text, one.logprobs, one.words) for one in ranked[:top]) for ranked in found]


def _without_copy(photo: Photograph) -> Photograph:
    """The photograph for display: the content of one that can be read again is not kept."""
    return replace(photo, content=b"") if photo.source else photo
