"""The embedding of photographs: what the pool lacks, some shards a task, in this process or on a Ray cluster."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from prefect import flow, unmapped

from components.artifacts import Artifact, Stage
from components.config import EncoderConfig, RuntimeConfig
from components.dataset.caption_table import read_caption_table
from components.encoder import extract
from components.encoder.encoders import describe_encoder
from components.encoder.extract import Shard
from components.encoder.pool import EmbeddingPool
from components.encoder.store import EmbeddingStore, join_stores, write_store
from components.errors import ConfigurationError
from components.images.photographs import PHOTOGRAPHS_FILE, is_transient
from components.images.streaming import in_batches
from components.profile import Profile
from components.registry.versions import RegisteredModel, load_captioner
from components.scoring.embed import fill_pools
from flows.settings import settings
from flows.tasks.stages import CaptionTable, Embeddings, Photographs, gpu_task, is_in_prefect, materialize

SHARDS_A_TASK = 8
"""At most: a task starts its own threads, and ends when its last shard is written."""


def extract_embeddings(photographs: Photographs, archives: dict[str, Path], profile: Profile) -> Embeddings:
    """The embedding of every photograph. What an earlier run embedded, for whatever purpose, is not embedded again.

    Of several encoders the embeddings are joined, image by image.
    """
    stores = [_embed(photographs, archives, encoder, profile.runtime) for encoder in profile.encoders]
    if len(stores) == 1:
        return stores[0]

    def join(folder: Path) -> int:
        return join_stores(folder, [EmbeddingStore.open(store.path) for store in stores])

    return Embeddings(materialize(Stage("joined-embeddings", None, stores), join))


def unreachable_photographs(stage: Artifact) -> tuple[tuple[str, str], ...]:
    """Name and reason of each photograph that could not be read, or embedded, and that a later run may be able to read.

    `stage` is the photographs' or the embeddings'.
    """
    listed = stage.path / PHOTOGRAPHS_FILE
    if listed.exists():
        quarantine = pd.read_parquet(listed).rename(columns={"error": "reason"})
    else:
        quarantine = EmbeddingStore.open(stage.path).quarantine
    passing = quarantine[is_transient(quarantine["reason"])]
    return tuple(zip(passing["file_name"], passing["reason"], strict=True))


def _embed(
    photographs: Photographs, archives: dict[str, Path], config: EncoderConfig, runtime: RuntimeConfig
) -> Embeddings:
    card = describe_encoder(config)
    pool = EmbeddingPool.of(settings().embeddings, card)

    def work(folder: Path) -> int:
        table = pd.read_parquet(photographs.path / PHOTOGRAPHS_FILE)
        shards = extract.plan_shards(table, pool.find(table["digest"].tolist()), config.shard_size)
        if runtime.runner == "ray":
            _embed_on_ray(shards, archives, config, pool, runtime)
        else:
            for group in in_batches(shards, SHARDS_A_TASK):
                embed = embed_group if is_in_prefect() else embed_group.fn
                pool.transient |= embed(group, archives, config, pool)
        return write_store(folder, table, pool)

    return Embeddings(materialize(Stage("embeddings", {"encoder": card.fingerprint}, [photographs]), work))


@gpu_task
def embed_for_model(
    model: RegisteredModel, photographs: Photographs, captions: CaptionTable, archives: dict[str, Path], split: str
) -> Embeddings:
    """The embeddings of a split's photographs by the encoders that a registered model brings."""

    def work(folder: Path) -> int:
        images, _ = read_caption_table(captions.path)
        table = pd.read_parquet(photographs.path / PHOTOGRAPHS_FILE)
        table = table[table["image_id"].isin(images.loc[images["split"] == split, "image_id"])]
        pools = fill_pools(load_captioner(model.uri), table, archives, settings().embeddings)
        if len(pools) == 1:
            return write_store(folder, table, pools[0])
        with TemporaryDirectory(dir=folder) as parts:
            stores = []
            for number, pool in enumerate(pools):
                part = Path(parts, str(number))
                part.mkdir()
                write_store(part, table, pool)
                stores.append(EmbeddingStore.open(part))
            return join_stores(folder, stores)

    given = [model.uri, model.digest, settings().mlflow]
    return Embeddings(materialize(Stage("embeddings", {"split": split}, [photographs, captions], inputs=given), work))


@gpu_task
def embed_group(
    shards: Sequence[Shard], archives: dict[str, Path], config: EncoderConfig, pool: EmbeddingPool
) -> dict[str, str]:
    """Some shards' embeddings, into the pool. Returns what has none for now, by digest with its reason."""
    extract.embed_shards(shards, archives, extract.load_engine(config), pool)
    return pool.transient


def _embed_on_ray(
    shards: Sequence[Shard],
    archives: dict[str, Path],
    config: EncoderConfig,
    pool: EmbeddingPool,
    runtime: RuntimeConfig,
) -> None:
    try:
        from prefect_ray import RayTaskRunner
        from prefect_ray.context import remote_options
    except ImportError as error:
        raise ConfigurationError("runtime.runner=ray needs the extra `ray`: pip install 'captioning[ray]'") from error

    logging.getLogger("ray").setLevel(logging.ERROR)
    quiet = {"log_to_driver": False, "logging_level": logging.WARNING}
    own = {} if runtime.address else {"num_cpus": runtime.workers, "include_dashboard": False}
    runner = RayTaskRunner(address=runtime.address or None, init_kwargs=quiet | own)
    size = min(SHARDS_A_TASK, max(1, math.ceil(len(shards) / runtime.workers)))
    groups = list(in_batches(shards, size))

    @flow(name="embed-on-ray", task_runner=runner)
    def embed_on_ray() -> None:
        # Ray gives out the GPUs, not the tag's limit.
        embed = embed_group.with_options(tags=[])
        with remote_options(num_cpus=1, num_gpus=runtime.gpus):
            for failed in embed.map(groups, unmapped(archives), unmapped(config), unmapped(pool)).result():
                pool.transient |= failed

    if groups:
        embed_on_ray()
