"""What tests of several components share: a server that fails on purpose, toy decoders, and toy packages."""

import hashlib
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import mlflow
import numpy as np
import pytest
from playwright.sync_api import Browser, sync_playwright

from components.decoder.model import Decoder, build_decoder
from components.encoder.pool import EncoderCard, Vectors
from components.model.package import write_package
from components.model.reference import Reference
from components.registry.tracking import connect
from components.training.batches import TrainingSet
from components.training_config import DecoderConfig
from components.vocabulary.vocabulary import Vocabulary
from data_contracts.schema import END, PAD, START, UNK
from tests.browser import CHROMIUM, FLAGS
from tests.recipes import notebook_decoder


class Server(ThreadingHTTPServer):
    """Serves `files` by their path, and remembers who asked for what."""

    files: dict[str, bytes]
    requests: list[tuple[str, str | None]]
    """Path and Range header."""
    next: list[Callable[["Handler"], None]]
    """What to do with the coming requests, one by one; those after them are served well."""
    released: threading.Event
    """Set at the end of a test: what answers that hang may wait for."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append((unquote(self.path), self.headers["Range"]))
        answer = self.server.next.pop(0) if self.server.next else Handler.serve
        answer(self)

    def answer(self, status: int, body: bytes = b"", **headers: str | int) -> None:
        """Exactly these headers (with - for _) and bytes, then the end of the connection."""
        self.send_response(status)
        for name, value in {**headers, "Connection": "close"}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def serve(self, cut: int | None = None, ranges: bool = True, **headers: str | int) -> None:
        """The file, or what of it is asked for; only its first `cut` bytes if given; with more `headers`."""
        content = self.server.files.get(unquote(self.path))
        if content is None:
            return self.answer(404, Content_Length=0)
        tag = f'"{hashlib.sha256(content).hexdigest()[:8]}"'
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        start, status = 0, 200
        if asked and ranges and self.headers["If-Range"] == tag:
            start, status = int(asked[1]), 206
            headers = {"Content_Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} | headers
        headers = {"ETag": tag, "Content_Length": len(content) - start} | headers
        return self.answer(status, content[start:][:cut], **headers)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server(("127.0.0.1", 0), Handler) as server:
        server.files, server.requests, server.next, server.released = {}, [], [], threading.Event()
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


WORDS, DIMENSION, MAX_LENGTH = 8, 5, 7


@pytest.fixture(scope="session")
def toy() -> DecoderConfig:
    """Four units, captions of at most five words."""
    return notebook_decoder(
        image_projection=3, word_embedding=3, lstm_units=4, output_projection=3, max_length=MAX_LENGTH
    )


@pytest.fixture(scope="session")
def eight_words() -> Vocabulary:
    """The specials, and four words whose ids are 4 to 7."""
    return Vocabulary.build([["a", "dog", "kite", "red"]], min_count=1)


@pytest.fixture(scope="session")
def random_decoder(toy: DecoderConfig) -> Callable[..., Decoder]:
    """A decoder for embeddings of five numbers, whose captions depend on image and seed.

    Of one configuration there is one network, which gets other weights at each call: use one decoder at a time.
    """

    @cache
    def network(words: int, **options: bool) -> Decoder:
        return build_decoder(toy.model_copy(update=options), words, DIMENSION)

    def make(seed: int, *, words: int = WORDS, end_bias: float = 0.0, **options: bool) -> Decoder:
        decoder, random = network(words, **options), np.random.default_rng(seed)
        decoder.set_weights([random.normal(size=w.shape).astype(np.float32) for w in decoder.get_weights()])
        decoder.deviation.assign(0.5 + np.abs(decoder.deviation))
        decoder.logit_bias.assign_add(end_bias * np.eye(words, dtype=np.float32)[END])
        return decoder

    return make


@pytest.fixture(scope="session")
def random_embeddings() -> Callable[[int, int], np.ndarray]:
    """Embeddings (count, 5), float32, for a seed."""
    return lambda seed, count: np.random.default_rng(seed).normal(size=(count, DIMENSION)).astype(np.float32)


@pytest.fixture(scope="session")
def set_of() -> Callable[..., TrainingSet]:
    """A training set of captions, each the ids of its words, of the images of these numbers (by default one each).

    Words that a decoder of `words` words lacks have higher ids. The embeddings are random unless given.
    """

    def make(
        captions: Sequence[Sequence[int]],
        images: Sequence[int] | None = None,
        embeddings: np.ndarray | None = None,
        *,
        words: int = WORDS,
        max_length: int = MAX_LENGTH,
    ) -> TrainingSet:
        rows = np.arange(len(captions)) if images is None else np.array(images)
        if embeddings is None:
            embeddings = np.random.default_rng(0).normal(size=(int(rows.max()) + 1, DIMENSION)).astype(np.float32)
        references = np.full((len(captions), max(map(len, captions)) + 1), PAD, np.int32)
        ids = np.full((len(captions), max_length), PAD, np.int32)
        for reference, row, caption in zip(references, ids, captions, strict=True):
            reference[: len(caption) + 1] = [*caption, END]
            learnt = [START, *(word if word < words else UNK for word in caption[: max_length - 2]), END]
            row[: len(learnt)] = learnt
        count, dimension = embeddings.shape
        return TrainingSet(
            Vectors([embeddings], np.zeros(count, int), np.arange(count), dimension), rows, references, ids
        )

    return make


@pytest.fixture(scope="session")
def sixteen(set_of: Callable[..., TrainingSet]) -> TrainingSet:
    """Sixteen images with a caption each, of two to four words."""
    return set_of([[4 + n % 4, 4 + n // 4, 7, 4][: 2 + n % 3] for n in range(16)])


CARD = EncoderCard("toy", "0123456789abcdef", 5, 8, "notebook", "float32")
SMALL = EncoderCard("small", "aaaaaaaaaaaaaaaa", 3, 8, "notebook", "float32")
LARGE = EncoderCard("large", "bbbbbbbbbbbbbbbb", 2, 12, "antialias", "float32")
MAX_LENGTH = 7
HISTORY = [{"phase": 1.0, "epoch": 1.0, "loss": 2.0, "val_loss": 1.5, "val_cider": 0.25}]


def network_of(card: EncoderCard) -> Any:
    """A convolution for the card's photographs and embeddings, always the same."""
    import keras

    return keras.Sequential(
        [
            keras.Input((card.input_size, card.input_size, 3)),
            keras.layers.Rescaling(1 / 32),
            keras.layers.Conv2D(card.dimension, 3, kernel_initializer=keras.initializers.GlorotUniform(seed=1)),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )


def decoder_of(seed: int, **options: bool) -> Decoder:
    """A decoder of eight words for embeddings of five numbers, whose captions depend on the image."""
    config = notebook_decoder(image_projection=3, word_embedding=3, lstm_units=4, output_projection=3, **options)
    decoder, random = build_decoder(config, 8, 5), np.random.default_rng(seed)
    decoder.set_weights([random.normal(size=w.shape).astype(np.float32) for w in decoder.get_weights()])
    return decoder


@pytest.fixture(scope="session")
def toy_decoder() -> Decoder:
    """As small as the notebook's layers go."""
    return decoder_of(37)


@pytest.fixture(scope="session")
def strong_decoder() -> Decoder:
    """One that makes use of every option. The last number of an embedding never changed in its training."""
    embeddings = np.random.default_rng(4).normal(size=(50, 5)).astype(np.float32)
    embeddings[:, 4] = 1.5
    decoder = decoder_of(
        37, standardize_embeddings=True, separate_states=True, image_at_every_step=True, tie_embeddings=True
    )
    decoder.fit_embeddings(embeddings)
    return decoder


def written(decoder: Decoder, cards: list[EncoderCard], max_length: int, folder: Path, *, bundled: bool = True) -> Path:
    vocabulary = Vocabulary.build([["a", "red", "kite", "dog"]], min_count=1)
    reference = Reference([0.5] * 5, [1.0] * 5, 2.0, 4.0)
    networks = [network_of(card) for card in cards] if bundled else []
    files = write_package(decoder, vocabulary, networks, cards, reference, HISTORY, max_length, folder)
    assert files == sum(path.is_file() for path in folder.rglob("*"))
    return folder


@pytest.fixture(scope="session")
def package_without_encoder(toy_decoder: Decoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package for embeddings only."""
    return written(toy_decoder, [CARD], MAX_LENGTH, tmp_path_factory.mktemp("bare"), bundled=False)


@pytest.fixture(scope="session")
def make_package(toy_decoder: Decoder, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Packages of the toy decoder for captions of at most so many ids, START among them."""
    return lambda max_length: written(toy_decoder, [CARD], max_length, tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="session")
def package(make_package: Callable[[int], Path]) -> Path:
    """A package whose captions have at most five words."""
    return make_package(MAX_LENGTH)


@pytest.fixture(scope="session")
def pair(strong_decoder: Decoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of two encoders, which see photographs of different sizes."""
    return written(strong_decoder, [SMALL, LARGE], MAX_LENGTH, tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="session")
def networks() -> list[Any]:
    """The networks of the encoders in `pair`."""
    return [network_of(SMALL), network_of(LARGE)]


@pytest.fixture
def registry(migrated: Path, tmp_path: Path) -> Iterator[str]:
    """The address of an empty registry that is in use, with its files beside it."""
    address = f"sqlite:///{shutil.copy(migrated, tmp_path / 'mlflow.db')}"
    connect(address, tmp_path / "artifacts")
    yield address
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()
