import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components import provenance
from components.provenance import commit, sources_of

CODE = """
from functools import partial
from components.vocabulary.tokenizer import tokenize
from components.evaluation import bootstrap
import components.files
from components.dataset.rows import read_csv

LIMIT = 3

def count(text):
    return len(tokenize(text)) + LIMIT

def unrelated():
    return read_csv

def make(threshold, captured):
    def inner(x):
        return x > threshold

    def work(folder: read_csv) -> read_csv:
        from components.dataset import splits

        return inner(count("a")) and splits and captured
    return work

nested = make(1, None)
short = lambda folder: bootstrap
bound = partial(make(2, None), "folder")
"""


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], Any]:
    """A module of this code, anew each time."""

    def of(code: str) -> Any:
        path = tmp_path / "some_work.py"
        path.write_text(code, encoding="utf-8")
        spec = importlib.util.spec_from_file_location("some_work", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["some_work"] = module
        spec.loader.exec_module(module)
        return module

    return of


def test_work_depends_on_what_it_reaches(load: Callable[[str], Any]) -> None:
    found = set(sources_of(load(CODE).nested))
    assert found == {
        *("some_work:make.<locals>.work", "some_work:make.<locals>.inner", "some_work:count", "some_work:LIMIT"),
        *sources_of_modules("components.vocabulary.tokenizer", "components.dataset.splits"),
    }


def sources_of_modules(*modules: str) -> list[str]:
    return provenance.closure(modules)


def test_a_lambda_and_a_partial_are_work_too(load: Callable[[str], Any]) -> None:
    module = load(CODE)
    assert "components.evaluation.bootstrap" in sources_of(module.short)
    assert set(sources_of(module.bound)) == set(sources_of(module.nested))


def test_the_classes_of_captured_objects_count(load: Callable[[str], Any]) -> None:
    from components.vocabulary.vocabulary import Vocabulary

    module, vocabulary = load(CODE), Vocabulary((), ())
    assert "components.vocabulary.vocabulary" not in sources_of(module.nested)
    for captured in (vocabulary, [vocabulary], {"a": (vocabulary,)}, vocabulary.encode):
        assert "components.vocabulary.vocabulary" in sources_of(module.make(1, captured))


@pytest.mark.parametrize(
    ("before", "after", "moves"),
    [
        ("x > threshold", "x >= threshold", True),
        ("LIMIT = 3", "LIMIT = 4", True),
        ("+ LIMIT", "- LIMIT", True),
        ("import splits\n", "import splits\n        a = 1\n", True),
        ("return read_csv", "return None", False),
        ("LIMIT = 3", "LIMIT = 3  # words", False),
        ("def count(text):", "def count(text: str) -> int:", False),
        ("nested =", "# not far below\n\nnested =", False),
    ],
)
def test_an_edit_counts_where_the_work_reaches_it(
    load: Callable[[str], Any], before: str, after: str, moves: bool
) -> None:
    plain = sources_of(load(CODE).nested)
    assert CODE.count(before) == 1
    assert (sources_of(load(CODE.replace(before, after)).nested) != plain) == moves


def test_work_without_source_is_an_error() -> None:
    namespace: dict[str, Any] = {"__name__": "console"}
    exec("def work(folder): return 1", namespace)
    with pytest.raises(ModuleNotFoundError, match="no source for work"):
        sources_of(namespace["work"])


def test_the_commit_is_that_of_the_checkout() -> None:
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        pytest.skip("not a git checkout")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True).stdout
    assert commit().partition("+")[0] == head.strip()


def test_there_is_no_commit_outside_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "components" / "provenance.py"))
    assert commit.__wrapped__() == ""
    (tmp_path / ".git").write_text("gitdir: nowhere")
    assert commit.__wrapped__() == ""
