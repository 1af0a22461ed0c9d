"""One self-contained file out of a module and what it imports of this project.

A served model that imported this project would run today's code with last month's weights; with its code inside
it, it also loads where the project is not installed.
"""

import ast

from components.source_code import module_path, own_imports


def bundle(module: str) -> str:
    """The source of `module` behind that of every module of ours it imports, each once, without those imports.

    Only `from x import name` of ours is understood; names must not clash between the modules. Both are tested by
    running the bundle alone.
    """
    sources: dict[str, str] = {}
    _collect(module, sources)
    return "".join(f"# ---- {name}\n{source.strip()}\n\n\n" for name, source in sources.items())


def _collect(module: str, sources: dict[str, str]) -> None:
    text = module_path(module).read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    for node, imported, _ in sorted(own_imports(ast.parse(text)), key=lambda found: found[0].lineno):
        if imported not in sources:
            _collect(imported, sources)
        for number in range(node.lineno - 1, node.end_lineno or node.lineno):
            lines[number] = ""
    sources[module] = "".join(lines)
