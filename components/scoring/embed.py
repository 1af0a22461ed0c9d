"""Embedding with the encoders that a model brings: what their pools lack is put there."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from components.archives.archive import Location
from components.encoder.extract import Engine, embed_shards, plan_shards
from components.encoder.pool import EmbeddingPool, EncoderCard
from components.model.captioner import BATCH, Captioner

SHARD = 1024
"""Images a shard of new embeddings: what a killed run loses at most."""


def fill_pools(
    captioner: Captioner, photographs: pd.DataFrame, archives: Mapping[str, Location], pools: Path
) -> list[EmbeddingPool]:
    """The pool of each of the captioner's encoders, with all it can know of these photographs (`schema.PHOTOGRAPHS`).

    What is in a pool is not embedded again. Raises `CaptioningError` when the captioner has no encoder in it.
    """
    captioner.require_own_encoders()
    filled = []
    for encoder in captioner.encoders:
        pool = EmbeddingPool.of(pools, EncoderCard(**encoder.card))
        shards = plan_shards(photographs, pool.find(photographs["digest"].tolist()), SHARD)
        embed_shards(shards, archives, Engine(encoder.read, encoder.embed, BATCH), pool)
        filled.append(pool)
    return filled
