"""The README's commands, run as they stand there, on a small data set of one's own; and what it says of files."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

from flows.services.child_process import child_process
from flows.services.prefect_server import server_command

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")] + sorted(ROOT.glob("docs/**/*.md"))

SMALL = {
    "CAPTIONING_VOCABULARY__MIN_COUNT": "1",
    "CAPTIONING_DECODER__LSTM_UNITS": "16",
    "CAPTIONING_TRAINING__EPOCHS": "1",
    "CAPTIONING_TRAINING__STEPS_PER_EPOCH": "2",
}


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", README, re.M | re.S)


@pytest.fixture
def place(tmp_path: Path, photograph: Callable[[int], bytes]) -> Path:
    """A folder with what the README's commands are given: photographs, captions, a profile, a folder of pictures."""
    (profile,) = blocks("toml")
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "mine.toml").write_text(profile.replace("/data/mine", str(data)), encoding="utf-8")
    images = [{"id": number, "file_name": f"{number}.jpg"} for number in range(60)]
    texts = ("a red square beside a green one", "two squares of colour on a wall")
    captions = [
        {"id": 2 * image["id"] + number, "image_id": image["id"], "caption": f"{text} {image['id'] % 3}"}
        for image in images
        for number, text in enumerate(texts)
    ]
    (data / "captions.json").write_text(json.dumps({"images": images, "annotations": captions}), encoding="utf-8")
    with ZipFile(data / "photos.zip", "w") as archive:
        for image in images:
            archive.writestr(str(image["file_name"]), photograph(int(image["id"])))
    (tmp_path / "FOLDER").mkdir()
    for number, name in enumerate(("photo.jpg", "other.png", "FOLDER/one.jpg", "FOLDER/two.jpg")):
        (tmp_path / name).write_bytes(photograph(100 + number))
    return tmp_path


def test_every_command_works_as_it_stands_there(place: Path) -> None:
    photographs, own, nightly = (block.splitlines() for block in blocks("sh"))
    check, train, evaluate, promote, rollback = own
    # What the demo gives is there by training first: one's own model, and another one as its challenger.
    again = f"{train.partition('#')[0]} --set training.seed=2"
    patient = f"{promote.partition('#')[0]} --set max_slower=50"  # other work makes the clock uneven
    lines = [check, train, again, evaluate, patient, rollback]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        "CAPTIONING_HOME": str(place / "mlruns"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",  # one server for all of them
        "PYTHONPATH": str(ROOT),
        "PATH": str(Path(sys.executable).parent),  # no Java, whose scores take seconds
    }
    with child_process(server_command(port), place / "prefect-server.log"):
        done = subprocess.run(
            [sys.executable, "-m", "tests.docs.run_commands"],
            input="\n".join([*lines, *photographs, *nightly]) + "\n",
            cwd=place,
            env=os.environ | SMALL | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=500,
        )
    assert done.returncode == 0, done.stderr
    told = done.stdout + done.stderr
    ended = dict(re.findall(r"^\$ (captioning .*)\n(?:(?!\$ ).*\n)*?(?:exit code (\d+))$", done.stdout, re.M))
    assert {line: code for line, code in ended.items() if code != "0"} == {}, told
    assert "models:/captioner/2 (challenger)" in told
    assert (place / "results").is_dir()
    assert (place / "champion.zip").is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_links_to_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_file_that_a_page_names_is_there(page: Path) -> None:
    named = re.findall(r"`((?:flows|components|data_contracts|tests|docs|docker)/[\w./-]+)`", page.read_text("utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []
