"""How fast photographs become committed embeddings, against the notebook's way; ratios of one run, InceptionV3.

Run by `make bench-extract`. Arguments: a zip file of photographs (else scenes of 640 × 640 are drawn) and a weights
file (else random ones, which do not change the speed, but make the cosine a figure of noise).

    notebook     one reader thread, OpenCV's decoding and crop, `model.predict` on batches of 32, an array at the end
    model_only   the encoder on pixels in memory, batches of 32
    decode_only  photographs out of the zip file into pixels, one thread a core
    end_to_end   zip file → digests → plan → decode, encode, write → committed shards

The floor: decoding and encoding both need all the cores, so a photograph costs at least the sum of both times. Where
OpenVINO is installed (`pip install openvino`) it is measured too; the project does not use it, see docs/decisions.
"""

import itertools
import json
import logging
import queue
import statistics
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import pandas as pd

from components.archives.archive import open_archive
from components.config import EncoderConfig
from components.encoder.encoders import describe_encoder, load_network
from components.encoder.extract import Engine, embed_shards, load_engine, plan_shards
from components.encoder.pool import EmbeddingPool
from components.errors import ConfigurationError
from components.hardware import require_bfloat16
from components.images.photographs import read_photographs
from components.images.streaming import in_batches, map_ahead
from tests.toy import draw_scenes

SIZE, BATCH, IMAGES, ROUNDS = 299, 32, 512, 5


def main() -> None:
    logging.disable()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        archive = copies(Path(sys.argv[1]) if len(sys.argv) > 1 else draw(folder), folder / "photos.zip")
        weights = Path(sys.argv[2]) if len(sys.argv) > 2 else folder / "random.weights.h5"
        if not weights.exists():
            keras.applications.InceptionV3(include_top=False, weights=None, pooling="avg").save_weights(weights)
        fp32 = EncoderConfig(name="inception_v3", weights=str(weights), preprocessing="notebook", batch_size=BATCH)
        engines = {"fp32": load_engine(fp32)} | bfloat16_engines(fp32)
        names = zipfile.ZipFile(archive).namelist()
        with open_archive(archive) as opened:
            pixels = np.stack([engines["fp32"].read(opened.read(name)) for name in names[:128]])
        ways: dict[str, Callable[[], Any]] = {"notebook": notebook(archive, weights)}
        for kind, engine in engines.items():
            ways[f"model_only {kind}"] = lambda engine=engine: encode_all(engine, pixels)
            ways[f"end_to_end {kind}"] = lambda engine=engine: end_to_end(engine, fp32, archive, names, folder)
        ways["decode_only"] = lambda: decode_all(engines["fp32"], archive, names)
        rates = measure(ways, {name: len(pixels) if "model_only" in name else IMAGES for name in ways})
        vectors = {kind: encode_all(engine, pixels) for kind, engine in engines.items()}
    for kind, found in vectors.items():
        close = cosines(found, vectors["fp32"])
        sys.stderr.write(f"cosine of {kind} to fp32: mean {close.mean():.6f}, least {close.min():.6f}\n")
    bound = 1 / (1 / rates["model_only fp32"] + 1 / rates["decode_only"])
    ours = [kind for kind in engines if kind != "openvino"]
    best = max(ours, key=lambda kind: rates[f"end_to_end {kind}"])
    result = {
        "end_to_end_over_bound": rates["end_to_end fp32"] / bound,
        "fp32_over_notebook": rates["end_to_end fp32"] / rates["notebook"],
        "best_over_notebook": rates[f"end_to_end {best}"] / rates["notebook"],
        "best_engine": best,
        "cosine": float(cosines(vectors[best], vectors["fp32"]).min()),
    }
    shown = {name: value if isinstance(value, str) else round(value, 4) for name, value in result.items()}
    sys.stdout.write(json.dumps(shown) + "\n")


def draw(folder: Path) -> Path:
    drawn = folder / "drawn"
    drawn.mkdir()
    draw_scenes(drawn, {"photos": 64}, seed=0, size=640)
    return drawn / "photos.zip"


def copies(source: Path, target: Path) -> Path:
    """The photographs again and again, `IMAGES` in all, each with a content of its own (a comment at the end)."""
    with zipfile.ZipFile(source) as given, zipfile.ZipFile(target, "w") as written:
        names = [name for name in given.namelist() if name.lower().endswith((".jpg", ".jpeg"))]
        for number in range(IMAGES):
            written.writestr(f"{number:06}.jpg", given.read(names[number % len(names)]) + str(number).encode())
    return target


