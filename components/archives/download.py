"""Downloads that can be killed and trusted: resumed where they stopped, verified, and there whole or not at all.

Beside `path` lie, while it is on its way, `path.<of the URL>.part` and `….part.json` (what the server said about the
file); when it has come, `path.sha256`, as `sha256sum --check` reads it; and `path.lock`, empty.
"""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from glob import escape
from pathlib import Path

from components.archives.remote import HINT, FileChangedError, RemoteFile, Version, open_remote
from components.artifacts import exclusive_lock, write_atomic
from components.errors import CaptioningError, ConfigurationError, find_remedy
from components.progress import track_bytes
from components.redaction import redacted

log = logging.getLogger(__name__)

Report = Callable[[str, int, int | None], None]
"""Called with a file's name, the bytes that are here, and those there will be, if known."""

STEADY = 16 << 20
"""Bytes after which a connection that broke is worth another at once."""


def download(
    urls: Sequence[str], path: Path, *, sha256: str = "", report: Report | None = None, timeout: float = 60.0
) -> None:
    """Downloads to `path` from the first of `urls` that can give it, unless it is here.

    It is verified by its size, by `sha256` if given, else by a digest that the server publishes. `timeout`: seconds
    without a byte. Raises `ConfigurationError` where trying again is of no use (no such file, another digest than
    `sha256`, too little disk), else `CaptioningError`; another call goes on from where this one stopped.
    """
    with exclusive_lock(path.with_name(f"{path.name}.lock"), f"downloads {path}"):
        if path.exists():
            _clear(path)  # a download that was killed between its last steps
            return
        errors = []
        for url in urls:
            part = path.with_name(f"{path.name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part")
            try:
                version = _fetch(url, part, path.name, report, timeout)
                _commit(part, path, _verified(part, url, version, sha256))
            except OSError as error:
                raise CaptioningError(f"cannot write {part}: {error}. {find_remedy(error) or HINT}") from error
            except CaptioningError as error:
                errors.append(error)
                if len(urls) > 1:
                    log.warning("%s", error)
            else:
                return
        raise next((error for error in errors if not isinstance(error, ConfigurationError)), errors[-1])


def recorded_sha256(path: Path) -> str:
    """The SHA-256 that `path` had when it was downloaded; empty when it came another way."""
    record = _record(path)
    return record.read_text(encoding="utf-8").split()[0] if record.exists() else ""


def _fetch(url: str, part: Path, name: str, report: Report | None, timeout: float) -> Version:
    """Completes `part`, over several connections as long as each brings much."""
    while True:
        before = _size(part)
        try:
            return _go_on(url, part, name, report, timeout)
        except CaptioningError as error:
            if _size(part) - before < STEADY:
                raise
            log.warning("%s; going on", error)


def _go_on(url: str, part: Path, name: str, report: Report | None, timeout: float) -> Version:
    """Completes `part` over one connection, from its end if that is possible."""
    known = _known(part)
    start = _size(part) if known and known.tag else 0
    if known and start == known.size:
        return known
    with ExitStack() as stack:
        try:
            remote = stack.enter_context(open_remote(url, start, known, timeout))
        except FileChangedError:
            remote = stack.enter_context(open_remote(url, 0, None, timeout))
        _require_space(part.parent, remote)
        if remote.start:
            log.info("downloading %s, from byte %d on", redacted(url), remote.start)
        else:
            log.info("downloading %s", redacted(url))
            part.unlink(missing_ok=True)  # before its description changes
            with write_atomic(_description(part)) as temporary:
                temporary.write_text(json.dumps({"url": redacted(url), **asdict(remote.version)}), encoding="utf-8")
        _append(remote, url, part, name, report)
    return remote.version


def _known(part: Path) -> Version | None:
    try:
        fields = json.loads(_description(part).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Version(fields["tag"], fields["size"], fields["digest"])


def _require_space(folder: Path, remote: RemoteFile) -> None:
    needed, free = (remote.version.size or 0) - remote.start, shutil.disk_usage(folder).free
    if needed > free:
        raise ConfigurationError(
            f"{folder} has too little space: {needed / 1e9:.2f} GB needed, {free / 1e9:.2f} GB free. "
            "Make room, or move the downloads with CAPTIONING_HOME"
        )


def _append(remote: RemoteFile, url: str, part: Path, name: str, report: Report | None) -> None:
    done, size = remote.start, remote.version.size
    with part.open("ab") as file, closing(track_bytes(remote.chunks, done, size, name)) as chunks:
        for chunk in chunks:
            done += len(chunk)
            if size is not None and done > size:
                _discard(part)
                raise CaptioningError(f"cannot download {url}: more than the {size} bytes announced came. Run again")
            file.write(chunk)
            if report:
                report(name, done, size)
    if size is None:
        log.warning(
            "%s: the server did not say how long the file is; a cut connection would not be noticed", redacted(url)
        )
    elif done < size:
        raise CaptioningError(f"cannot download {url}: {done} of {size} bytes came. {HINT}")


def _verified(part: Path, url: str, version: Version, sha256: str) -> str:
    """The SHA-256 of the complete `part`, which is discarded when it is not what was promised."""
    with part.open("rb") as file:
        if re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype\s+)?html", file.read(1000), re.IGNORECASE):
            _discard(part)
            raise CaptioningError(f"cannot download {url}: a web page came instead of it: a login, or a proxy. {HINT}")
    found = _digest(part, "sha256")
    if sha256 and found != sha256:
        _discard(part)
        raise ConfigurationError(f"{url} has SHA-256 {found}, not {sha256} as dataset.sha256 says. Correct one of them")
    algorithm, _, promised = version.digest.partition(":")
    if promised and not sha256 and promised != _digest(part, algorithm):
        _discard(part)
        raise CaptioningError(
            f"cannot download {url}: what came has not the {algorithm} digest that the server publishes. Run again"
        )
    return found


def _commit(part: Path, path: Path, sha256: str) -> None:
    with write_atomic(_record(path)) as temporary:
        temporary.write_text(f"{sha256}  {path.name}\n", encoding="utf-8")
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)
    _clear(path)
    log.info("%s is here, SHA-256 %s", path, sha256)


def _clear(path: Path) -> None:
    """Removes what attempts at this address and its mirrors left."""
    for leftover in path.parent.glob(f"{escape(path.name)}.*.part*"):
        leftover.unlink()


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _description(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _description(part).unlink(missing_ok=True)
