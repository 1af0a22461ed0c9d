"""How fast photographs become embeddings, against the notebook's way; ratios of one run, InceptionV3.

Run by `make bench-extract`. The photographs are drawn (640 × 640 JPEGs), or those of a zip file given as an argument;
the weights are random: they do not change the speed. The notebook's way is one reader thread, one photograph after
the other, `model.predict` on batches of 32, and reading and encoding in turn.
"""

import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np

from components.config import EncoderConfig
from components.dataset.archive import open_archive
from components.dataset.scenes import draw_dataset
from components.encoder import registry
from components.encoder.extract import Photograph, Shard, embed_shard, encode, in_batches, map_ahead
from components.encoder.pixels import read_pixels

SIZE, BATCH, IMAGES, ROUNDS = 299, 32, 256, 3


def main() -> None:
    logging.disable()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        archive = Path(sys.argv[1]) if len(sys.argv) > 1 else draw(folder)
        weights = folder / "random.weights.h5"
        keras.applications.InceptionV3(include_top=False, weights=None, pooling="avg").save_weights(weights)
        config = EncoderConfig(name="inception_v3", weights=str(weights), batch_size=BATCH)
        network = registry.load_network(config)
        with open_archive(archive) as photographs:
            files = [photographs.read(entry[0]) for entry in photographs.listing()]
            names = [entry[0] for entry in photographs.listing()]
        names, files = (names * IMAGES)[:IMAGES], (files * IMAGES)[:IMAGES]
        shard = Shard(0, tuple(Photograph(number, "photos", name) for number, name in enumerate(names)))
        pixels = np.stack([read_pixels(file, SIZE) for file in files[:BATCH]])
        encode(network, pixels, BATCH)
        network.predict(pixels, verbose=0)

        def ours() -> None:
            embed_shard(shard, {"photos": archive}, config, Path(tempfile.mkdtemp(dir=folder)))

        def model_only() -> None:
            for _ in range(IMAGES // BATCH):
                encode(network, pixels, BATCH)

        def decode_only() -> None:
            with ThreadPoolExecutor(config.threads) as pool, open_archive(archive) as opened:
                for _ in map_ahead(pool, lambda name: read_pixels(opened.read(name), SIZE), names, 2 * BATCH):
                    pass

        def notebook() -> None:
            with open_archive(archive) as opened:
                for batch in in_batches(names, BATCH):
                    images = np.stack([read_pixels(opened.read(name), SIZE) for name in batch])
                    network.predict(images, batch_size=BATCH, verbose=0)

        rates = measure({"ours": ours, "model_only": model_only, "decode_only": decode_only, "notebook": notebook})
    bound = 1 / (1 / rates["model_only"] + 1 / rates["decode_only"])
    sys.stderr.write("".join(f"{name:12} {rate:8.1f} images/s\n" for name, rate in rates.items()))
    ratios = {"end_to_end_over_bound": rates["ours"] / bound, "fp32_over_notebook": rates["ours"] / rates["notebook"]}
    sys.stdout.write(json.dumps({name: round(ratio, 3) for name, ratio in ratios.items()}) + "\n")


def draw(folder: Path) -> Path:
    draw_dataset(folder, {"photos": 64}, seed=0, size=640)
    return folder / "photos.zip"


def measure(ways: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Images a second of each way: the median of a few rounds, the ways taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started)
    return {name: IMAGES / statistics.median(times) for name, times in seconds.items()}


if __name__ == "__main__":
    main()
