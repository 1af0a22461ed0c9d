"""What a result was made by: the code that a function depends on, and the commit it is of.

The import closure of a function decides the key of a stage, so that a change to the code makes the result anew. Modules
count whole, with everything that they import in turn. The module of the function itself and the modules of `flows` hold
functions that have nothing to do with one another, so there only the definitions count that the function reaches.
"""

import ast
import functools
import subprocess
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from components import source_code
from components.source_code import NEUTRAL, closure, digests, is_ours, module_path, own_imports

Function = ast.Lambda | ast.FunctionDef | ast.AsyncFunctionDef


class _Module(NamedTuple):
    """What is in a source file."""

    functions: dict[int, list[Function]]
    """All of them, by the line that they or their decorators begin in."""
    definitions: dict[str | None, ast.stmt]
    """The statements at its top that define a name, by that name."""
    imports: dict[str, tuple[str, str | None]]
    """The module that a name is imported from, and its name there (`None`: it is the module itself)."""


def sources_of(*work: Callable[..., Any]) -> dict[str, str]:
    """SHA-256 of each piece of code and each data file that the functions depend on, by name.

    Names are `package.module`, `package.module:definition` or `package.module/file`. What a function has captured
    counts too: other functions, and the classes of objects. Neutral modules, comments and docstrings do not count.
    Raises `ModuleNotFoundError` for a function without source, such as one typed into a console.
    """
    found, modules = dict[str, str](), set[str]()
    for function in _functions(work, modules):
        module = _module_of(function)
        for node in _nodes_of(function, module):
            _add(f"{function.__module__}:{function.__qualname__}", function.__module__, module, node, found, modules)
    return found | digests(closure(modules))


@functools.cache
def commit() -> str:
    """The git commit of the checkout this code runs from, with `+changes` when files differ; else empty."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return ""

    def git(*words: str) -> str:
        answer = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True)
        return answer.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):  # no git, or another user's checkout
        return ""


def _functions(work: tuple[object, ...], modules: set[str]) -> Iterator[types.FunctionType]:
    """The functions and those they have captured; the modules of captured objects' classes go to `modules`."""
    waiting, seen = list(work), set[int]()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        match each:
            case functools.partial():
                waiting += [each.func, *each.args, *each.keywords.values()]
            case types.MethodType():
                waiting += [each.__func__, each.__self__]
            case types.FunctionType():
                yield each
                waiting += [cell.cell_contents for cell in each.__closure__ or () if _is_filled(cell)]
                waiting += [*(each.__defaults__ or ()), *(each.__kwdefaults__ or {}).values()]
            case list() | tuple():
                waiting += each
            case dict():
                waiting += each.values()
            case _:
                kind = each if isinstance(each, type) else type(each)
                modules |= {kind.__module__} if is_ours(kind.__module__) else set()


def _is_filled(cell: types.CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def _module_of(function: types.FunctionType) -> _Module:
    if is_ours(function.__module__):
        return _read(module_path(function.__module__))
    try:
        return _read(Path(function.__code__.co_filename))
    except OSError as error:
        raise ModuleNotFoundError(f"no source for {function.__qualname__}") from error


def _read(path: Path) -> _Module:
    status = path.stat()
    return _parse(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=64)
def _parse(path: Path, _changed: int, _size: int) -> _Module:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions: dict[int, list[Function]] = {}
    for node in ast.walk(tree):
        if isinstance(node, Function):
            decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
            functions.setdefault(min(part.lineno for part in (node, *decorators)), []).append(node)
    return _Module(functions, _definitions(tree), _names_imported(tree))


def _nodes_of(function: types.FunctionType, module: _Module) -> list[ast.AST]:
    """The function's definition; of several lambdas that begin in one line, all."""
    kinds = (ast.Lambda,) if function.__name__ == "<lambda>" else (ast.FunctionDef, ast.AsyncFunctionDef)
    begun = module.functions.get(function.__code__.co_firstlineno, [])
    found: list[ast.AST] = [node for node in begun if isinstance(node, kinds)]
    if not found:
        raise ModuleNotFoundError(f"no source for {function.__qualname__}")
    return found


def _add(name: str, where: str, module: _Module, node: ast.AST, found: dict[str, str], modules: set[str]) -> None:
    """Adds a definition, and those that it reaches, to `found`, and the modules that it uses to `modules`."""
    if name in found or where in NEUTRAL:
        return
    bare = _WithoutAnnotations().visit(ast.parse(ast.unparse(node)))
    found[name] = source_code.digest_of_code(ast.unparse(bare))
    reached = [(source, original) for _, source, original in own_imports(bare)]
    for used in {each.id for each in ast.walk(bare) if isinstance(each, ast.Name)}:
        if used in module.definitions:
            _add(f"{where}:{used}", where, module, module.definitions[used], found, modules)
        elif used in module.imports:
            reached.append(module.imports[used])
    for source, original in reached:
        there = _read(module_path(source))
        if source.startswith("flows.") and original in there.definitions:
            _add(f"{source}:{original}", source, there, there.definitions[original], found, modules)
        else:
            modules.add(source)


def _definitions(tree: ast.Module) -> dict[str | None, ast.stmt]:
    """The statements at a module's top that define a name, by that name."""
    found: dict[str | None, ast.stmt] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {each.id: node for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)}
    return found


def _names_imported(tree: ast.Module) -> dict[str, tuple[str, str | None]]:
    found: dict[str, tuple[str, str | None]] = {}
    for node, module, name in own_imports(tree):
        last = name or module.rpartition(".")[2]
        for alias in node.names:
            if alias.name in (last, module):
                found[alias.asname or alias.name] = module, name
    return found


class _WithoutAnnotations(ast.NodeTransformer):
    """Of functions: a type that is named there is not used by what runs."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node
