import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from components.errors import CaptioningError
from components.evaluation import java_scorers
from components.evaluation.java_scorers import SPICE_MODELS, meteor, missing_spice_models, spice
from components.evaluation.metrics import score_captions
from components.evaluation.tokenize import Tokenized

needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="METEOR runs on Java, which is not installed")
CANDIDATES: Tokenized = {7: ["a cat sits"], 3: ["a dog"], 5: ["two birds fly over it"]}
TRUTHS: Tokenized = {3: ["a dog runs"], 5: ["nothing alike"], 7: ["a cat sits", "a cat"]}


@pytest.fixture
def stand_in(tmp_path: Path) -> Callable[..., str]:
    """A program in Java's place."""

    def make(script: str, shell: str = "/bin/sh") -> str:
        java = tmp_path / "java"
        java.write_text(f"#!{shell}\n{script}\n", encoding="utf-8")
        java.chmod(0o755)
        return str(java)

    return make


@pytest.fixture
def with_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for SPICE's models, with none in it."""
    folder = tmp_path / "lib"
    folder.mkdir()
    monkeypatch.setattr(java_scorers, "spice_folder", lambda: folder)
    return folder


@needs_java
def test_meteor_scores_images_in_order_and_the_corpus_by_its_words() -> None:
    java = shutil.which("java")
    assert java is not None
    corpus, images = meteor({**TRUTHS, 9: ["a red kite"]}, {**CANDIDATES, 9: ["a red ||| kite"]}, java)
    assert images[0] == pytest.approx(1)
    assert 0.1 < images[1] < 1
    assert images[2] < 0.1
    assert images[3] == pytest.approx(1), "the separator in a caption does not make it two"
    assert min(images) < corpus < max(images)


@pytest.mark.parametrize(
    "fault",
    [
        "exit 1",
        "exec <&-; sleep 0.1; exit 1",
        "echo 'no number'; cat",
        "yes '?' | head -50; exec sleep 60",
        "head -1; exit 0",
    ],
)
def test_meteor_failing_is_an_error_and_leaves_no_process(
    tmp_path: Path, stand_in: Callable[..., str], fault: str
) -> None:
    java = stand_in(f'echo $$ > "{tmp_path}/pid"\necho not enough memory >&2\n{fault}')
    started = time.monotonic()
    with pytest.raises(CaptioningError, match=r"(?s)METEOR .*not enough memory.*tokenizer=\"words\""):
        meteor(TRUTHS, CANDIDATES, java)
    assert time.monotonic() - started < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


SPICE_PROGRAM = """
import json, sys
place = sys.argv.index("-out")
items = json.load(open(sys.argv[place - 1], encoding="utf-8"))
found = [
    {"image_id": item["image_id"], "scores": {"All": {"f": len(item["test"]) / 100 + len(item["refs"]), "re": 0.3}}}
    for item in items
]
with open(sys.argv[place + 1], "w") as file:
    json.dump(ORDER, file)
"""


@pytest.mark.parametrize("order", ["found", "found[::-1]", "found[1:] + found[:1]"])
def test_spice_scores_come_in_the_images_order_whatever_that_of_the_answers(
    tmp_path: Path, stand_in: Callable[..., str], monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    scores = spice(TRUTHS, CANDIDATES, stand_in(SPICE_PROGRAM.replace("ORDER", order), sys.executable))
    assert scores == pytest.approx([2.10, 1.05, 1.21])
    assert not list((tmp_path / "scratch").iterdir()), "nothing is left behind"


def test_spice_is_asked_for_captions_and_references_as_its_program_wants_them(
    tmp_path: Path, stand_in: Callable[..., str]
) -> None:
    program = f'open("{tmp_path}/arguments", "w").write("\\n".join(sys.argv[1:]))\n'
    program += f'open("{tmp_path}/given", "w").write(json.dumps(items))\n'
    lines = SPICE_PROGRAM.replace("ORDER", "found").split("found = [")
    spice(TRUTHS, CANDIDATES, stand_in(lines[0] + program + "found = [" + lines[1], sys.executable))
    arguments = (tmp_path / "arguments").read_text().split("\n")
    assert Path(arguments[arguments.index("-jar") + 1]).is_file()
    given = json.loads((tmp_path / "given").read_text())
    assert [(item["test"], item["refs"]) for item in given] == [
        ("a cat sits", ["a cat sits", "a cat"]),
        ("a dog", ["a dog runs"]),
        ("two birds fly over it", ["nothing alike"]),
    ]


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("echo wrong class version >&2; exit 3", 3),
        ("echo wrong class version >&2", 0),
        ('while [ "$1" != -out ]; do shift; done; echo "[]" > "$2"; echo wrong class version >&2; exit 1', 1),
        ('while [ "$1" != -out ]; do shift; done; echo "?" > "$2"; echo wrong class version >&2; exit 1', 1),
    ],
)
def test_spice_failing_says_what_to_do(stand_in: Callable[..., str], script: str, code: int) -> None:
    with pytest.raises(
        CaptioningError, match=rf"(?s)exit code {code}: wrong class version.*written for \(8\)"
    ) as error:
        spice(TRUTHS, CANDIDATES, stand_in(script))
    assert all(name in str(error.value) for name in SPICE_MODELS)


def test_missing_models_are_named_until_they_are_there(with_models: Path) -> None:
    assert missing_spice_models() == ["stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar"]
    (with_models / "stanford-corenlp-3.6.0.jar").touch()
    assert missing_spice_models() == ["stanford-corenlp-3.6.0-models.jar"]
    (with_models / "stanford-corenlp-3.6.0-models.jar").touch()
    assert missing_spice_models() == []


@needs_java
def test_without_its_models_spice_is_left_out_and_the_log_says_where_they_belong(
    with_models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        scores = score_captions({1: "a cat"}, {1: ["a cat"]})
    assert "meteor" in scores.metrics
    assert "spice" not in scores.metrics
    assert "spice" not in scores.per_image
    assert str(with_models) in caplog.text
    assert all(name in caplog.text for name in SPICE_MODELS)


@needs_java
def test_with_its_models_spice_is_scored_and_the_corpus_is_the_images_mean(
    with_models: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in SPICE_MODELS:
        (with_models / name).touch()
    monkeypatch.setattr(java_scorers, "spice", lambda truths, candidates, java: [0.5, 0.1])
    with caplog.at_level(logging.INFO):
        scores = score_captions({4: "a cat", 2: "a dog"}, {4: ["a cat"], 2: ["dogs"]})
    assert scores.metrics["spice"] == pytest.approx(0.3)
    assert dict(zip(scores.per_image["image_id"], scores.per_image["spice"], strict=True)) == {4: 0.5, 2: 0.1}
    assert "SPICE" not in caplog.text
