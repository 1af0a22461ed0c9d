import subprocess
from collections.abc import Container
from pathlib import Path

import grimp
import pytest

from components.source_code import NEUTRAL, OURS, closure, digest_of_code, digests, module_path

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """The imports between this project's modules, found by another program."""
    return grimp.build_graph(*OURS, exclude_type_checking_imports=True, cache_dir=None)


def reachable(graph: grimp.ImportGraph, modules: set[str], neutral: Container[str]) -> set[str]:
    waiting, found = [*modules], set[str]()
    while waiting:
        module = waiting.pop()
        if module not in found and module not in neutral:
            found.add(module)
            waiting += graph.find_modules_directly_imported_by(module)
            waiting += [module.rpartition(".")[0]] if "." in module else []
    return found


def test_the_closure_is_that_of_the_import_graph(graph: grimp.ImportGraph) -> None:
    modules = [module for module in graph.modules if module not in NEUTRAL and not module.startswith("flows")]
    assert len(modules) > 80
    bundle = reachable(graph, {"components.model.pyfunc_model"}, ())
    for module in modules:
        imported = reachable(graph, {module}, NEUTRAL)
        names_it = "components.model.package" in imported
        assert set(closure([module])) == (imported | bundle if names_it else imported), module


def test_what_is_bundled_into_a_model_counts_with_its_neutral_modules() -> None:
    assert "components.errors" in closure(["components.model.package"])
    assert "components.errors" not in closure(["components.training.train"])


def test_neutral_modules_exist_and_have_a_reason() -> None:
    assert all(module_path(module).is_file() and reason for module, reason in NEUTRAL.items())


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("# Über alles\ndef double( x ):\n\n    return 2*x  # twice\n", True),
        ('"""Of a module."""\ndef double(x):\n    """Of a function."""\n    return 2 * x\n', True),
        ("def double(x):\n    return 3 * x\n", False),
        ("def double(x):\n    return 2.0 * x\n", False),
        ("def double(y):\n    return 2 * y\n", False),
        ("def double(x):\n    return 2 * x\n\n\nx = 1\n", False),
    ],
)
def test_code_changes_a_digest_and_text_about_it_does_not(text: str, same: bool) -> None:
    assert (digest_of_code(text) == digest_of_code("def double(x):\n    return 2 * x\n")) == same


def test_a_string_that_is_used_changes_a_digest() -> None:
    assert digest_of_code("def f():\n    return 'a'\n") != digest_of_code("def f():\n    return 'b'\n")


def test_every_data_file_counts_where_it_is_read() -> None:
    listed = subprocess.run(["git", "ls-files", *OURS], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    files = {Path(name).name for name in listed.stdout.splitlines() if not name.endswith(".py")}
    modules = (path for top in OURS for path in (ROOT / top).rglob("*.py"))
    names = (".".join(path.relative_to(ROOT).with_suffix("").parts) for path in modules)
    read = {name.partition("/")[2] for name in digests(name.removesuffix(".__init__") for name in names)}
    assert files == read - {""}


def test_an_unknown_module_is_an_error() -> None:
    for name in ("components.no_such_module", "no_such_package"):
        with pytest.raises(ModuleNotFoundError, match=name):
            closure([name])
