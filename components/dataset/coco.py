"""COCO's captions layout: the JSON file as two tables."""

from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import BaseModel, Field, ValidationError

from components.dataset.archive import open_archive
from components.dataset.sources import Source
from components.errors import BadImageError, CaptioningError

Id = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class _Image(BaseModel):
    id: Id
    file_name: str


class _Annotation(BaseModel):
    id: Id
    image_id: Id
    caption: str


class _Captions(BaseModel):
    images: list[_Image]
    annotations: list[_Annotation]


def read_coco(source: Source) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The source's images (image_id, file_name) and captions (caption_id, image_id, caption), in the file's order.

    `file_name` is the photograph's whole name in the archive, or empty when the archive does not have it.
    Raises `CaptioningError` naming the file and the first faulty entries.
    """
    where = f"{source.annotations} in {source.captions}"
    try:
        coco = _Captions.model_validate_json(_read_annotations(source))
    except BadImageError as error:
        raise CaptioningError(f"{where} {error}") from error
    except ValidationError as error:
        faults = [".".join(map(str, e["loc"])) + ": " + e["msg"] for e in error.errors()[:3]]
        raise CaptioningError(
            f"{where} is not a COCO captions file ({error.error_count()} faults):\n  " + "\n  ".join(faults)
        ) from error
    with open_archive(source.images) as archive:
        members = _members([name for name, _, _ in archive.listing()])
    images = pd.DataFrame(
        {
            "image_id": [image.id for image in coco.images],
            "file_name": [members.get(image.file_name, "") for image in coco.images],
        }
    )
    captions = pd.DataFrame(
        {
            "caption_id": [annotation.id for annotation in coco.annotations],
            "image_id": [annotation.image_id for annotation in coco.annotations],
            "caption": [annotation.caption for annotation in coco.annotations],
        }
    )
    return images, captions


def _read_annotations(source: Source) -> bytes:
    if source.captions.is_file() and source.captions.suffix == ".json":
        return source.captions.read_bytes()
    with open_archive(source.captions) as archive:
        return archive.read(source.annotations)


def _members(names: list[str]) -> dict[str, str]:
    """Whole names by every way a captions file may call them: the name, or its last part where that is unique."""
    bases: dict[str, list[str]] = {}
    for name in names:
        bases.setdefault(Path(name).name, []).append(name)
    return {base: found[0] for base, found in bases.items() if len(found) == 1} | {name: name for name in names}
