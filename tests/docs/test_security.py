"""What SECURITY.md says, where no other test holds it; and that the tests it names are there."""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from components.dataset.sources import Source
from components.errors import CaptioningError
from components.redaction import redacted, without_login
from flows.failure import write_page
from tests import commands

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
SECRET = "Geheim-7f3a"


def test_every_test_that_the_page_names_is_there_and_every_claim_has_one() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 20
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (path, name)


def test_commands_let_mlflow_unpickle_nothing(tmp_path: Path) -> None:
    asked = "import os; from flows.settings import prepare_environment as p; p(False); print(os.environ[{!r}])"
    command = [sys.executable, "-c", asked.format("MLFLOW_ALLOW_PICKLE_DESERIALIZATION")]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    environment |= {"CAPTIONING_HOME": str(tmp_path)}
    assert subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout == "false\n"


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "[x](javascript:x)", "![x](http://h/y)", "<img src=x>"])
def test_a_failure_s_note_shows_an_error_as_text(text: str) -> None:
    page = write_page("work failed", f"there is no {text}", f"images: {text}", "Run it again.")
    assert not re.search(r"(?<!\\)[<\[]", page)
    assert text in page.replace("\\", "")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot open postgresql://u:{}@host:5/db: no", "cannot open postgresql://…@host:5/db: no"),
        ("postgresql://u:a/b#{}@host/db", "postgresql://…@host/db"),
        ("s3://AKIA:{}@bucket/x", "s3://…@bucket/x"),
        ("'https://{}@host/x'", "'https://…@host/x'"),
        ("https://h/x.zip?part=1&X-Amz-Signature={}&n=2", "https://h/x.zip?part=1&X-Amz-Signature=…&n=2"),
        ("cannot open https://h/x?sig={}: no.", "cannot open https://h/x?sig=…: no."),
        ("https://h/x?sv=1&sig={}", "https://h/x?sv=1&sig=…"),
        ("https://h/x?access_token={} and more", "https://h/x?access_token=… and more"),
        ("models:/captioner@champion at http://127.0.0.1:5000/a@b", "models:/captioner@champion at http://…@b"),
        ("no address: user@example.org, a=b", "no address: user@example.org, a=b"),
    ],
)
def test_errors_tell_addresses_without_their_secrets(text: str, shown: str) -> None:
    given = text.format(SECRET)
    assert str(CaptioningError(given)) == redacted(given) == redacted(redacted(given)) == shown


def test_a_link_that_others_open_has_no_login() -> None:
    assert without_login(f"https://u:{SECRET}@host/mlflow") == "https://host/mlflow"


@pytest.fixture
def address(make_source: Callable[..., Source], tmp_path: Path) -> Iterator[str]:
    """A server, without its scheme, of `train.zip` and `train-captions.zip`."""
    make_source({n: [f"a red kite number {n % 3}", "a dog in the grass"] for n in range(1, 9)}, zipped=True)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def run(home: Path, *arguments: str, **environment: str) -> str:
    """What a command shows, with secrets wherever the environment may have some."""
    names = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "PREFECT_API_KEY", "MLFLOW_TRACKING_PASSWORD")
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), f"http://u:{SECRET}@127.0.0.1:9")
    own = dict.fromkeys(names, SECRET) | proxies | {"NO_PROXY": "127.0.0.1"}
    done = commands.captioning(home, *arguments, environment=own | environment)
    assert done.stdout + done.stderr
    return done.stdout + done.stderr


def test_no_secret_is_written_or_shown(address: str, tmp_path: Path) -> None:
    home, profile = tmp_path / "home", tmp_path / "mine.toml"
    home.mkdir()
    signed, gone = (f"http://{address}/{name}.zip?X-Amz-Signature={SECRET}" for name in ("train", "gone"))
    closed = f"http://u:{SECRET}@127.0.0.1:9"
    content = {
        "dataset.root": f"http://reader:{SECRET}@{address}",
        "dataset.holdout": 0.25,
        "dataset.sources.photos.images": signed,
        "dataset.sources.photos.captions": "train-captions.zip",
        "dataset.sources.photos.annotations": "annotations/captions_train.json",
        "vocabulary.min_count": 1,
        "encoder.name": "efficientnet_lite0",
        "encoder.weights": "package",
    }
    profile.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in content.items()), encoding="utf-8")
    shown = [
        run(home, "check", "--profile", str(profile), "--only", "captions,images", "--json"),
        run(home, "check", "--profile", str(profile), "--set", f"dataset.sources.photos.captions={gone}"),
        run(home, "doctor", PREFECT_API_URL=f"{closed}/api", CAPTIONING_TRACKING_URI=closed),
    ]
    assert '"rules"' in shown[0], shown[0]
    assert "gone.zip?X-Amz-Signature=…: the server answers 404" in shown[1], shown[1]
    assert shown[2].count("…@127.0.0.1:9") > 1, shown[2]
    assert not [text for text in shown if SECRET in text]
    files = [path for path in home.rglob("*") if path.is_file()]
    assert {"mlflow.db", "prefect.db", "train.zip"} <= {path.name for path in files}
    assert not [path for path in home.rglob("*") if SECRET in path.name]
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
