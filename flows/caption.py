"""Captions for a few photographs at once, without a flow."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.registry.captioner import Caption, Captioner, Search


@dataclass(frozen=True)
class CaptionedPhoto:
    """A photograph's captions, best first, or why it has none."""

    photo: Path
    captions: tuple[Caption, ...]
    error: str


def caption_photos(
    photos: Sequence[Path], captioner: Captioner, beam: int, temperature: float | None, seed: int, top: int
) -> list[CaptionedPhoto]:
    """`top` captions for each photograph: sampled when a temperature is given, else by a beam of at least `top`."""
    contents = [_content(photo) for photo in photos]
    vectors, bad = captioner.embed([content if isinstance(content, bytes) else b"" for content in contents])
    if temperature is not None:
        draws = [
            captioner.caption(vectors, Search("sample", temperature=temperature, seed=seed + i)) for i in range(top)
        ]
        ranked = [[caption for (caption,) in drawn] for drawn in zip(*draws, strict=True)]
    else:
        width = max(beam, top)
        ranked = captioner.caption(vectors, Search("beam", beam=width) if width > 1 else Search())
    captions = iter(ranked)
    return [
        CaptionedPhoto(photo, (), content if isinstance(content, str) else str(bad[row]))
        if row in bad
        else CaptionedPhoto(photo, tuple(next(captions)[:top]), "")
        for row, (photo, content) in enumerate(zip(photos, contents, strict=True))
    ]


def _content(photo: Path) -> bytes | str:
    """The file's bytes, or why it cannot be read."""
    if photo.is_dir():
        return f"is a folder; its photographs: captioning score --images {photo}"
    try:
        return photo.read_bytes()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
