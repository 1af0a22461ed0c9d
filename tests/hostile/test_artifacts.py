"""Stage folders that somebody else, or a failing disk, has written into: reused whole, made again, or refused."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from components.artifacts import MANIFEST, Artifact, Stage, run_stage
from components.errors import CaptioningError
from tests.hostile.fuzzer import damaged
from tests.hostile.watch import try_all

STAGE = Stage("captions", {"seed": 1})
CONTENT = {"table.parquet": b"PAR1 rows PAR1", "deep/er.json": b'{"a": [1, 2]}'}


def work(folder: Path) -> int:
    for name, content in CONTENT.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return 2


def make(home: Path) -> Artifact:
    """The stage's artefact, which must be what `work` writes, however it is come by."""
    artifact = run_stage(home, STAGE, work)
    assert {name: (artifact.path / name).read_bytes() for name in CONTENT} == CONTENT
    assert (artifact.path.parent, artifact.path.is_symlink()) == (home / "stages", False)
    assert (artifact.stage, artifact.key, type(artifact.rows), artifact.parents) == ("captions", STAGE.key, int, ())
    assert f"{artifact.rows:,} rows"
    return artifact


def attempt(key: str, folder: Path) -> None:
    made = make(folder).path
    files = sorted(path for path in made.rglob("*") if path.is_file())
    chosen = made / MANIFEST if int(key) % 2 else files[int(key) // 2 % len(files)]
    chosen.write_bytes(damaged([chosen.read_bytes()], int(key)))
    make(folder)


def test_damaged_stages_are_made_again(inputs: range) -> None:
    assert try_all("tests.hostile.test_artifacts:attempt", inputs) == {}


def edited(change: Callable[[dict], None]) -> Callable[[Path], None]:  # type: ignore[type-arg]
    def edit(made: Path) -> None:
        manifest = json.loads((made / MANIFEST).read_text())
        change(manifest)
        (made / MANIFEST).write_text(json.dumps(manifest))

    return edit


def replaced(made: Path, by: Callable[[Path], object]) -> None:
    shutil.rmtree(made)
    by(made)


def moved_behind_a_link(made: Path) -> None:
    made.symlink_to(made.rename(made.parents[2] / "elsewhere"))


def renamed(made: Path) -> None:
    other = run_stage(made.parents[1], Stage("captions", {"seed": 2}), lambda folder: work(folder) + 1)
    shutil.rmtree(made)
    other.path.rename(made)


DEEDS: dict[str, Callable[[Path], object]] = {
    "a manifest nested too deeply": lambda made: (made / MANIFEST).write_text("[" * 200_000),
    "a manifest that is a folder": lambda made: [(made / MANIFEST).unlink(), (made / MANIFEST).mkdir()],
    "rows that are no number": edited(lambda manifest: manifest["artifact"].update(rows="many")),
    "a digest that is no text": edited(lambda manifest: manifest["artifact"].update(digest=None)),
    "parents that are none": edited(lambda manifest: manifest["artifact"].update(parents=7)),
    "another stage's key": edited(lambda manifest: manifest["artifact"].update(key="0" * 64)),
    "a key that only begins alike": edited(lambda m: m["artifact"].update(key=STAGE.key[:16] + "0" * 48)),
    "parents of another": edited(lambda manifest: manifest["artifact"].update(parents=["0" * 64])),
    "another stage's name": edited(lambda manifest: manifest["artifact"].update(stage="../../captions")),
    "another stage's folder": renamed,
    "a file in place of the folder": lambda made: replaced(made, lambda place: place.write_text("")),
    "a link in place of the folder": moved_behind_a_link,
    "a link that leads nowhere": lambda made: replaced(made, lambda place: place.symlink_to("nowhere")),
    "a file more": lambda made: (made / "more").write_text(""),
    "a file behind a link": lambda made: [(made / "table.parquet").unlink(), (made / "table.parquet").symlink_to("/")],
    "a device in place of a file": lambda made: [
        (made / "table.parquet").unlink(),
        (made / "table.parquet").symlink_to("/dev/zero"),
    ],
    "a pipe that nobody writes to": lambda made: [
        (made / "table.parquet").unlink(),
        os.mkfifo(made / "table.parquet"),
    ],
}


@pytest.mark.parametrize("deed", DEEDS)
def test_a_stage_that_is_not_what_it_was_is_made_again(deed: str, tmp_path: Path) -> None:
    DEEDS[deed](make(tmp_path / "home").path)
    assert not make(tmp_path / "home").reused


def test_a_stage_that_cannot_be_read_is_left_alone(tmp_path: Path) -> None:
    made = make(tmp_path / "home").path
    (made / MANIFEST).unlink()
    (made / MANIFEST).symlink_to(MANIFEST)
    with pytest.raises(CaptioningError, match=f"cannot read {made}: .* Make it readable, or delete it"):
        make(tmp_path / "home")
    assert (made / "table.parquet").exists()


@pytest.mark.parametrize("resumable", [True, False])
def test_a_link_in_place_of_a_partial_folder_is_not_written_through(resumable: bool, tmp_path: Path) -> None:
    (outside := tmp_path / "outside").mkdir()
    (home := tmp_path / "home" / "partial").mkdir(parents=True)
    (home / f"captions-{STAGE.key[:16]}").symlink_to(outside)
    run_stage(home.parent, STAGE, work, resumable=resumable)
    assert list(outside.iterdir()) == []
