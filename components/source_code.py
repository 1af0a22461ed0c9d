"""The source of this project's modules: what each imports, which data files it reads, and digests of both.

Packages from elsewhere do not count, nor do imports for type checkers only, which are never run.
"""

import ast
import functools
import hashlib
import importlib.util
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

OURS = ("components", "data_contracts", "flows")

NEUTRAL: Mapping[str, str] = {
    "components.artifacts": "keeps what a stage wrote; its SCHEMA_VERSION says when the files change",
    "components.config": "declares values; the values themselves are part of the key",
    "components.archives.download": "brings files, whose content is part of the key",
    "components.encoder.earlier_code": "says which code gives the same embeddings",
    "components.errors": "says what went wrong",
    "components.profile": "reads values; the values themselves are part of the key",
    "components.progress": "shows how far the work is",
    "components.provenance": "says what work depends on",
    "components.redaction": "hides secrets in what is said",
    "components.registry.versions": "finds a registered model, whose digest is part of the key",
    "components.model.integrity": "refuses a model whose files changed",
    "components.registry.tracking": "keeps the run in MLflow",
    "components.training_config": "declares values; the values themselves are part of the key",
    "components.source_code": "says what work depends on",
    "flows.settings": "says where files lie, never what is in them",
}
"""Modules that work passes through and that do not change its result, each with the reason."""


def closure(modules: Iterable[str]) -> list[str]:
    """These modules and everything of this project that they import in turn, without the neutral ones, sorted.

    What a module names in a string is copied into a model, or run by that name, so none of that is neutral.
    """
    found = _reached(modules, NEUTRAL)
    named = {name for module in found for name in _read(module_path(module)).named}
    return sorted(found | _reached(named, ()))


def _reached(modules: Iterable[str], neutral: Container[str]) -> set[str]:
    waiting, found = list(modules), set[str]()
    while waiting:
        module = waiting.pop()
        if module not in found and module not in neutral:
            found.add(module)
            source, package = _read(module_path(module)), module.rpartition(".")[0]
            waiting += [*source.imports, *([package] if package else []), *([] if neutral else source.named)]
    return found


def digests(modules: Iterable[str]) -> dict[str, str]:
    """SHA-256 of the code of each module and of the data files it reads: `package.module` and `package.module/file`.

    Comments, docstrings and layout do not count.
    """
    found = {}
    for module in modules:
        path = module_path(module)
        found[module] = _read(path).digest
        for file in _data_files(path):
            found[f"{module}/{file.name}"] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def own_imports(tree: ast.AST) -> Iterator[tuple[ast.Import | ast.ImportFrom, str, str | None]]:
    """Each import of this project's modules: the node, the module, and the name taken from it (`None`: the module)."""
    for node in _runtime_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name, None) for alias in node.names if is_ours(alias.name))
        elif isinstance(node, ast.ImportFrom) and node.module and is_ours(node.module):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield (node, whole, None) if _find(whole) else (node, node.module, alias.name)


def module_path(module: str) -> Path:
    """Where the source of a module of this project lies. Raises `ModuleNotFoundError` when it has none."""
    path = _find(module)
    if path is None:
        raise ModuleNotFoundError(f"no source for {module}")
    return path


def digest_of_code(text: str) -> str:
    """SHA-256 of what the code does, 64 hex digits: of its syntax tree without docstrings."""
    bare = _WithoutText().visit(ast.parse(text))
    return hashlib.sha256(ast.dump(bare, annotate_fields=False).encode()).hexdigest()


def is_ours(module: str) -> bool:
    """Whether a module's name is one of this project's."""
    return module.partition(".")[0] in OURS


class _WithoutText(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if text else node


class _Source(NamedTuple):
    digest: str
    imports: frozenset[str]
    """Modules of this project."""
    named: frozenset[str]
    """The same that stand in a string."""
    texts: frozenset[str]
    """Its strings."""


def _read(path: Path) -> _Source:
    status = path.stat()
    return _parse(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=512)
def _parse(path: Path, _changed: int, _size: int) -> _Source:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    imports = frozenset(where for _, where, _ in own_imports(tree))
    return _Source(digest_of_code(text), imports, frozenset(_named_modules(tree)), frozenset(_strings(tree)))


def _named_modules(tree: ast.AST) -> set[str]:
    """Modules whose whole name stands in a string: they are bundled, or run, by that name."""
    return {text for text in _strings(tree) if "." in text and is_ours(text) and _find(text)}


@functools.cache
def _find(module: str) -> Path | None:
    """By its files: Python's own search imports the packages around a module, and with them what these import."""
    top, *parts = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0], *parts)
    return next((each for each in (path.with_suffix(".py"), path / "__init__.py") if each.is_file()), None)


def _data_files(path: Path) -> list[Path]:
    """The files beside a module that it names in a string, and all files of folders beside it that it names."""
    texts = _read(path).texts
    named = [each for each in path.parent.iterdir() if each.name in texts]
    files = [file for each in named for file in (each.rglob("*") if each.is_dir() else [each])]
    return sorted(file for file in files if file.is_file() and file.suffix not in (".py", ".pyc"))


def _strings(tree: ast.AST) -> set[str]:
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def _runtime_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those below `if TYPE_CHECKING`."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)
