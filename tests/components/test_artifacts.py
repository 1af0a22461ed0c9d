import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from components.artifacts import (
    MANIFEST,
    Artifact,
    Incomplete,
    Stage,
    file_digest,
    find_artifact,
    made_by,
    run_stage,
    write_atomic,
)
from components.provenance import commit

STAGE = Stage("stage")


def writes(**files: str) -> Callable[[Path], int]:
    """Work that writes these files; a double underscore in a name is a slash."""

    def work(folder: Path) -> int:
        for name, content in files.items():
            path = folder / name.replace("__", "/")
            path.parent.mkdir(exist_ok=True)
            path.write_text(content, encoding="utf-8")
        return len(files)

    return work


def never(folder: Path) -> int:
    raise AssertionError("this work was to be reused")


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in files}


def test_finished_work_is_reused(tmp_path: Path) -> None:
    made = run_stage(tmp_path, STAGE, writes(a="1", sub__b="2"))
    found = run_stage(tmp_path, STAGE, never)
    assert (made.reused, found.reused) == (False, True)
    assert (found.digest, found.key, found.path, found.rows) == (made.digest, STAGE.key, made.path, 2)
    assert contents(found.path) == {"a": "1", "sub/b": "2"}
    assert not list((tmp_path / "partial").iterdir())


def test_the_artefact_remembers_its_parents(tmp_path: Path) -> None:
    parent = run_stage(tmp_path, STAGE, writes(a="1"))
    child = Stage("child", parents=[parent])
    for work in (writes(b="2"), never):
        assert run_stage(tmp_path, child, work).parents == (parent.digest,)


