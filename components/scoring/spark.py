"""Captioning on Spark: the registered model as a user-defined function over files that the executors read."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from PIL import Image

from components.dataset.archive import Location, is_url
from components.errors import ConfigurationError
from components.scoring.dataset import PART, Scorer
from data_contracts.schema import PREDICTIONS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

RESULT = "caption string, logprob double, error string"
"""Of what the model gives for a photograph, what becomes a prediction."""
ON_SPARK = "on-spark"


def spark_session(master: str) -> "SparkSession":
    """The session that there is (of spark-submit, say), or one on `master`.

    Raises `ConfigurationError` when Spark or its Java is missing.
    """
    try:
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise ConfigurationError("--engine spark needs the extra `spark`: pip install 'captioning[spark]'") from error
    try:
        builder = SparkSession.builder.appName("captioning").master(master).config("spark.ui.enabled", "false")
        return builder.config("spark.sql.session.timeZone", "UTC").getOrCreate()
    except (PySparkException, OSError, RuntimeError) as error:
        raise ConfigurationError(f"Spark cannot be started on {master}: {error}. It needs Java 17 or newer") from error


def score_on_spark(
    spark: "SparkSession", images: Location, known: pd.DataFrame, scorer: Scorer, folder: Path
) -> pd.DataFrame:
    """Writes the predictions of a folder's new images in parts, and returns them: `schema.PREDICTIONS`.

    The executors read the files, by a path or an address that all of them reach. `known` are predictions of the same
    scorer. Of what it costs to embed an image nothing is kept, and drift is not judged.
    """
    from pyspark.sql import functions as f

    from components.registry.models import encoder_fingerprint, spark_function

    given = _read(spark, images).withColumn("image_id", f.sha2("content", 256))
    seen = spark.createDataFrame(known[["uri", "image_id"]], "uri string, image_id string")
    new = given.join(f.broadcast(seen), ["uri", "image_id"], "left_anti")
    caption = spark_function(spark, scorer.model, scorer.search, RESULT)
    said = new.select("uri", "image_id", caption(f.struct(f.col("content").alias("image"))).alias("said"))
    bad = f.col("said.error") != ""
    columns = {
        "image_id": f.col("image_id"),
        "uri": f.col("uri"),
        "caption": f.col("said.caption"),
        "logprob": f.when(~bad, f.col("said.logprob")),
        "status": f.when(bad, "quarantined").otherwise("ok"),
        "error": f.col("said.error"),
        "model_version": f.lit(scorer.model.rpartition("/")[2]),
        "encoder_fingerprint": f.lit(encoder_fingerprint(scorer.model)),
        "scored_at": f.current_timestamp(),
    }
    table = said.select(*(columns[name].alias(name) for name in PREDICTIONS))
    table.write.mode("overwrite").parquet(str(folder / ON_SPARK))
    written = [pd.read_parquet(path) for path in sorted((folder / ON_SPARK).glob("part-*"))]
    # Spark's timestamps are UTC and do not say so.
    parts = [
        part.assign(scored_at=part["scored_at"].dt.tz_localize("UTC")).astype(PREDICTIONS)
        for part in written
        if len(part)
    ]
    for number, part in enumerate(parts):  # as the local engine writes them
        part.to_parquet(folder / PART.format(number), index=False)
    shutil.rmtree(folder / ON_SPARK)
    return pd.concat(parts, ignore_index=True) if parts else known.iloc[:0]


def _read(spark: "SparkSession", images: Location) -> "DataFrame":
    """`uri` and `content` of every file below `images` with an image's extension."""
    from pyspark.sql import functions as f

    if not is_url(images) and not Path(images).is_dir():
        raise ConfigurationError(f"{images} is no folder; --engine spark takes a folder or the address of one")
    endings = "|".join(sorted({ending.removeprefix(".") for ending in Image.registered_extensions()}))
    files = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(str(images))
    of_images = files.where(f.lower("path").rlike(rf"\.({endings})$"))
    return of_images.select(f.regexp_replace("path", "^file:(//)?(?=/)", "").alias("uri"), "content")
