"""What executors of Spark read: the same as the local engine, without this project."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from components.scoring import spark
from components.scoring.inputs import list_images, read_inputs

cloudpickle = pytest.importorskip("pyspark.cloudpickle")
ELSEWHERE = """
import pickle, sys
sys.modules["components"] = sys.modules["flows"] = None
read, files = pickle.load(sys.stdin.buffer)
pickle.dump([part for part in read(iter([files]))], sys.stdout.buffer)
"""


def test_executors_read_what_the_local_engine_reads_and_give_the_same_reasons(
    photograph: Callable[[int], bytes], tmp_path: Path
) -> None:
    inbox = tmp_path / "in"
    (inbox / "sub").mkdir(parents=True)
    names = ["_DSC0001.JPG", ".hidden.jpg", "a::b.jpg", "a: b?*[1].jpg", "sub/Ä {x}.png", "gone.jpg", "empty.jpg"]
    for number, name in enumerate(names):
        (inbox / name).write_bytes(photograph(number) if name != "empty.jpg" else b"")
    Path(os.fsdecode(os.fsencode(inbox) + b"/caf\xe9.jpg")).write_bytes(photograph(9))
    (inbox / "annexed.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(inbox / "pipe.jpg")
    listing = list_images(inbox)
    (inbox / "gone.jpg").unlink()
    local = read_inputs(inbox, listing)
    rows = {"uri": local["uri"], "file_name": listing.names, "problem": [entry.problem for entry in listing.inputs]}
    given = cloudpickle.dumps((spark.make_reader(str(inbox), local=True), pd.DataFrame(rows)))
    done = subprocess.run([sys.executable, "-c", ELSEWHERE], input=given, capture_output=True, check=True)
    found = pd.concat(pickle.loads(done.stdout), ignore_index=True)  # noqa: S301
    assert len(found) == len(names) + 3
    assert found["uri"].tolist() == local["uri"].tolist()
    assert found["problem"].tolist() == local["error"].tolist()
    assert [len(content or b"") for content in found["content"]] == local["bytes"].tolist()
    assert (found["problem"] != "").sum() == 3
