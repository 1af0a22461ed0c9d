"""The flows that deployments run by the name of a profile; what they do is the flow that the command line runs."""

from typing import Annotated

from pydantic import Field

from flows.evaluate import EvaluationResult, evaluate_captioner
from flows.failure import flow
from flows.named_profiles import load_profile
from flows.train import TrainingResult, train_captioner

ProfileName = Annotated[str, Field(min_length=1)]
Change = Annotated[str, Field(pattern=r"^[a-z0-9_.]+=")]


@flow(name="train-by-name")
def train_by_name(profile: ProfileName, changes: list[Change] = []) -> TrainingResult:  # noqa: B006 - never changed
    """Trains a captioner, from photographs to a registered model.

    Args:
        profile: A profile's name (demo, flickr8k, coco2014), or the path of a TOML file on the worker's machine.
        changes: Values to replace, such as decoder.lstm_units=512.
    """
    return train_captioner.fn(load_profile(profile, changes))


@flow(name="evaluate-by-name")
def evaluate_by_name(
    profile: ProfileName,
    model: str = "models:/captioner@champion",
    split: str | None = None,
    changes: list[Change] = [],  # noqa: B006 - never changed
) -> EvaluationResult:
    """Evaluates a registered model on a split of a data set: scores and a gallery.

    Args:
        profile: A profile's name (demo, flickr8k, coco2014), or the path of a TOML file on the worker's machine.
        model: models:/NAME@ALIAS or models:/NAME/VERSION.
        split: A split of the profile's data set; by default the one it validates on.
        changes: Values to replace, such as evaluation.beam=5.
    """
    chosen = load_profile(profile, changes)
    return evaluate_captioner.fn(model, chosen, split or chosen.dataset.validation_split)