def rewrite(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda folder: (folder / "a").unlink(), id="missing file"),
        pytest.param(rewrite("a", b"12"), id="truncated file"),
        pytest.param(rewrite("a", b"129"), id="changed file"),
        pytest.param(lambda folder: (folder / "a").rename(folder / "b"), id="renamed file"),
        pytest.param(rewrite("b", b""), id="additional file"),
        pytest.param(lambda folder: (folder / MANIFEST).unlink(), id="missing manifest"),
        pytest.param(rewrite(MANIFEST, b""), id="empty manifest"),
        pytest.param(
            lambda folder: (folder / MANIFEST).write_bytes((folder / MANIFEST).read_bytes()[:50]),
            id="truncated manifest",
        ),
        pytest.param(rewrite(MANIFEST, b"[]"), id="manifest is no object"),
        pytest.param(rewrite(MANIFEST, b'{"artifact": {"stage": "stage"}}'), id="manifest without fields"),
        pytest.param(rewrite(MANIFEST, b"\xff\xfe\x00"), id="manifest is no text"),
        pytest.param(lambda folder: [path.unlink() for path in folder.iterdir()], id="empty folder"),
    ],
)
def test_damaged_output_is_made_again(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    made = run_stage(tmp_path, STAGE, writes(a="123"))
    damage(made.path)
    again = run_stage(tmp_path, STAGE, writes(a="123"))
    assert (again.reused, again.digest, contents(again.path)) == (False, made.digest, {"a": "123"})
    assert run_stage(tmp_path, STAGE, never).reused


def test_a_folder_of_no_artefact_is_none(tmp_path: Path) -> None:
    assert find_artifact(tmp_path / "nothing") is None


def test_work_that_fails_leaves_nothing_final(tmp_path: Path) -> None:
    def work(folder: Path) -> int:
        (folder / "a").write_text("half")
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        run_stage(tmp_path, STAGE, work)
    assert not (tmp_path / "stages").exists()
    assert run_stage(tmp_path, STAGE, writes(b="whole")).rows == 1


@pytest.mark.parametrize("resumable", [True, False])
def test_only_resumable_work_finds_what_an_earlier_attempt_left(tmp_path: Path, resumable: bool) -> None:
    def first(folder: Path) -> int:
        (folder / "a").write_text("1")
        raise KeyboardInterrupt

    def second(folder: Path) -> int:
        assert (folder / "a").exists() == resumable
        (folder / "b").write_text("2")
        return 2

    with pytest.raises(KeyboardInterrupt):
        run_stage(tmp_path, STAGE, first, resumable=True)
    made = run_stage(tmp_path, STAGE, second, resumable=resumable)
    assert set(contents(made.path)) == ({"a", "b"} if resumable else {"b"})


def test_a_kill_between_manifest_and_rename_is_resumed(tmp_path: Path) -> None:
    made = run_stage(tmp_path, STAGE, writes(a="1"))
    made.path.rename(tmp_path / "partial" / made.path.name)
    again = run_stage(tmp_path, STAGE, writes(b="2"), resumable=True)
    assert contents(again.path) == {"a": "1", "b": "2"}
    assert json.loads((again.path / MANIFEST).read_text())["artifact"]["digest"] == again.digest != made.digest


@pytest.mark.parametrize("resumable", [True, False])
def test_what_is_incomplete_is_made_again_and_stays_as_it_is_for_who_uses_it(tmp_path: Path, resumable: bool) -> None:
    found: list[bool] = []

    def attempt(content: str, rows: int) -> Artifact:
        def work(folder: Path) -> int:
            found.append((folder / "a").exists())
            (folder / "a").write_text(content)
            return rows

        return run_stage(tmp_path, STAGE, work, resumable=resumable)

    first, same, other = (attempt(content, Incomplete(1)) for content in ("1", "1", "2"))
    assert [made.complete or made.reused for made in (first, same, other)] == [False] * 3
    assert (first.path, first.digest) == (same.path, same.digest)
    assert contents(first.path) == {"a": "1"}
    assert contents(other.path) == {"a": "2"}
    assert len({made.key for made in (first, other)} | {STAGE.key}) == 3
    healed = attempt("3", 1)
    assert healed.complete
    assert healed.key == STAGE.key
    assert found == [False, *[resumable] * 3]
    assert run_stage(tmp_path, STAGE, never).reused
    assert not list((tmp_path / "partial").iterdir())


def test_unfinished_files_are_not_part_of_the_artefact(tmp_path: Path) -> None:
    made = run_stage(tmp_path, STAGE, writes(**{"a": "1", "b.tmp": "", "sub__c.tmp": "", "d.tmp.txt": ""}))
    assert set(contents(made.path)) == {"a", "d.tmp.txt"}
    assert run_stage(tmp_path, STAGE, never).reused


def test_digest_is_of_names_and_contents_wherever_they_lie(tmp_path: Path) -> None:
    def digest(home: str, name: str = "stage", **files: str) -> str:
        return run_stage(tmp_path / home, Stage(name), writes(**files)).digest

    assert digest("x", a="1", b="2") == digest("y", b="2", a="1") == digest("x", "other", a="1", b="2")
    assert len({digest(str(n), **files) for n, files in enumerate([{"a": "1"}, {"b": "1"}, {"a": "2"}])}) == 3


def test_an_incomplete_artefact_is_used_once_and_its_files_are_there_for_the_next_attempt(tmp_path: Path) -> None:
    def half(folder: Path) -> int:
        (folder / "a").write_text("read")
        return Incomplete(1)

    def rest(folder: Path) -> int:
        assert (folder / "a").read_text() == "read"
        (folder / "b").write_text("healed")
        return 2

    first = run_stage(tmp_path, STAGE, half, resumable=True)
    assert (first.rows, first.complete, first.reused) == (1, False, False)
    assert contents(first.path) == {"a": "read"}
    again = run_stage(tmp_path, STAGE, half, resumable=True)
    assert (again.reused, again.digest) == (False, first.digest)  # so that nothing below it is made again
    whole = run_stage(tmp_path, STAGE, rest, resumable=True)
    assert (whole.rows, whole.complete) == (2, True)
    assert whole.digest != first.digest
    assert run_stage(tmp_path, STAGE, never).reused


def test_an_incomplete_artefact_that_cannot_resume_is_made_afresh(tmp_path: Path) -> None:
    def count(folder: Path) -> int:
        assert list(folder.iterdir()) == []
        (folder / "a").write_text("1")
        return Incomplete(1)

    for _ in range(2):
        assert not run_stage(tmp_path, STAGE, count).reused


class Config(BaseModel):
    units: int = 4


def test_key_depends_on_everything_the_output_depends_on(tmp_path: Path) -> None:
    parent = Artifact("p", "k", tmp_path, "digest", 1, ())
    stages = [
        *(Stage("a"), Stage("b")),
        *(Stage("a", Config()), Stage("a", Config(units=5)), Stage("a", {"units": "4"})),
        *(Stage("a", parents=[parent]), Stage("a", inputs=["x"]), Stage("a", inputs=["x", "y"])),
        *(Stage("a", sources={"code": "1"}), Stage("a", sources={"code": "2"}), Stage("a", sources={"other": "1"})),
    ]
    keys = {stage.key for stage in stages}
    assert len(keys) == len(stages)
    assert all(len(key) == 64 and int(key, 16) for key in keys)
    assert Stage("a", {"units": 4}).key == Stage("a", Config()).key


def test_how_long_a_parent_took_and_where_it_lies_do_not_matter(tmp_path: Path) -> None:
    keys = {
        Stage("a", parents=[Artifact("p", "k", tmp_path / str(n), "digest", 1, (), float(n), bool(n))]).key
        for n in range(2)
    }
    assert len(keys) == 1


values = st.recursive(st.integers() | st.text() | st.none() | st.booleans(), lambda v: st.lists(v, max_size=3))


@given(st.dictionaries(st.text(), values, max_size=5))
def test_order_of_settings_does_not_change_the_key(config: dict[str, object]) -> None:
    assert Stage("a", config).key == Stage("a", dict(reversed(config.items()))).key


def test_the_manifest_says_what_made_the_artefact(tmp_path: Path) -> None:
    stage = Stage(
        "a", Config(units=5), inputs=["a secret address"], sources={"components.x": "0a", "components.y": "1b"}
    )
    made = made_by(run_stage(tmp_path, stage, writes(a="1")))
    assert (made["config"], made["sources"]) == ({"units": 5}, {"components.x": "0a", "components.y": "1b"})
    assert made["commit"] == commit()
    assert "secret" not in (tmp_path / "stages" / f"a-{stage.key[:16]}" / MANIFEST).read_text(encoding="utf-8")


def test_an_artefact_of_before_sources_were_recorded_says_nothing(tmp_path: Path) -> None:
    made = run_stage(tmp_path, STAGE, writes(a="1"))
    manifest = json.loads((made.path / MANIFEST).read_text(encoding="utf-8"))
    del manifest["made_by"]
    (made.path / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    assert made_by(run_stage(tmp_path, STAGE, never)) == {}


def test_atomic_write_keeps_the_old_file_when_the_block_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail() -> None:
        with write_atomic(path) as temporary:
            temporary.write_text("half")
            raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        fail()
    assert path.read_text() == "old"
    with write_atomic(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "new"


def test_file_digest_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_digest(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


PROCESS = """
import sys, time
from pathlib import Path
from components.artifacts import Stage, run_stage

def work(folder):
    (folder / "part").write_text("1")
    with Path(sys.argv[2]).open("a") as log:
        log.write("made\\n")
    time.sleep(float(sys.argv[3]))
    return 1

print(run_stage(Path(sys.argv[1]), Stage("stage"), work, resumable=True).reused)
"""


def start(home: Path, log: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROCESS, str(home), str(log), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_make_an_artefact_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    processes = [start(tmp_path / "home", log, 0.5) for _ in range(2)]
    assert sorted(process.communicate(timeout=60)[0].strip() for process in processes) == ["False", "True"]
    assert log.read_text() == "made\n"


def test_a_killed_stage_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    home, log = tmp_path / "home", tmp_path / "log"
    with start(home, log, 600) as process:
        while not log.exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (home / "stages").exists()
    shutil.copytree(home, tmp_path / "copy")

    resumed = run_stage(home, STAGE, lambda folder: len(list(folder.iterdir())), resumable=True)
    assert (resumed.reused, resumed.rows) == (False, 1)
    afresh = run_stage(tmp_path / "copy", STAGE, lambda folder: len(list(folder.iterdir())))
    assert (afresh.reused, afresh.rows) == (False, 0)