def bfloat16_engines(fp32: EncoderConfig) -> dict[str, Engine]:
    """The engines in bfloat16 that there are on this machine."""
    try:
        require_bfloat16()
    except ConfigurationError:
        return {}
    found = {"mixed_bfloat16": load_engine(fp32.model_copy(update={"precision": "mixed_bfloat16"}))}
    try:
        import openvino
    except ImportError:
        return found
    import tensorflow as tf

    network = load_network(fp32)
    function = tf.function(lambda pixels: network(tf.cast(pixels, tf.float32), training=False))
    shape = [BATCH, SIZE, SIZE, 3]
    concrete = function.get_concrete_function(tf.TensorSpec(shape, tf.uint8))
    model = openvino.convert_model(concrete, input=[(shape, openvino.Type.u8)])
    hints = {"INFERENCE_PRECISION_HINT": "bf16", "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(model, "CPU", hints)
    read = found["mixed_bfloat16"].read
    return found | {"openvino": Engine(read, lambda pixels: np.array(compiled(pixels)[0]), BATCH)}


def notebook(archive: Path, weights: Path) -> Callable[[], np.ndarray]:
    """The notebook's `apply_model`: one thread reads, decodes and crops into a queue; batches go to `predict`."""
    network = keras.applications.InceptionV3(include_top=False, weights=None, pooling="avg")
    network.load_weights(weights)

    def read(images: "queue.Queue[np.ndarray | None]") -> None:
        with zipfile.ZipFile(archive) as opened:
            for name in opened.namelist():
                picture = cv2.imdecode(np.frombuffer(opened.read(name), np.uint8), cv2.IMREAD_COLOR)
                picture = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
                height, width, _ = picture.shape
                side = min(height, width)
                top, left = (height - side + 1) // 2, (width - side + 1) // 2
                square = cv2.resize(picture[top : top + side, left : left + side], (SIZE, SIZE))
                images.put(keras.applications.inception_v3.preprocess_input(square.astype(np.float32)))
        images.put(None)

    def run() -> np.ndarray:
        images: queue.Queue[np.ndarray | None] = queue.Queue(maxsize=10 * BATCH)
        threading.Thread(target=read, args=(images,), daemon=True).start()
        arrived = takewhile(lambda image: image is not None, (images.get() for _ in itertools.count()))
        batches = in_batches(arrived, BATCH)
        return np.concatenate([network.predict(np.stack(batch), BATCH, verbose=0) for batch in batches])

    return run


def end_to_end(engine: Engine, config: EncoderConfig, archive: Path, names: list[str], folder: Path) -> None:
    pool = EmbeddingPool(Path(tempfile.mkdtemp(dir=folder)), describe_encoder(config))
    images = pd.DataFrame({"image_id": range(len(names)), "archive": "photos", "file_name": names})
    photographs = read_photographs(images, {"photos": archive})
    shards = plan_shards(photographs, pool.find([]), config.shard_size)
    assert embed_shards(shards, {"photos": archive}, engine, pool) == IMAGES


def encode_all(engine: Engine, pixels: np.ndarray) -> np.ndarray:
    return np.concatenate([engine.encode(pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH)])


def decode_all(engine: Engine, archive: Path, names: list[str]) -> None:
    with ThreadPoolExecutor() as pool, open_archive(archive) as opened:
        for _ in map_ahead(pool, lambda name: engine.read(opened.read(name)), names, 2 * BATCH):
            pass


def cosines(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    return np.asarray((found * expected).sum(axis=1) / lengths)


def measure(ways: dict[str, Callable[[], Any]], images: dict[str, int]) -> dict[str, float]:
    """Images a second of each way: the median of a few rounds, the ways taking turns; a first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started)
    rates = {name: [images[name] / each for each in times[1:]] for name, times in seconds.items()}
    for name, each in rates.items():
        sys.stderr.write(f"{name:26} {statistics.median(each):.1f} images/s, {min(each):.1f} to {max(each):.1f}\n")
    return {name: statistics.median(each) for name, each in rates.items()}


if __name__ == "__main__":
    main()
