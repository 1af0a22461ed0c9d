"""COCO's captions layout: the JSON file as two tables."""

import json
from typing import Any

import pandas as pd
from pydantic import BaseModel, ValidationError

from components.dataset.rows import Id, stable_id
from components.errors import ConfigurationError

LONGEST_ID = 25
"""Characters of a text that is taken for a number; one of 64 bits has 20."""
MAX_FAULTS = 3
"""Faulty entries that a message names."""


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

    Ids are whole numbers, also written as text or with `.0`; any other text gets a number made from it. Raises
    `ConfigurationError` naming the file, as `where`, and the first entries that cannot be used.
    """
    try:
        coco = _Captions.model_validate_json(text)
    except ValidationError:
        coco = _read_entry_by_entry(text, where)
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


def _read_entry_by_entry(text: str, where: str) -> _Captions:
    """The same, slowly: with ids that are texts made numbers, and every faulty entry told by what it is of."""
    content = _parse(text, where)
    for key in ("images", "annotations"):
        if not isinstance(content.get(key), list):
            has = ", ".join(map(repr, list(content)[:5])) or "nothing"
            advice = 'Set `format` for another one ("karpathy", "jsonl"); a test set has no captions'
            raise ConfigurationError(f"{where} has no list `{key}`, as COCO's captions files have, but {has}. {advice}")
    names = {_number(image.get("id")): image.get("file_name") for image in content["images"] if _is_object(image)}
    names.pop(None, None)
    faults, images, annotations = list[str](), list[_Image](), list[_Annotation]()
    for number, image in enumerate(content["images"]):
        entry = image if _is_object(image) else {}
        found, name = _number(entry.get("id")), entry.get("file_name")
        fault = _fault_of_id("id", entry.get("id"), found) or ("" if _is_text(name) else "no `file_name`")
        if fault or found is None:
            faults.append(f"image {number} ({name or entry.get('id')}): {fault}")
        else:
            images.append(_Image.model_construct(id=found, file_name=str(name)))
    for number, annotation in enumerate(content["annotations"]):
        entry = annotation if _is_object(annotation) else {}
        caption_id, image_id, caption = _number(entry.get("id")), _number(entry.get("image_id")), entry.get("caption")
        fault = _fault_of_id("id", entry.get("id"), caption_id)
        fault = fault or _fault_of_id("image_id", entry.get("image_id"), image_id)
        fault = fault or ("" if _is_text(caption) else f"its caption is {_shown(caption)}, not a text")
        if fault or caption_id is None or image_id is None:
            photograph = names.get(image_id) or entry.get("image_id")
            faults.append(f"annotation {number} (caption {entry.get('id')}, photograph {photograph}): {fault}")
        else:
            annotations.append(_Annotation.model_construct(id=caption_id, image_id=image_id, caption=str(caption)))
    if faults:
        more = f"\n  and {len(faults) - MAX_FAULTS:,} more" if len(faults) > MAX_FAULTS else ""
        message = "\n  ".join(faults[:MAX_FAULTS])
        raise ConfigurationError(f"{where}: correct or delete what cannot be used:\n  {message}{more}")
    return _Captions.model_construct(images=images, annotations=annotations)


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        lines = text.strip().split("\n", 2)
        if len(lines) > 1 and _is_json(lines[0]) and _is_json(lines[1]):
            raise ConfigurationError(f'{where} has one JSON object per line: set `format` to "jsonl"') from error
        cut = " It ends in the middle: is it whole?" if getattr(error, "pos", 0) >= len(text.rstrip()) - 1 else ""
        raise ConfigurationError(f"{where} is not valid JSON: {error}.{cut}") from error
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise ConfigurationError(f"{where} is a JSON {kind}, not an object with `images` and `annotations`")
    return content


def _is_object(entry: object) -> bool:
    return isinstance(entry, dict)


def _is_text(given: object) -> bool:
    """Whether it is text that can be written: half of a pair of surrogates is not."""
    try:
        return isinstance(given, str) and bool(given.encode() or True)
    except UnicodeEncodeError:
        return False


def _is_json(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _number(given: object) -> int | None:
    """An id as a whole number of 64 bits; none when it cannot be one."""
    if isinstance(given, bool) or not isinstance(given, int | float | str):
        return None
    if isinstance(given, str):
        if not given.strip():
            return None
        digits = given.isascii() and given.strip().removeprefix("-").isdigit() and len(given) < LONGEST_ID
        given = int(given) if digits else stable_id(given)
    if isinstance(given, float) and not given.is_integer():
        return None
    return int(given) if -(2**63) <= given < 2**63 else None


def _fault_of_id(name: str, given: object, found: int | None) -> str:
    if found is not None:
        return ""
    return f"its `{name}` is {_shown(given)}, not a whole number of 64 bits or a text"


def _shown(given: object) -> str:
    try:
        return json.dumps(given)[:50]
    except (ValueError, RecursionError):
        return f"a {type(given).__name__}"
