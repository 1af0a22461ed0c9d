"""The registered model behind MLflow's own server, where this project cannot be imported."""

import base64
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from components.decoder.caption import Search
from components.model.captioner import Captioner
from components.registry.registration import register
from components.registry.tracking import tracked_run

pytestmark = [
    pytest.mark.usefixtures("registry"),
    pytest.mark.filterwarnings("ignore:::mlflow"),  # its own imports warn
]
START_SECONDS = 120
WITHOUT_US = """
import sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("flows", "components", "data_contracts"):
            raise ImportError(f"{name} must not be needed")

sys.meta_path.insert(0, Nothing())
"""


@pytest.fixture
def server(package: Path, registry: str, tmp_path: Path) -> Iterator[str]:
    """The address of `mlflow models serve` for the champion."""
    with tracked_run("run", {}) as run_id:
        register(package, "digest", "captioner", run_id, {}, "a card", None)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "sitecustomize.py").write_text(WITHOUT_US, encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": registry,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "PYTHONPATH": str(elsewhere),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/captioner@champion"]
    command += ["-h", "127.0.0.1", "-p", address.rpartition(":")[2], "--env-manager", "local"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=elsewhere, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            deadline = time.monotonic() + START_SECONDS
            while not _answers(address):
                assert process.poll() is None, (tmp_path / "log").read_text(encoding="utf-8")
                assert time.monotonic() < deadline, (tmp_path / "log").read_text(encoding="utf-8")
                time.sleep(0.2)
            yield address
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/ping", timeout=5).is_success
    except httpx.HTTPError:
        return False


def test_a_request_with_pictures_is_answered_with_captions(
    server: str, package: Path, photograph: Callable[[int], bytes]
) -> None:
    good = photograph(3)
    records = [{"image": base64.b64encode(image).decode()} for image in (good, b"no picture")]
    request = {"dataframe_records": records, "params": {"search": "beam", "top_n": 2}}
    answer = httpx.post(f"{server}/invocations", json=request, timeout=60)
    first, second = answer.json()["predictions"]
    own = Captioner(package / "captioner")
    (ranked,) = own.caption(own.embed([good])[0], Search("beam", beam=5))
    assert first["captions"] == [caption.text for caption in ranked[:2]]
    assert first["logprob"] == pytest.approx(ranked[0].logprob, abs=1e-4)
    assert (second["caption"], second["logprob"]) == ("", None)
    assert "image" in second["error"]
    assert httpx.post(f"{server}/invocations", json={"dataframe_records": "x"}, timeout=60).status_code == 400
    a_request_of_any_form_has_one_answer_per_picture(server, own, good)
    a_bad_request_is_answered_with_our_message(server, records)


def a_request_of_any_form_has_one_answer_per_picture(server: str, own: Captioner, good: bytes) -> None:
    """Of the same server: starting one takes longest."""
    image, vectors = base64.b64encode(good).decode(), own.embed([good])[0].tolist()
    ((best,),) = own.caption(own.embed([good])[0], Search())
    captioned, none = [best.text, ""], [""]
    forms: list[tuple[dict[str, object], list[str]]] = [
        ({"inputs": {"image": [image, image]}}, [best.text] * 2),
        ({"inputs": {"image": image}}, [best.text]),
        ({"inputs": {"image": [image, None]}}, captioned),
        ({"inputs": {"embedding": vectors}}, [best.text]),
        ({"inputs": {"embedding": vectors[0]}}, [best.text]),
        ({"inputs": [{"image": image}, {"image": "no picture"}]}, captioned),
        ({"instances": [{"image": image}, {"image": image}]}, [best.text] * 2),
        ({"instances": [{"image": image}]}, [best.text]),
        ({"dataframe_records": [{"image": image}, {"embedding": vectors[0]}]}, [best.text] * 2),
        ({"dataframe_split": {"columns": ["image"], "data": [[image], [None]]}}, captioned),
        ({"dataframe_records": [{"image": image}, {"image": None}]}, captioned),
        ({"dataframe_records": [{"image": None}]}, none),
        ({"inputs": {"path": ["a.jpg", "b.jpg"]}}, ["", ""]),
    ]
    for request, expected in forms:
        answer = httpx.post(f"{server}/invocations", json=request, timeout=60)
        assert answer.status_code == 200, (request.keys(), answer.text)
        rows = answer.json()["predictions"]
        assert [row["caption"] for row in rows] == expected, str(request)[:60]
        assert [bool(row["error"]) for row in rows] == [not text for text in expected]


def a_bad_request_is_answered_with_our_message(server: str, records: list[dict[str, str]]) -> None:
    for params, reason in (
        ({"search": "widest"}, "search must be greedy, beam or sample, not 'widest'"),
        ({"search": "beam", "beam": 0}, "beam must be 1 or more"),
        ({"top_n": 0}, "top_n must be 1 or more"),
        ({"search": "sample", "temperature": 0.0}, "temperature must be above 0"),
        ({"seed": None}, "seed: no value is given"),
        ({"beam": "wide"}, "beam"),
    ):
        answer = httpx.post(f"{server}/invocations", json={"dataframe_records": records, "params": params}, timeout=60)
        assert (answer.status_code, reason in answer.text) == (400, True), answer.text[-300:]
    for request, reason in (
        ({"dataframe_records": [{"picture": "x"}]}, "one of the columns"),
        ({"inputs": {"image": ["x", "y"], "path": ["z"]}}, "one value per input"),
    ):
        answer = httpx.post(f"{server}/invocations", json=request, timeout=60)
        assert (answer.status_code, reason in answer.text) == (400, True), answer.text[-300:]
