"""Registered models whose files are not those that were registered: nothing of them is run."""

import os
import py_compile
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from zipfile import ZipFile

import cloudpickle
import mlflow
import pytest
import yaml

from components.errors import CaptioningError
from components.model.integrity import require_model, seal_of
from components.registry.registration import add_version
from components.registry.tracking import connect, tracked_run
from components.registry.versions import load_captioner
from tests.hostile.fuzzer import damaged
from tests.hostile.watch import try_all

pytestmark = pytest.mark.filterwarnings("ignore:::mlflow")  # its own imports warn
HERE = "tests.hostile.test_models"
SAMPLE = Path(__file__).parents[1] / "components" / "registry" / "schema-4.zip"
CAPTIONER = "artifacts/captioner"


@cache
def sample() -> dict[str, bytes]:
    """The files of a small model as they were registered."""
    with ZipFile(SAMPLE) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def unpacked(folder: Path) -> Path:
    for name, content in sample().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def attempt(key: str, folder: Path) -> None:
    name = sorted(sample())[int(key) % len(sample())]
    changed = damaged([sample()[name]], int(key))
    seal = seal_of(unpacked(folder / "model"))
    (folder / "model" / name).write_bytes(changed)
    require_model(folder / "model", seal)
    assert changed == sample()[name]


def attempt_description(key: str, folder: Path) -> None:
    unpacked(folder / "model")
    (folder / "model" / "MLmodel").write_bytes(damaged([sample()["MLmodel"]], int(key)))
    require_model(folder / "model")  # of what was registered before there were seals


@pytest.mark.parametrize("target", ["attempt", "attempt_description"])
def test_damaged_models(target: str, inputs: range) -> None:
    assert try_all(f"{HERE}:{target}", inputs, seconds=60) == {}


def described(**changes: object) -> Callable[[Path, Path], None]:
    """A change to what the MLmodel says of the Python function."""

    def change(model: Path, witness: Path) -> None:
        content = yaml.safe_load((model / "MLmodel").read_text())
        content["flavors"]["python_function"] |= changes
        (model / "MLmodel").write_text(yaml.safe_dump(content))

    return change


def touching(witness: Path) -> str:
    return f"open({str(witness)!r}, 'w').close()\n"


class Touches:
    """Unpickled, it makes a file."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return open, (str(self.witness), "w")


def code_before(model: Path, witness: Path) -> None:
    (model / "model.py").write_text(touching(witness) + (model / "model.py").read_text())


def pickled(model: Path, witness: Path) -> None:
    (model / "python_model.pkl").write_bytes(cloudpickle.dumps(Touches(witness)))
    described(python_model="python_model.pkl", model_code_path=None, loader_module="mlflow.pyfunc.model")(
        model, witness
    )


def code_elsewhere(model: Path, witness: Path) -> None:
    (model / "code").mkdir()
    (model / "code" / "numpy.py").write_text(touching(witness))
    described(code="code")(model, witness)


def loader(model: Path, witness: Path) -> None:
    (model / "code").mkdir()
    (model / "code" / "loader_of_ours.py").write_text(touching(witness))
    described(code="code", loader_module="loader_of_ours")(model, witness)


def bytecode(model: Path, witness: Path) -> None:
    source, before = model / "model.py", (model / "model.py").stat()
    original = source.read_bytes()
    source.write_text(touching(witness).ljust(len(original) - 1, "#") + "\n")
    compiled = py_compile.compile(str(source), doraise=True)
    assert compiled
    source.write_bytes(original)
    # Bytecode tells its source's size and time of change: both are right.
    content = bytearray(Path(compiled).read_bytes())
    content[8:16] = int(before.st_mtime).to_bytes(4, "little") + len(original).to_bytes(4, "little")
    Path(compiled).write_bytes(content)
    os.utime(source, (before.st_atime, before.st_mtime))


def linked(model: Path, witness: Path) -> None:
    shutil.move(model / CAPTIONER, witness.parent / "elsewhere")
    (model / CAPTIONER).symlink_to(witness.parent / "elsewhere")


def words(model: Path, witness: Path) -> None:
    path = model / CAPTIONER / "vocabulary.json"
    path.write_text(path.read_text().replace("kite", "bite"))


DEEDS: dict[str, Callable[[Path, Path], object]] = {
    "other code": code_before,
    "a pickle in place of the code": pickled,
    "code that comes before ours": code_elsewhere,
    "another loader": loader,
    "files outside the model": described(artifacts={"captioner": {"path": "../elsewhere", "uri": "../elsewhere"}}),
    "another graph": lambda model, _: (model / CAPTIONER / "saved_model" / "saved_model.pb").write_bytes(b""),
    "other words": words,
    "other requirements": lambda model, _: (model / "requirements.txt").write_text("evil==1.0"),
    "a file more": lambda model, _: (model / "sitecustomize.py").write_text(""),
    "a file less": lambda model, _: (model / "README.md").unlink(),
    "a folder behind a link": linked,
}
UNSEALED = tuple(DEEDS)[1:5]
"""What is refused of a model, too, that was registered before there were seals."""


@pytest.fixture
def registry(migrated: Path, tmp_path: Path) -> Iterator[None]:
    connect(f"sqlite:///{shutil.copy(migrated, tmp_path / 'mlflow.db')}", tmp_path / "files")
    yield
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)


@pytest.fixture
def model(registry: None, tmp_path: Path) -> Path:
    """Where the files of `models:/captioner/1` lie."""
    with tracked_run("train", {}) as run_id:
        add_version(unpacked(tmp_path / "model"), "digest", "captioner", run_id, "a card")
    return Path(mlflow.artifacts.download_artifacts("models:/captioner/1"))


@pytest.mark.parametrize("deed", DEEDS)
def test_a_model_whose_files_changed_is_not_run(deed: str, model: Path, tmp_path: Path) -> None:
    DEEDS[deed](model, tmp_path / "witness")
    with pytest.raises(CaptioningError, match=r"cannot load models:/captioner/1: .*(registered|another kind).*backup"):
        load_captioner("models:/captioner/1")
    assert not (tmp_path / "witness").exists()


@pytest.mark.parametrize("deed", UNSEALED)
def test_a_model_of_another_kind_is_not_run_where_there_is_no_seal(deed: str, registry: None, tmp_path: Path) -> None:
    folder = unpacked(tmp_path / "model")
    DEEDS[deed](folder, tmp_path / "witness")
    mlflow.register_model(folder.as_uri(), "old")
    with pytest.raises(CaptioningError, match=r"cannot load models:/old/1: its MLmodel describes another kind"):
        load_captioner("models:/old/1")
    assert not (tmp_path / "witness").exists()


def test_bytecode_beside_the_code_is_neither_run_nor_written(model: Path, tmp_path: Path) -> None:
    bytecode(model, tmp_path / "witness")
    planted = {path: path.read_bytes() for path in model.rglob("*.pyc")}
    assert planted
    assert load_captioner("models:/captioner/1").vocabulary.words
    assert not (tmp_path / "witness").exists()
    assert {path: path.read_bytes() for path in model.rglob("*.pyc")} == planted


@pytest.mark.parametrize(
    "content", [b"a: &a [x,x]\nb: &b [*a,*a]\nc: " + b"[" * 10_000, b"!!python/object/apply:os.system [ls]", b"\0"]
)
def test_a_description_that_is_none_is_told(content: bytes, tmp_path: Path) -> None:
    (unpacked(tmp_path) / "MLmodel").write_bytes(content)
    with pytest.raises(CaptioningError):
        require_model(tmp_path)
