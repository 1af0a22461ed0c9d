"""Inputs that are tried in a child process, which is watched meanwhile: time, memory, files, programs, connections.

`try_all("tests.hostile.test_x:attempt", keys)` calls `attempt(key, folder)` for every key, each in a new, empty folder.
It may return, or raise a `CaptioningError` that says something; whatever else happens is told by key.
"""

import ast
import contextlib
import faulthandler
import importlib
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from components.errors import CaptioningError
from components.provenance import commit

ROOT = Path(__file__).parents[2]
SECONDS = 30
"""For one input; most take milliseconds."""
MEMORY = 3 << 29
"""Bytes of addresses, beyond what the process had before the first input."""

STARTS = {"subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "os.fork"}
OWN = [sys.executable, "-P", "-m", "components.encoder.hdf5"]
"""How the one program starts that an input may start."""
CHANGES = {
    **dict.fromkeys(("os.mkdir", "os.remove", "os.rmdir"), slice(1)),
    **dict.fromkeys(("os.rename", "os.link"), slice(2)),
    "os.symlink": slice(1, 2),
}
"""Audit events of a change to the file system → those of their arguments that are paths."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT

Attempt = Callable[[str, Path], object]


def try_all(target: str, keys: Iterable[object], seconds: int = SECONDS) -> dict[str, str]:
    """The keys whose input broke a promise, and how."""
    failures, rest = {}, [str(key) for key in keys]
    command = [sys.executable, "-m", "tests.hostile.watch", target, str(seconds)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}
    while rest:
        done = subprocess.run(
            command, input="\n".join(rest), capture_output=True, text=True, check=False, cwd=ROOT, env=environment
        )
        answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
        failures |= {key: fault for key, fault in answers if fault}
        rest = rest[len(answers) :]
        if rest:  # it died of the next one
            failures[rest.pop(0)] = f"the process ended with {done.returncode}:\n{done.stderr[-4000:]}"
    return failures


def verdict_on(attempt: Attempt, key: str, seconds: int = SECONDS) -> str:
    """What is wrong with what an attempt does; empty when nothing is."""
    faults: list[str] = []
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        folder = Path(name).resolve()
        try:
            with forbidding(folder, seconds) as deeds:
                attempt(key, folder)
        except CaptioningError as error:
            if not str(error):
                faults.append(f"{error!r} says nothing")
        except BaseException:  # noqa: BLE001 - whatever it is, it is a finding
            faults.append(traceback.format_exc()[-4000:])
    return "\n".join(deeds + faults)


@contextlib.contextmanager
def forbidding(folder: Path, seconds: int = SECONDS) -> Iterator[list[str]]:
    """Lists what is done meanwhile that no input may bring about. Ends the process when it takes too long."""
    deeds: list[str] = []

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        if event in STARTS:
            if event != "subprocess.Popen" or arguments[1][: len(OWN)] != OWN:
                deeds.append(f"{event} {arguments!r}")
        elif event == "socket.connect" and arguments[1][0] not in ("127.0.0.1", "::1"):
            deeds.append(f"{event} {arguments[1]!r}")
        elif event == "open" and _writes(*arguments):
            _require_inside(arguments[:1])
        elif event in CHANGES and (arguments[-1] in (-1, None) or not isinstance(arguments[-1], int)):
            _require_inside(arguments[CHANGES[event]])
        elif event in ("exec", "compile") and not _is_module(arguments):
            deeds.append(f"{event} {arguments!r}"[:500])

    def _require_inside(paths: Iterable[str | bytes]) -> None:
        places = [os.path.realpath(os.fsdecode(path)) for path in paths]
        outside = (path for path in places if path != os.devnull and not Path(path).is_relative_to(folder))
        deeds.extend(f"wrote {path}" for path in outside)

    _hooks().append(look)
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield deeds
    finally:
        faulthandler.cancel_dump_traceback_later()
        _hooks().remove(look)


def _writes(path: str | bytes | int, mode: str | None, flags: int) -> bool:
    if isinstance(path, int):
        return False
    return bool(set(mode or "") & set("wax+")) or bool((flags or 0) & WRITING)


def _is_module(arguments: tuple[Any, ...]) -> bool:
    """Whether it is of a file, or a class that a module makes while it is imported."""
    name = getattr(arguments[0], "co_filename", None) or arguments[1]
    if name and Path(os.fsdecode(name)).is_file():
        return True
    files = [frame.f_code.co_filename for frame, _ in traceback.walk_stack(None)]
    # A tree that `ast.parse` makes of NumPy's headers is no code.
    return any(file.startswith("<frozen importlib") or file == ast.__file__ for file in files)


def _hooks(installed: list[list[Callable[[str, tuple[Any, ...]], None]]] = []) -> list[Any]:  # noqa: B006
    """What the audit hook calls; there is one, and it stays."""
    if not installed:
        hooks: list[Callable[[str, tuple[Any, ...]], None]] = []
        busy = []

        def audit(event: str, arguments: tuple[Any, ...]) -> None:
            if not busy:  # looking raises events, too
                busy.append(event)
                try:
                    for hook in hooks:
                        hook(event, arguments)
                finally:
                    busy.clear()

        sys.addaudithook(audit)
        installed.append(hooks)
    return installed[0]


def main(target: str, seconds: int) -> None:
    module, _, name = target.partition(":")
    attempt: Attempt = getattr(importlib.import_module(module), name)
    commit()  # asks git, once per process
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for key in itertools.takewhile(bool, map(str.rstrip, sys.stdin)):
        print(json.dumps([key, verdict_on(attempt, key, seconds)]), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
