"""Profiles of toy size: the demo, which trains in seconds, and one of a folder of photographs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.profile import Profile

DEMO = {
    "dataset.scenes.images": "{train=48, dev=12}",
    "vocabulary.min_count": 2,
    "training.epochs": 2,
    "training.steps_per_epoch": 10,
    "evaluation.gallery": 4,
    "limits.max_unknown_rate": 0.5,
}
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
