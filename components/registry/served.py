"""The registered model as MLflow runs it: a table of photographs in, a table of captions out.

Its code travels inside the model (see `components.registry.bundle`) and imports nothing of this project there.
"""

import base64
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

from components.decoder.caption import Search
from components.registry.captioner import Captioner


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
        embeddings, bad = self.captioner.embed([_image_bytes(image) for image in model_input["image"]])
        captions = self.captioner.caption(embeddings, Search(**(params or {})))
        rows = pd.DataFrame({"caption": "", "logprob": float("nan"), "error": ""}, index=range(len(model_input)))
        good = [row for row in rows.index if row not in bad]
        rows.loc[good, "caption"] = [best.text for best, *_ in captions]
        rows.loc[good, "logprob"] = [best.logprob for best, *_ in captions]
        rows["error"] = [str(bad.get(row, "")) for row in rows.index]
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
