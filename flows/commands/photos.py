"""Captions for a few photographs at once, without a flow."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from components.decoder.caption import MAX_SEED, Caption, Search
from components.errors import ConfigurationError
from components.files import read_file
from components.images.decoding import MAX_BYTES
from components.model.captioner import Captioner


@dataclass(frozen=True)
class CaptionedPhoto:
    """A photograph's captions, best first, or why it has none."""

    photo: Path
    captions: tuple[Caption, ...]
    error: str


def caption_photos(photos: Sequence[Path], captioner: Captioner, search: Search, top: int) -> list[CaptionedPhoto]:
    """`top` captions for each photograph: the best of a beam of at least `top`, or as many samples."""
    contents = [_content(photo) for photo in photos]
    vectors, bad = captioner.embed([content if isinstance(content, bytes) else b"" for content in contents])
    if search.method == "sample":
        seeds = [(search.seed + draw) % MAX_SEED for draw in range(top)]
        draws = [captioner.caption(vectors, replace(search, seed=seed)) for seed in seeds]
        ranked = [[caption for (caption,) in drawn] for drawn in zip(*draws, strict=True)]
    else:
        width = max(search.beam, top) if search.method == "beam" else top
        ranked = captioner.caption(vectors, Search.of_width(width))
    captions = iter(ranked)
    return [
        CaptionedPhoto(photo, (), content if isinstance(content, str) else str(bad[row]))
        if row in bad
        else CaptionedPhoto(photo, tuple(next(captions)[:top]), "")
        for row, (photo, content) in enumerate(zip(photos, contents, strict=True))
    ]


def choose_search(beam: int, temperature: float | None, top_k: int, top_p: float, seed: int) -> Search:
    """What the command's options ask for. Raises `ConfigurationError` when they ask for a search and a draw."""
    if temperature is None and top_k == 0 and top_p == 1:
        return Search.of_width(beam)
    if beam > 1:
        raise ConfigurationError("--beam cannot be combined with --temperature, --top-k and --top-p, which sample")
    chosen = 1.0 if temperature is None else temperature
    return Search("sample", temperature=chosen, top_k=top_k, top_p=top_p, seed=seed)


def require_some(photos: Sequence[Path]) -> None:
    """Raises `ConfigurationError` when none of them is a file, before a model is loaded."""
    if all(photo.is_dir() or not photo.exists() for photo in photos):
        raise ConfigurationError("\n".join(f"{photo} {_content(photo)!s}" for photo in photos))


def _content(photo: Path) -> bytes | str:
    """The file's bytes, or why it cannot be read."""
    if photo.is_dir():
        return f"is a folder; its photographs: captioning score --images {photo}"
    try:
        return read_file(photo, MAX_BYTES)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
