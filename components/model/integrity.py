"""What is looked at before a registered model is run, for it is code: that its files are those that were registered.

A version has a tag with the digest of all its files. Who can change the files cannot change the tag, unless the
registry is theirs as well. It tells damage and tampering; it does not tell who registered the model.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from mlflow.models import Model

from components.artifacts import digest_of, file_digests
from components.errors import CaptioningError
from components.model.captioner import CAPTIONER_FOLDER, CODE_FILE

SEAL_TAG = "captioning.files"
"""Of a version: the digest of its files' names and contents."""
_LOADER = "mlflow.pyfunc.loaders.code_model"
_OURS = {"captioner": f"artifacts/{CAPTIONER_FOLDER}"}
_NOTES = {"registered_model_meta", "__pycache__"}
"""What MLflow and Python write beside a model that they load; neither is read (see `without_bytecode`)."""


def seal_of(folder: Path) -> str:
    """The digest of a model folder's files."""
    files = file_digests(folder)
    return digest_of({name: digest for name, digest in files.items() if not _NOTES & {*PurePosixPath(name).parts}})


def require_model(folder: Path, seal: str = "") -> None:
    """Raises `CaptioningError` when the files are not those of that seal, or are no model of the kind that we register.

    Of that kind is what MLflow runs by the code in its folder; another could be unpickled, or run code from elsewhere.
    """
    try:
        if seal and seal_of(folder) != seal:
            raise ValueError(f"files in {folder} are not those that were registered; nothing of them was run")
        _require_form(folder)
    except Exception as error:  # of a damaged description MLflow raises almost anything
        raise CaptioningError(str(error) or repr(error)) from error


def _require_form(folder: Path) -> None:
    function = Model.load(folder).flavors["python_function"]
    artifacts = {name: artifact["path"] for name, artifact in function["artifacts"].items()}
    code = {name: function.get(name) for name in ("loader_module", "model_code_path", "code", "data", "python_model")}
    ours = {"loader_module": _LOADER, "model_code_path": CODE_FILE, "code": None, "data": None, "python_model": None}
    if (code, artifacts) != (ours, _OURS):
        raise ValueError(f"its MLmodel describes another kind of model: {code}, {artifacts}")


@contextmanager
def without_bytecode() -> Iterator[None]:
    """Has Python compile what it imports in the block: bytecode beside a source would be run unread in its place."""
    import tensorflow  # noqa: F401 - which the models import: it takes three times as long to compile it

    before = sys.pycache_prefix
    with TemporaryDirectory() as empty:
        sys.pycache_prefix = empty
        try:
            yield
        finally:
            sys.pycache_prefix = before
