"""The notebook's recipe, small and without randomness, which most tests train by."""

import tomllib
from typing import Any

from components.profile import NOTEBOOK
from components.training_config import DecoderConfig, TrainingConfig

RECIPE: dict[str, dict[str, Any]] = tomllib.loads(NOTEBOOK.read_text(encoding="utf-8"))


def notebook_decoder(**values: Any) -> DecoderConfig:
    return DecoderConfig.model_validate({**RECIPE["decoder"], **values})


def notebook_training(**values: Any) -> TrainingConfig:
    return TrainingConfig.model_validate({**RECIPE["training"], **values})
