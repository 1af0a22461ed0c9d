"""One self-contained file out of a module and what it imports of this project.

A served model that imported this project would run today's code with last month's weights; with its code inside
it, it also loads where the project is not installed.
"""

import ast
import importlib.util
from pathlib import Path

OURS = ("components", "data_contracts", "flows")


def bundle(module: str) -> str:
    """The source of `module` behind that of every module of ours it imports, each once, without those imports.

    Only `from x import name` of ours is understood; names must not clash between the modules. Both are tested by
    running the bundle alone.
    """
    sources: dict[str, str] = {}
    _collect(module, sources)
    return "".join(f"# ---- {name}\n{source.strip()}\n\n\n" for name, source in sources.items())


def _collect(module: str, sources: dict[str, str]) -> None:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no source for {module}")
    text = Path(spec.origin).read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in OURS:
            if node.module not in sources:
                _collect(str(node.module), sources)
            for number in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[number] = ""
    sources[module] = "".join(lines)
