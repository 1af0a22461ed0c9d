"""Captioning on Spark: the registered model as a user-defined function over files that the executors read."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from components.archives.archive import Location
from components.archives.image_archive import is_url
from components.errors import TRIED_AGAIN, ConfigurationError
from components.images.decoding import MAX_BYTES
from components.images.photographs import is_transient
from components.scoring.dataset import NOTHING, PART, Scorer, new_rows
from data_contracts.schema import PREDICTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO

    from pyspark.sql import DataFrame, SparkSession

RESULT = "caption string, logprob double, error string"
"""Of what the model gives for a photograph, what becomes a prediction."""
ON_SPARK = "on-spark"
TASK = 1024
"""Images a task of Spark at least, where there are as many: what is done again when an executor is lost."""


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


def require_folder(images: Location) -> None:
    """Raises `ConfigurationError` for what executors cannot read by themselves."""
    if not is_url(images) and not Path(images).is_dir():
        raise ConfigurationError(f"{images} is no folder; --engine spark takes a folder or the address of one")


def score_on_spark(
    spark: "SparkSession", images: Location, listed: pd.DataFrame, known: pd.DataFrame, scorer: Scorer, folder: Path
) -> pd.DataFrame:
    """Writes the predictions of new inputs in parts. Returns `schema.PREDICTIONS` of all that `known` does not settle.

    `listed` has the inputs' `file_name`, `uri` and `problem`, the reason why a file cannot be reached. The executors
    read the files, by a path or an address below `images` that all of them reach. `known` are predictions of the same
    scorer. Embeddings are not kept, and drift is not measured.
    """
    from pyspark.sql import functions as f

    from components.registry.versions import encoder_fingerprint, spark_function

    caption = spark_function(spark, scorer.model, scorer.search, RESULT)
    read = _read(spark, images, listed)
    digest = f.when(f.col("content").isNull(), NOTHING).otherwise(f.sha2("content", 256))
    settled = known[~is_transient(known["error"])]
    seen = spark.createDataFrame(settled[["uri", "image_id"]], "uri string, image_id string")
    new = read.withColumn("image_id", digest).join(f.broadcast(seen), ["uri", "image_id"], "left_anti")
    said = new.withColumn("said", caption(f.struct(f.col("content").alias("image"))))
    # What could not be read has its reason; the model only says that it was given nothing.
    error = f.when(f.col("problem") != "", f.col("problem")).otherwise(f.col("said.error"))
    bad = error != ""
    columns = {
        "image_id": f.col("image_id"),
        "uri": f.col("uri"),
        "caption": f.when(bad, "").otherwise(f.col("said.caption")),
        "logprob": f.when(~bad, f.col("said.logprob")),
        "status": f.when(bad, "quarantined").otherwise("ok"),
        "error": error,
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
    news = [new_rows(part, known) for part in parts]
    for number, part in enumerate(part for part in news if len(part)):  # as the local engine writes them
        part.to_parquet(folder / PART.format(number), index=False)
    shutil.rmtree(folder / ON_SPARK)
    return pd.concat(parts, ignore_index=True) if parts else known.iloc[:0]


def _read(spark: "SparkSession", images: Location, listed: pd.DataFrame) -> "DataFrame":
    """`uri`, `content` and `problem` of the inputs, read by the executors.

    Not by Spark's own reader of files, which passes over names that begin with `_` or `.`, as cameras give them
    (SPARK-26339), and stops at what it cannot read.
    """
    files = listed[["uri", "file_name", "problem"]]
    given = spark.createDataFrame(files, "uri string, file_name string, problem string")
    spread = given.repartition(max(spark.sparkContext.defaultParallelism, len(files) // TASK))
    reader = make_reader(str(images).rstrip("/"), local=not is_url(images))
    return spread.mapInPandas(reader, "uri string, content binary, problem string")


def make_reader(root: str, *, local: bool) -> "Callable[[Iterator[pd.DataFrame]], Iterator[pd.DataFrame]]":
    """What reads files below `root`. It travels to the executors, where this project need not be installed."""
    limit, again = MAX_BYTES, TRIED_AGAIN

    def open_file(name: str) -> "IO[bytes]":
        import os
        import re
        from pathlib import Path

        import fsspec

        if not local:
            return fsspec.open(f"{root}/{name}", "rb").open()  # type: ignore[no-any-return]
        path = Path(root, name)
        if "\\x" in name and not os.path.lexists(path):  # as `FolderArchive` finds names that are not UTF-8
            raw = re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), name.encode())
            path = Path(root, os.fsdecode(raw))
        return path.open("rb")

    def read(name: str) -> tuple[bytes | None, str]:
        content = bytearray()
        try:
            with open_file(name) as file:
                while len(content) <= limit and (chunk := file.read(1 << 20)):
                    content += chunk
        except Exception as error:  # noqa: BLE001 - of whatever client; it is this file's reason
            return None, f"cannot be read: {error or type(error).__name__}; {again}"
        return (bytes(content), "") if len(content) <= limit else (None, f"more than {limit:,} bytes")

    def read_files(parts: "Iterator[pd.DataFrame]") -> "Iterator[pd.DataFrame]":
        for part in parts:
            for uri, name, problem in zip(part["uri"], part["file_name"], part["problem"], strict=True):
                content, reason = (None, f"{problem}; {again}") if problem else read(name)
                yield pd.DataFrame({"uri": [uri], "content": [content], "problem": [reason]})

    return read_files
