"""What all tasks share: a stage of the line is materialized in the home, and recorded in MLflow."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import NewType, ParamSpec, TypeVar

import prefect
from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext, TaskRunContext

from components.artifacts import Artifact, Stage, made_by, run_stage
from components.provenance import sources_of
from components.registry import tracking
from flows.settings import settings

log = logging.getLogger(__name__)

UNITS = {
    **{"dataset": "sources", "captions": "captions", "vocabulary": "words", "photographs": "photographs"},
    **{"embeddings": "embeddings", "joined-embeddings": "embeddings", "decoder": "epochs", "package": "files"},
    **{"evaluation": "images", "comparison": "scores", "inputs": "images", "scoring": "images"},
}
"""What a stage's rows are, in the log."""

P = ParamSpec("P")
R = TypeVar("R")

# What a task takes and gives, for the type checker: each is an `Artifact` in a folder of its own.
Dataset = NewType("Dataset", Artifact)
CaptionTable = NewType("CaptionTable", Artifact)
VocabularyFile = NewType("VocabularyFile", Artifact)
Photographs = NewType("Photographs", Artifact)
Embeddings = NewType("Embeddings", Artifact)
DecoderWeights = NewType("DecoderWeights", Artifact)
Package = NewType("Package", Artifact)
Evaluation = NewType("Evaluation", Artifact)
Comparison = NewType("Comparison", Artifact)
Check = NewType("Check", Artifact)
Inputs = NewType("Inputs", Artifact)
Predictions = NewType("Predictions", Artifact)


def task(function: Callable[P, R]) -> Task[P, R]:
    """A Prefect task without Prefect's cache: stages find finished work themselves, by content."""
    return prefect.task(cache_policy=NO_CACHE)(function)


def gpu_task(function: Callable[P, R]) -> Task[P, R]:
    """A task that counts against the limit of tasks on the GPU."""
    return prefect.task(cache_policy=NO_CACHE, tags=["gpu"])(function)


def is_in_prefect() -> bool:
    """Whether this runs in a flow or a task of Prefect, which can show things; a notebook calls the same functions."""
    return FlowRunContext.get() is not None or TaskRunContext.get() is not None


def materialize(stage: Stage, work: Callable[[Path], int], *, resumable: bool = False) -> Artifact:
    """The stage's artefact in this installation's home, found or made; see `components.artifacts.run_stage`.

    The code of `work` is part of the stage's key.
    """
    artifact = run_stage(settings().home, with_sources(stage, work), work, resumable=resumable)
    message = "reused" if artifact.reused else f"{artifact.seconds:.1f} s"
    log.info("%s: %s %s, %s", stage.name, f"{artifact.rows:,}", UNITS.get(stage.name, "rows"), message)
    return artifact


def record_stages(stages: Iterable[Artifact], run_id: str) -> None:
    """Keeps with the MLflow run what each stage was made by: its key, config, digests of code, and commit."""
    made = {stage.stage: {"key": stage.key, "digest": stage.digest, **made_by(stage)} for stage in stages}
    tracking.log_dict(run_id, made, "stages.json")


def with_sources(stage: Stage, work: Callable[[Path], int]) -> Stage:
    """The stage, with the code of its work in its key."""
    return replace(stage, sources=sources_of(work))
