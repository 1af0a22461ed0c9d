"""Photographs and archives in COCO's layout, small enough to be made anew for every test."""

import atexit
import io
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from zipfile import ZipFile

# Before Prefect is imported: it would write to the user's home. Before TensorFlow is: it would tell of the processor.
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="prefect-home-")
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import hypothesis
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from components.dataset.sources import Source
from components.encoder.pool import EmbeddingPool, EncoderCard
from components.encoder.store import EmbeddingStore, write_store
from data_contracts.schema import PHOTOGRAPHS

atexit.register(shutil.rmtree, os.environ["PREFECT_HOME"], ignore_errors=True)

hypothesis.settings.register_profile("captioning", deadline=None)  # shared machines have uneven clocks
hypothesis.settings.load_profile("captioning")


# A worker of pytest-xdist has no main file, which PySpark takes for a doctest, and ends the process.
vars(sys.modules["__main__"]).setdefault("__file__", __file__)

multiprocessing.get_context("forkserver").set_forkserver_preload(["tests.warm"])

# Where the tests run in the background of a script, Ctrl-C is ignored; every process inherits that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kills", type=int, default=9, help="Kills of the campaign in tests/faults, all together; `make faults`: 212."
    )
    parser.addoption("--inputs", type=int, default=40, help="Damaged inputs of each kind in tests/hostile.")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first: some of them wait while others work, and none is left to one worker alone at the end."""
    long = ("tests/flows/services/test_supervisor.py", "tests/flows/", "tests/docker/", "tests/docs", "tests/faults/")
    items.sort(key=lambda item: [not item.nodeid.startswith(path) for path in long])


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


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database; making one takes seconds."""
    import mlflow

    database = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{database}").search_experiments()
    return database


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[[Sequence[int]], EmbeddingStore]:
    """A store, in shards of two, of embeddings whose five numbers are each the image's id."""

    def make(image_ids: Sequence[int]) -> EmbeddingStore:
        pool = EmbeddingPool(tmp_path / "pool", EncoderCard("toy", "0" * 16, 5, 8, "notebook", "float32"))
        for start in range(0, len(image_ids), 2):
            ids = np.array(image_ids[start : start + 2])
            pool.write(str(start), [f"digest {i}" for i in ids], np.repeat(ids[:, None], 5, axis=1), {})
        rows = [(i, "train", f"{i}.jpg", 1, f"digest {i}", "") for i in image_ids]
        folder = tmp_path / "store"
        folder.mkdir()
        write_store(folder, pd.DataFrame(rows, columns=list(PHOTOGRAPHS)).astype(PHOTOGRAPHS), pool)
        return EmbeddingStore.open(folder)

    return make


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
