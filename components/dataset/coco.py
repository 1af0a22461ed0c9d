"""COCO's captions layout: the JSON file as two tables."""

import pandas as pd
from pydantic import BaseModel, ValidationError

from components.dataset.rows import Id, explain
from components.errors import CaptioningError


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


def read_coco(text: str, where: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The file's images (image_id, name) and captions (caption_id, image_id, caption), in its order.

    Raises `CaptioningError` naming the file, as `where`, and the first faulty entries.
    """
    try:
        coco = _Captions.model_validate_json(text)
    except ValidationError as error:
        raise CaptioningError(
            f"{where} is not a COCO captions file; set `format` for another {explain(error)}"
        ) from error
    images = pd.DataFrame(
        {"image_id": [image.id for image in coco.images], "name": [image.file_name for image in coco.images]}
    )
    captions = pd.DataFrame(
        {
            "caption_id": [annotation.id for annotation in coco.annotations],
            "image_id": [annotation.image_id for annotation in coco.annotations],
            "caption": [annotation.caption for annotation in coco.annotations],
        }
    )
    return images, captions
