"""Toy sizes: the demo, which trains in seconds, a profile of a folder of photographs, and a trained captioner."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from components.demo.scenes import draw_archives
from components.profile import Profile
from components.registry import tracking
from components.registry.registration import add_version, challenge

DEMO = {
    "dataset.root": "scenes://train=48,dev=12",
    "vocabulary.min_count": 2,
    "training.epochs": 2,
    "training.steps_per_epoch": 10,
    "evaluation.gallery": 4,
    "limits.max_unknown_rate": 0.5,
}
MODEL = Path(__file__).parent / "components/registry/schema-4.zip"
ENCODER = {"name": "efficientnet_lite0", "weights": "package"}


def demo(changes: Mapping[str, object] = {}) -> tuple[str, ...]:
    """The options of a command that works on the small demo, with changes of the profile."""
    values = {**DEMO, **changes}
    return ("--profile", "demo", *(part for key, value in values.items() for part in ("--set", f"{key}={value}")))


def profile_of(root: Path, images: str, captions: str, encoder: Mapping[str, Any] = {}, **sections: Any) -> Profile:
    """Photographs and captions in `root`, half of them to validate on."""
    dataset = {"root": str(root), "holdout": 0.5, "sources": {"all": {"images": images, "captions": captions}}}
    content = {"name": "toy", "dataset": dataset, "encoder": ENCODER | dict(encoder), **sections}
    return Profile.model_validate(content)


def register(folder: Path, digest: str = "digest") -> str:
    """Unpacks the captioner into `folder` and registers it with the MLflow in use. Returns its run."""
    with ZipFile(MODEL) as archive:
        archive.extractall(folder)
    with tracking.tracked_run("train", {}) as run_id:
        challenge("captioner", add_version(folder, digest, "captioner", run_id, "a toy"))
    return run_id


def draw_scenes(folder: Path, images: Mapping[str, int], seed: int, size: int = 224) -> None:
    """Writes the demo's archives into `folder`."""
    for name, content in draw_archives(images, seed, size).items():
        (folder / name).write_bytes(content)
