"""The registered model as MLflow runs it: a table of photographs in, a table of captions out.

Its code travels inside the model (see `components.model.bundle`) and imports nothing of this project there.
"""

import base64
import os
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException

from components.decoder.caption import Caption, Search
from components.errors import ConfigurationError
from components.model.captioner import Captioner

COLUMNS = ("embedding", "image", "path")
"""What an input is given as: one of them."""
IMAGE_ROOT = "CAPTIONING_IMAGE_ROOT"
"""Environment variable: the folder that a `path` may lie in. Without it no path is read."""


class CaptionerModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Captions photographs and embeddings."""

    captioner: Captioner

    def load_context(self, context: Any) -> None:
        """Loads the package that the model was registered with."""
        self.captioner = Captioner(Path(context.artifacts["captioner"]))

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row per input: `caption` and `logprob`, the best; `captions` and `logprobs`, the `top_n` best; `error`.

        An input has an `embedding`, or an `image` (the bytes of an image file, or base64 text of them), or a `path`.
        One that cannot be read gets an empty caption and the reason in `error`. Raises `MlflowException`, which a
        server answers with 400, for parameters and columns that do not exist.
        """
        try:
            search, top_n = choose(params or {})
            rows = self._unfold(model_input)
        except (ConfigurationError, TypeError, ValueError) as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        return self._caption_rows(rows, search, top_n)

    def _unfold(self, given: pd.DataFrame) -> pd.DataFrame:
        """One row per input. MLflow makes one row of a request that gives columns as lists, `{"image": [A, B]}`."""
        columns = {name: list(given[name]) for name in COLUMNS if name in given}
        if not columns:
            raise ConfigurationError(f"an input has one of the columns {', '.join(COLUMNS)}; here is none of them")
        if len(given) == 1:
            folded = {name: values[0] for name, values in columns.items() if name != "embedding"}
            columns |= {name: list(value) for name, value in folded.items() if isinstance(value, list | np.ndarray)}
        numbers = columns.get("embedding", [])
        if len(numbers) == self.captioner.dimension and all(isinstance(number, int | float) for number in numbers):
            columns["embedding"] = [numbers]
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise ConfigurationError(f"every column has one value per input; here are {lengths}")
        return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})

    def _caption_rows(self, given: pd.DataFrame, search: Search, top_n: int) -> pd.DataFrame:
        embeddings, errors = self._embed(given)
        good = [row for row, error in enumerate(errors) if not error]
        rows: list[list[Caption]] = [[] for _ in errors]
        for row, captions in zip(good, self.captioner.caption(embeddings, search), strict=True):
            rows[row] = captions[:top_n]
        return pd.DataFrame(
            {
                "caption": [captions[0].text if captions else "" for captions in rows],
                # None, not NaN, which is no JSON.
                "logprob": pd.Series([captions[0].logprob if captions else None for captions in rows], dtype=object),
                "captions": [[caption.text for caption in captions] for captions in rows],
                "logprobs": [[caption.logprob for caption in captions] for captions in rows],
                "error": errors,
            }
        )

    def _embed(self, given: pd.DataFrame) -> tuple[np.ndarray, list[str]]:
        """Embeddings of the inputs that have one or can be embedded, in their order, and why the others have none."""
        columns = {name: list(given[name]) for name in COLUMNS if name in given}
        found: list[np.ndarray | bytes | str] = [
            self._read({name: values[row] for name, values in columns.items()}) for row in range(len(given))
        ]
        photographs = [row for row, each in enumerate(found) if isinstance(each, bytes)]
        errors = [each if isinstance(each, str) else "" for each in found]
        if photographs and not self.captioner.encoders:
            for row in photographs:
                errors[row] = "this model has no encoder in it: give embeddings"
        elif photographs:
            vectors, bad = self.captioner.embed([found[row] for row in photographs])  # type: ignore[misc]
            embedded = iter(vectors)
            for place, row in enumerate(photographs):
                if place in bad:
                    errors[row] = str(bad[place])
                else:
                    found[row] = next(embedded)
        good = [each for each, error in zip(found, errors, strict=True) if not error]
        return np.array(good, np.float32).reshape(len(good), self.captioner.dimension), errors

    def _read(self, given: dict[str, Any]) -> np.ndarray | bytes | str:
        """An input's embedding, or the bytes of its image, or what is wrong with it."""
        embedding, image, path = (given.get(name) for name in COLUMNS)
        if isinstance(embedding, list | tuple | np.ndarray):
            try:
                vector = np.asarray(embedding, np.float32)
            except (TypeError, ValueError, OverflowError):
                vector = np.empty(0, np.float32)
            if vector.shape == (self.captioner.dimension,) and np.isfinite(vector).all():
                return vector
            return f"an embedding is {self.captioner.dimension} finite numbers"
        if isinstance(image, bytes | bytearray | memoryview):
            return bytes(image)
        if isinstance(image, str):
            try:
                return base64.b64decode("".join(image.split()), validate=True)
            except ValueError:
                return "neither the bytes of an image nor base64 of them"
        if isinstance(path, str):
            return _read_file(path)
        for name, value in given.items():
            if not (pd.api.types.is_scalar(value) and pd.isna(value)):
                return (
                    f"{name} is of type {type(value).__name__}: an image is base64 text, an embedding a list of numbers"
                )
        return "no image, no embedding and no path"


def choose(params: dict[str, Any]) -> tuple[Search, int]:
    """The search that a request's parameters ask for, and how many captions. Raises `ConfigurationError`."""
    given = dict(params)
    if missing := [name for name, value in given.items() if value is None]:
        raise ConfigurationError(f"{', '.join(missing)}: no value is given; leave it out for the default")
    top_n, method = int(given.pop("top_n", 1)), given.pop("search", "greedy")
    if top_n < 1:
        raise ConfigurationError(f"top_n must be 1 or more, not {top_n}")
    if method == "beam" and top_n > 1:
        given["beam"] = max(int(given.get("beam", Search.beam)), top_n)
    return Search(method=method, **given), top_n


def _read_file(path: str) -> bytes | str:
    root = os.environ.get(IMAGE_ROOT)
    if not root:
        return f"no path is read unless {IMAGE_ROOT} names the folder that it may lie in"
    try:
        file = Path(root, path).resolve()
        if not file.is_relative_to(Path(root).resolve()):
            return f"{path} is not in the folder that {IMAGE_ROOT} names"
        return file.read_bytes()
    except (OSError, ValueError) as error:
        return f"{path} cannot be read: {error}"


mlflow.models.set_model(CaptionerModel())
