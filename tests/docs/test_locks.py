import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]
OWN = ("captioning", "components", "data_contracts", "flows")
OPTIONAL = {"pyspark", "prefect_ray", "jax"}
"""Of the extras `spark` and `ray`, which say so when they are missing, and of a Keras that runs on JAX."""


def locked(name: str) -> dict[str, str]:
    """The versions in a lock, by canonical name."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    pins = (re.match(r"([\w.-]+)(?:\[[^]]*\])?==([^\s;]+)", line) for line in lines)
    return {re.sub(r"[-_.]+", "-", pin[1]).lower(): pin[2] for pin in pins if pin}


def test_the_product_imports_what_its_lock_has_and_nothing_of_development() -> None:
    imported = set()
    for path in (path for top in OWN for path in (ROOT / top).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])
    foreign = imported - set(sys.stdlib_module_names) - {*OWN, *OPTIONAL}
    distributions, lock = packages_distributions(), locked("requirements.lock")
    names = {module: [re.sub(r"[-_.]+", "-", each).lower() for each in distributions[module]] for module in foreign}
    assert {module for module, found in names.items() if lock.keys().isdisjoint(found)} == set()


def test_both_locks_agree() -> None:
    product, development = locked("requirements.lock"), locked("requirements-dev.lock")
    assert product.items() <= development.items()
    assert {"pyspark", "ray", "playwright", "mypy", "moto"}.isdisjoint(product)
