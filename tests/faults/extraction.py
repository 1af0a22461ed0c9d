"""An extraction as the flow does it, in a process that can be killed: arguments are its home and a zip file.

It says on standard output when it starts to embed.
"""

import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from components.artifacts import Stage, run_stage
from components.config import EncoderConfig
from components.encoder.extract import embed_shards, load_engine, plan_shards
from components.encoder.photographs import read_photographs
from components.encoder.pool import EmbeddingPool
from components.encoder.registry import describe_encoder
from components.encoder.store import write_store


def main(home: Path, archive: Path) -> None:
    config = EncoderConfig(name="efficientnet_lite0", weights="package", batch_size=2, shard_size=4)
    pool = EmbeddingPool.of(home / "embeddings", describe_encoder(config))
    names = sorted(zipfile.ZipFile(archive).namelist())
    images = pd.DataFrame({"image_id": range(len(names)), "archive": "photos", "file_name": names})

    def work(folder: Path) -> int:
        photographs = read_photographs(images, {"photos": archive})
        shards = plan_shards(photographs, pool.find(photographs["digest"].tolist()), config.shard_size)
        if shards:
            engine = load_engine(config)
            engine.encode(np.zeros((1, 224, 224, 3), np.uint8))  # compiled before the first kill can come
            print("embedding", flush=True)  # noqa: T201
            embed_shards(shards, {"photos": archive}, engine, pool)
        return write_store(folder, photographs, pool)

    run_stage(home, Stage("embeddings"), work)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
