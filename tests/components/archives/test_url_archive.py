"""Folders and files over HTTP and S3, on real servers that fail when told to."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from socket import create_server

import pytest

from components.archives import remote, url_archive
from components.archives.archive import open_archive
from components.archives.image_archive import UNKNOWN
from components.archives.listing import list_pictures
from components.errors import TRIED_AGAIN, BadImageError, CaptioningError
from components.scoring.inputs import list_images
from tests.store import Handler, Store

Photograph = Callable[[int], bytes]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, photograph: Photograph) -> Iterator[Store]:
    monkeypatch.setattr(url_archive, "PAUSES", (0.01, 0.01))
    with Store(("127.0.0.1", 0), Handler) as server:
        server.files = {"/in/a.jpg": photograph(1), "/in/sub/b.jpg": photograph(2), "/in/sub/raw": photograph(3)}
        server.files |= {"/in/notes.txt": b"text", "/in/sub/LICENCE": b"words"}
        server.failing, server.asked = {}, []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_folder_over_http_is_listed_and_its_changes_are_seen(store: Store, photograph: Photograph) -> None:
    listing = list_images(f"{store.url}/in")
    assert listing.names == ["a.jpg", "sub/b.jpg", "sub/raw"]
    assert dict(listing.ignored) == {".txt": 1, "without a suffix": 1}
    assert all((entry.bytes, entry.mark) != UNKNOWN for entry in listing.inputs)
    store.files["/in/a.jpg"] = photograph(4)
    changed = list_images(f"{store.url}/in")
    assert changed.inputs[0] != listing.inputs[0]
    assert changed.inputs[1:] == listing.inputs[1:]


@pytest.mark.parametrize("status", [503, 429, 408, 500, 0])
def test_a_short_failure_is_asked_about_again(store: Store, photograph: Photograph, status: int) -> None:
    with open_archive(f"{store.url}/in") as archive:
        store.failing["/in/a.jpg"] = 2, status
        assert archive.read("a.jpg") == photograph(1)


@pytest.mark.parametrize(("status", "told"), [(503, "503"), (403, "403"), (404, "404"), (0, "disconnected")])
def test_what_fails_on_is_told_as_the_server_told_it(store: Store, status: int, told: str) -> None:
    store.failing["/in/a.jpg"] = 99, status
    with open_archive(f"{store.url}/in") as archive, pytest.raises(BadImageError, match=f"(?i){told}.*{TRIED_AGAIN}"):
        archive.read("a.jpg")
    assert sum(asked == "GET /in/a.jpg" for asked in store.asked) <= 9


def test_a_folder_that_cannot_be_listed_is_an_input_and_the_others_are_there(store: Store) -> None:
    store.failing["/in/sub/"] = 99, 503
    listing = list_images(f"{store.url}/in")
    assert [(entry.name, "503" in entry.problem) for entry in listing.inputs] == [("a.jpg", False), ("sub/", True)]


def test_a_file_that_cannot_be_looked_into_is_an_input(store: Store) -> None:
    store.failing["/in/sub/raw"] = 99, 503
    with open_archive(f"{store.url}/in") as archive:
        listing = list_pictures(archive)
    assert listing.names == ["a.jpg", "sub/b.jpg", "sub/raw"]
    assert "503" in listing.inputs[-1].problem


@pytest.mark.parametrize("status", [503, 403, 404, 0])
def test_a_store_that_is_out_is_not_an_empty_one(store: Store, status: int) -> None:
    store.failing["/in"] = 99, status
    with pytest.raises(CaptioningError, match="cannot list"):
        list_images(f"{store.url}/in")


def test_a_server_that_is_down_is_left_alone_and_asked_again_later(
    store: Store, photograph: Photograph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(url_archive, "GIVE_UP", 3)
    store.failing["/in/a.jpg"] = 9, 503
    with open_archive(f"{store.url}/in") as archive:
        for _ in range(10):
            with pytest.raises(BadImageError, match="503"):
                archive.read("a.jpg")
        asked = len(store.asked)
        with pytest.raises(BadImageError, match="503"):
            archive.read("sub/b.jpg")
        assert len(store.asked) == asked
        monkeypatch.setattr(url_archive, "LEAVE_ALONE", 0.0)
        assert archive.read("sub/b.jpg") == photograph(2)
        monkeypatch.setattr(url_archive, "LEAVE_ALONE", 60.0)
        store.failing.clear()
        assert archive.read("a.jpg") == photograph(1)


def test_nothing_that_answers_is_not_an_empty_store() -> None:
    with closing(create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    with pytest.raises(CaptioningError, match=r"cannot list.*Connect"):
        list_images(f"http://127.0.0.1:{port}/in")


def test_a_server_that_says_nothing_is_waited_for_no_longer_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "HTTP_SECONDS", {"total": 1, "sock_connect": 0.2, "sock_read": 0.2})
    with closing(create_server(("127.0.0.1", 0))) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/in"
        with open_archive(address) as archive, pytest.raises(BadImageError, match=f"cannot be read.*{TRIED_AGAIN}"):
            archive.read("a.jpg")
