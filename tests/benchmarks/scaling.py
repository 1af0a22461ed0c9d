"""Does extraction cost the same for every photograph? Peak memory and time at 1,000, 2,000 and 4,000 of them.

Run by `make bench-scaling`: EfficientNet-Lite0 on drawn 640 × 480 JPEGs, a process of its own for each number. Ends
with one JSON line: the largest peak memory over the smallest, and the largest time a photograph over the smallest.
"""

import io
import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from components.config import EncoderConfig
from components.encoder.encoders import describe_encoder
from components.encoder.extract import embed_shards, load_engine, plan_shards
from components.encoder.pool import EmbeddingPool
from components.encoder.store import write_store
from components.images.photographs import read_photographs

SIZES = (1000, 2000, 4000)


def main() -> None:
    runs = []
    for images in SIZES:
        command = [sys.executable, "-m", "tests.benchmarks.scaling", str(images)]
        runs.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        sys.stderr.write(f"{runs[-1]}\n")
    memory = [run["peak_mib"] for run in runs]
    each = [run["seconds"] / run["images"] for run in runs]
    ratios = {"memory": max(memory) / min(memory), "time_a_photograph": max(each) / min(each)}
    sys.stdout.write(json.dumps({name: round(ratio, 3) for name, ratio in ratios.items()}) + "\n")


def extract(images: int) -> None:
    logging.disable()
    config = EncoderConfig(name="efficientnet_lite0", weights="package", shard_size=500)
    started = time.perf_counter()
    engine = load_engine(config)
    engine.encode(np.zeros((1, 224, 224, 3), np.uint8))
    loading = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        archive = draw(images, folder / "photos.zip")
        started = time.perf_counter()
        table = pd.DataFrame({"image_id": range(images), "archive": "photos"})
        table["file_name"] = [f"{number}.jpg" for number in range(images)]
        photographs = read_photographs(table, {"photos": archive})
        pool = EmbeddingPool(folder / "pool", describe_encoder(config))
        embed_shards(plan_shards(photographs, pool.find([]), config.shard_size), {"photos": archive}, engine, pool)
        (folder / "store").mkdir()
        assert write_store(folder / "store", photographs, pool) == images
        seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    run = {"images": images, "loading": round(loading, 2), "seconds": round(seconds, 2), "peak_mib": round(peak)}
    sys.stdout.write(json.dumps(run) + "\n")


def draw(images: int, path: Path) -> Path:
    """Photographs of 640 × 480 pixels, about 90 kB each; no two have the same content."""
    file = io.BytesIO()
    blocks = np.random.default_rng(0).integers(0, 256, (120, 160, 3)).astype(np.uint8)
    Image.fromarray(blocks).resize((640, 480), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(images):
            archive.writestr(f"{number}.jpg", file.getvalue() + str(number).encode())
    return path


if __name__ == "__main__":
    extract(int(sys.argv[1])) if len(sys.argv) > 1 else main()
