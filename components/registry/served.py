"""The registered model as MLflow runs it: a table of photographs in, a table of captions out.

Its code travels inside the model (see `components.registry.bundle`) and imports nothing of this project there.
"""

import base64
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

from components.errors import BadImageError
from components.registry.captioner import Captioner, Search


class CaptionerModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Captions photographs given as the bytes of image files, or as base64 text of them."""

    captioner: Captioner

    def load_context(self, context: Any) -> None:
        """Loads the package that the model was registered with."""
        self.captioner = Captioner(Path(context.artifacts["captioner"]))

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Column `image` → columns `caption`, `logprob`, `error`, a row an image.

        An image that cannot be read gets an empty caption and the reason in `error`.
        """
        rows = pd.DataFrame({"caption": "", "logprob": float("nan"), "error": ""}, index=range(len(model_input)))
        found = self.captioner.read([_image_bytes(image) for image in model_input["image"]])
        pixels = {row: image for row, image in enumerate(found) if not isinstance(image, BadImageError)}
        embeddings = self.captioner.embed(list(pixels.values()))
        captions = self.captioner.caption(embeddings, Search(**(params or {})))
        rows.loc[list(pixels), "caption"] = [best.text for best, *_ in captions]
        rows.loc[list(pixels), "logprob"] = [best.logprob for best, *_ in captions]
        rows["error"] = ["" if row in pixels else str(image) for row, image in enumerate(found)]
        return rows


def _image_bytes(image: object) -> bytes:
    """The bytes given, or those that base64 text stands for; of anything else none, which `read` reports."""
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    try:
        return base64.b64decode("".join(image.split()), validate=True) if isinstance(image, str) else b""
    except ValueError:
        return b"no base64"


mlflow.models.set_model(CaptionerModel())
