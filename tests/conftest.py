"""Photographs and archives in COCO's layout, small enough to be made anew for every test."""

import io
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from zipfile import ZipFile

# Before Prefect is imported: it would write to the user's home.
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="prefect-home-")

import hypothesis
import numpy as np
import pytest
from PIL import Image

from components.dataset.sources import Source

hypothesis.settings.register_profile("captioning", deadline=None)  # shared machines have uneven clocks
hypothesis.settings.load_profile("captioning")


def _photograph(number: int) -> bytes:
    """A JPEG, 48 × 36 pixels, unlike that of any other number."""
    corners = np.random.default_rng(number).integers(0, 256, (2, 2, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(corners).resize((48, 36), Image.Resampling.BILINEAR).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture(scope="session")
def photograph() -> Callable[[int], bytes]:
    """The bytes of a JPEG for a number, always the same."""
    return _photograph


@pytest.fixture
def make_source(tmp_path: Path) -> Callable[..., Source]:
    """A source with a photograph and captions for each image id, as zip files or as a folder and a JSON file."""

    def make(captions: Mapping[int, Sequence[str]], name: str = "train", zipped: bool = False) -> Source:
        files = {f"{name}/{image_id:012}.jpg": _photograph(image_id) for image_id in captions}
        pairs = [(image_id, caption) for image_id, found in captions.items() for caption in found]
        coco = {
            "images": [{"id": image_id, "file_name": f"{image_id:012}.jpg"} for image_id in captions],
            "annotations": [
                {"id": number, "image_id": image_id, "caption": caption}
                for number, (image_id, caption) in enumerate(pairs, start=1)
            ],
        }
        annotations = f"annotations/captions_{name}.json"
        if zipped:
            images, texts = tmp_path / f"{name}.zip", tmp_path / f"{name}-captions.zip"
            with ZipFile(images, "w") as archive:
                for file_name, content in files.items():
                    archive.writestr(file_name, content)
            with ZipFile(texts, "w") as archive:
                archive.writestr(annotations, json.dumps(coco))
        else:
            images, texts = tmp_path / name, tmp_path / f"{name}.json"
            (images / name).mkdir(parents=True)
            for file_name, content in files.items():
                (images / file_name).write_bytes(content)
            texts.write_text(json.dumps(coco), encoding="utf-8")
        return Source(images, texts, annotations)

    return make
