"""What there is in a home, as `storm` compares it. Times, run ids and addresses differ by nature, and are left out."""

import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd

from components.artifacts import file_digest
from components.model.integrity import SEAL_TAG, seal_of

VERSIONS = "SELECT name, version, description IS NOT NULL, status, storage_location FROM model_versions"
TAGS = "SELECT name, version, key, value FROM model_version_tags"
ALIASES = "SELECT name, alias, version FROM registered_model_aliases"
RUNS = "SELECT status FROM runs WHERE lifecycle_stage = 'active'"


def files(home: Path, *patterns: str) -> dict[str, Any]:
    """The digest of every file that a pattern finds, or that lies in a folder that it finds."""
    found = {path for pattern in patterns for path in home.glob(pattern)}
    found |= {below for path in found if path.is_dir() for below in path.rglob("*")}
    return {path.relative_to(home).as_posix(): file_digest(path) for path in found if path.is_file()}


def embeddings(home: Path) -> dict[str, Any]:
    """The pools, shard by shard: each is there when its description is; how often an image is in them."""
    shards = list(home.glob("embeddings/*/*.json"))
    described = [json.loads(path.read_text(encoding="utf-8")) for path in shards]
    images = Counter(image for entry in described for image in [*entry["images"], *entry["bad"]])
    found = {f"embeddings of {shard.stem}": entry["vectors"] for shard, entry in zip(shards, described, strict=True)}
    return found | {f"image {image}": times for image, times in images.items()}


def stages(home: Path) -> dict[str, Any]:
    """How often each stage's output is there, and what it is.

    A package is not: TensorFlow writes the same network another way each time; nor what is written of it.
    """
    manifests = [json.loads(path.read_text(encoding="utf-8")) for path in home.glob("stages/*/manifest.json")]
    made = [manifest["artifact"] for manifest in manifests]
    of_package = ("package", "evaluation")
    return Counter(f"stage {a['stage']} {'' if a['stage'] in of_package else a['digest']} {a['rows']}" for a in made)


def database(home: Path) -> dict[str, Any]:
    """What MLflow's database is made of, in MLflow's version of it."""
    if not (home / "mlflow.db").exists():
        return {}
    with closing(sqlite3.connect(f"file:{home}/mlflow.db?mode=rw", uri=True, timeout=60)) as found:
        made = dict(found.execute("SELECT name, type FROM sqlite_master").fetchall())
        (version,) = found.execute("SELECT version_num FROM alembic_version").fetchone()
        (experiments,) = found.execute("SELECT group_concat(name) FROM experiments").fetchone()
    return {**made, "version": version, "now experiments": experiments}


def registry(home: Path) -> dict[str, Any]:
    """Versions with the files of their models, aliases, what is noted of versions; runs that seem to be at work."""
    if not (home / "mlflow.db").exists():
        return {}
    with closing(sqlite3.connect(f"file:{home}/mlflow.db?mode=rw", uri=True, timeout=60)) as database:
        versions, tags, aliases, runs = (
            database.execute(query).fetchall() for query in (VERSIONS, TAGS, ALIASES, RUNS)
        )
    found: dict[str, Any] = {}
    for name, version, described, status, place in versions:
        found[f"version {name}/{version}"] = status, *sorted(_model_files(place))
        found[f"now {name}/{version} described"] = bool(described)
    places = {(name, version): place for name, version, *_, place in versions}
    for name, version, key, value in tags:
        if key == SEAL_TAG:  # a run's id and times are among the files
            value = value == seal_of(_folder(places[name, version]))
        if key.startswith("captioning.evaluation."):
            value = value.partition("/")[2]  # the run's id
        if key == "captioning.package":
            value = bool(value)  # a digest; see `stages`
        if key == "captioning.decision":
            value = json.loads(value)["promote"]
        found[f"now {name}/{version} {key}"] = value
    found |= {f"now {name}@{alias}": version for name, alias, version in aliases}
    return found | {"now at work": sum(status == "RUNNING" for (status,) in runs)}


def _folder(place: str) -> Path:
    return Path(place.removeprefix("file://"))


def _model_files(place: str) -> list[str]:
    folder = _folder(place)
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def predictions(out: Path) -> dict[str, Any]:
    """The rows of a data set of predictions, and how often each is there; its batches as they are."""
    manifests = {
        path.parent: json.loads(path.read_text(encoding="utf-8")) for path in out.glob("batch=*/_manifest.json")
    }
    assert all(set(m["parts"]) == {part.name for part in batch.glob("part-*")} for batch, m in manifests.items())
    found: dict[str, Any] = {"now batches": len(list(out.glob("batch=*"))), "now beside": len(list(out.glob("_*")))}
    if manifests:
        rows = pd.concat([pd.read_parquet(batch) for batch in manifests])
        for uri, same in rows.groupby("uri"):
            row = same.iloc[0]
            said = row["image_id"], row["caption"], row["status"], row["error"], round(float(row["logprob"]), 4)
            found[f"row {uri}"] = (len(same), *map(str, said))
    return found
