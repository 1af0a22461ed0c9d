"""An outage is no verdict: what cannot be read for now is read once it can be, whatever kept it from being read."""

import ctypes
import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pandas as pd
import pytest

from components.archives import folder_archive, remote, url_archive
from components.errors import TRIED_AGAIN
from flows.score import INPUTS_FILE, list_inputs
from flows.settings import settings
from flows.tasks import data
from flows.tasks.embeddings import unreachable_photographs
from tests import toy
from tests.store import Handler, Store

Photograph = Callable[[int], bytes]
Patch = pytest.MonkeyPatch
Failure = Callable[[Path, bytes, Patch], AbstractContextManager[None]]
"""Keeps a file from being read for the length of a block; after it the file is there and holds the bytes."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: Patch) -> Iterator[Path]:
    monkeypatch.setenv("CAPTIONING_HOME", str(tmp_path / "home"))
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


@contextmanager
def permission_denied(path: Path, content: bytes, _: Patch) -> Iterator[None]:
    path.chmod(0)
    with without_override():
        yield
    path.chmod(0o644)


@contextmanager
def without_override() -> Iterator[None]:
    """Permissions hold for this thread and those that it starts, whoever runs it: root may read everything else."""
    if os.getuid():
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, data) == 0
    effective = data[0]
    data[0] &= ~0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    assert libc.capset(header, data) == 0
    try:
        yield
    finally:
        data[0] = effective
        assert libc.capset(header, data) == 0


def broken(number: int) -> Failure:
    """The file system answers with an error."""

    @contextmanager
    def fail(path: Path, content: bytes, patch: Patch) -> Iterator[None]:
        def require_file(asked: Path) -> int:
            if asked == path:
                raise OSError(number, os.strerror(number), str(path))
            return asked.stat().st_size

        with patch.context() as only:
            only.setattr(folder_archive, "require_file", require_file)
            yield

    return fail


@contextmanager
def dangling(path: Path, content: bytes, _: Patch) -> Iterator[None]:
    target = path.parent.parent / f"annexed {path.name}"
    path.unlink()
    path.symlink_to(target)
    yield
    target.write_bytes(content)


@contextmanager
def loop(path: Path, content: bytes, _: Patch) -> Iterator[None]:
    path.unlink()
    path.symlink_to(path.name)
    yield
    path.unlink()
    path.write_bytes(content)


FAILURES = {
    "permission": permission_denied,
    "EIO": broken(errno.EIO),
    "ESTALE": broken(errno.ESTALE),
    "dangling link": dangling,
    "loop": loop,
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_scoring_reads_again_what_failed(
    failure: str, home: Path, photograph: Photograph, monkeypatch: Patch
) -> None:
    inbox = home / "inbox"
    inbox.mkdir()
    for number in (1, 2):
        (inbox / f"{number}.jpg").write_bytes(photograph(number))

    def attempt() -> tuple[bool, list[bool]]:
        listed, _ = list_inputs.fn(str(inbox))
        errors = pd.read_parquet(listed.path / INPUTS_FILE)["error"]
        return listed.complete, errors.str.endswith(TRIED_AGAIN).tolist()

    with FAILURES[failure](inbox / "2.jpg", photograph(2), monkeypatch):
        assert [attempt(), attempt()] == [(False, [False, True])] * 2
    assert attempt() == (True, [False, False])


@pytest.mark.parametrize("failure", FAILURES)
def test_a_training_reads_again_what_failed(
    failure: str, home: Path, photograph: Photograph, monkeypatch: Patch
) -> None:
    photos = home / "photos"
    photos.mkdir()
    rows = ["image,caption"]
    for number in range(1, 5):
        (photos / f"{number}.jpg").write_bytes(photograph(number))
        rows.append(f"{number}.jpg,a dog runs")
    (home / "captions.csv").write_text("\n".join(rows))
    profile = toy.profile_of(home, "photos", "captions.csv")

    def names() -> list[str]:
        fetched = data.fetch_dataset.fn(profile)
        captions = data.build_caption_table.fn(fetched, profile)
        return [name for name, _ in unreachable_photographs(data.list_photographs.fn(fetched, captions, profile))]

    with FAILURES[failure](photos / "2.jpg", photograph(2), monkeypatch):
        assert names() == ["2.jpg"]
        assert names() == ["2.jpg"]
    assert names() == []


@pytest.fixture
def store(monkeypatch: Patch, photograph: Photograph) -> Iterator[Store]:
    monkeypatch.setattr(url_archive, "PAUSES", ())
    with Store(("127.0.0.1", 0), Handler) as server:
        server.files = {"/1.jpg": photograph(1), "/2.jpg": photograph(2)}
        server.failing, server.asked = {}, []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("status", [503, 500, 429, 408, 403, 404, 0])
def test_what_a_server_did_not_give_is_asked_for_again(status: int, home: Path, store: Store) -> None:
    (home / "list.txt").write_text(f"{store.url}/1.jpg\n{store.url}/2.jpg\n")
    found = []
    for times in (99, 99, 0, 0):
        store.failing["/2.jpg"], store.asked[:] = (times, status), []
        listed, _ = list_inputs.fn(str(home / "list.txt"))
        errors = pd.read_parquet(listed.path / INPUTS_FILE)["error"].tolist()
        found.append((listed.complete, listed.reused, [bool(error) for error in errors]))
        if found[1:]:
            assert "GET /1.jpg" not in store.asked  # read once, and not changed since
    assert found == [(False, False, [False, True])] * 2 + [(True, False, [False] * 2), (True, True, [False] * 2)]


def test_a_server_that_was_down_or_silent_is_asked_again(
    home: Path, photograph: Photograph, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(url_archive, "PAUSES", ())
    monkeypatch.setattr(remote, "HTTP_SECONDS", {"total": 1, "sock_connect": 0.2, "sock_read": 0.2})
    with Store(("127.0.0.1", 0), Handler, bind_and_activate=False) as server:
        server.files, server.failing, server.asked = {"/1.jpg": photograph(1)}, {}, []
        server.server_bind()  # nobody listens: the connection is refused
        (home / "list.txt").write_text(f"http://127.0.0.1:{server.socket.getsockname()[1]}/1.jpg\n")
        refused, _ = list_inputs.fn(str(home / "list.txt"))
        server.server_activate()  # nobody answers: the request takes too long
        silent, _ = list_inputs.fn(str(home / "list.txt"))
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        served, _ = list_inputs.fn(str(home / "list.txt"))
        server.shutdown()
        thread.join()
    assert [listed.complete for listed in (refused, silent, served)] == [False, False, True]
