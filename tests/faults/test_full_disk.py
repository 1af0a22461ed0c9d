"""A disk that runs full, or can only be read: what is told, what is left, and what comes of it when there is room."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from components.archives.download import download
from components.artifacts import Stage, file_digest, run_stage
from components.decoder.caption import Search
from components.encoder.pool import EmbeddingPool, EncoderCard
from components.errors import CaptioningError, find_remedy
from components.scoring.dataset import Scorer, commit_batch, prepare_folder, read_dataset
from components.training.checkpoint import CHECKPOINT_FILE, State
from data_contracts.schema import PREDICTIONS

if TYPE_CHECKING:
    from tests.faults.conftest import Disk, Home

LARGE = np.random.default_rng(0).integers(0, 256, 1_000_000).astype(np.uint8)


def fetch(folder: Path, source: Path) -> None:
    file = source / "large.bin"
    file.write_bytes(LARGE.tobytes())
    download([file.as_uri()], folder / "downloads" / "large.bin")


def make_stage(folder: Path, source: Path) -> None:
    def work(partial: Path) -> int:
        pd.DataFrame({"number": LARGE}).to_parquet(partial / "table.parquet")
        return len(LARGE)

    run_stage(folder, Stage("numbers"), work)


def fill_pool(folder: Path, source: Path) -> None:
    pool = EmbeddingPool(folder / "pool", EncoderCard("toy", "0" * 16, 1000, 8, "notebook", "float32"))
    pool.write("shard", [str(number) for number in range(250)], LARGE[:250_000].reshape(250, 1000), {"bad": "no image"})


def keep_checkpoint(folder: Path, source: Path) -> None:
    (folder / "decoder").mkdir(exist_ok=True)
    weight = LARGE.astype(np.float32)[:200_000]
    decoder = SimpleNamespace(weights=[weight], trainable_variables=[weight])
    state = State(decoder, SimpleNamespace(state=np.zeros(2)), [{"epoch": 1, "phase": 1}], [weight])  # type: ignore[arg-type]
    state.save(SimpleNamespace(variables=[]), folder / "decoder")  # type: ignore[arg-type]


def hand_over(folder: Path, source: Path) -> None:
    rows = pd.DataFrame({"image_id": [f"{n:064}" for n in range(30_000)], "uri": LARGE[:30_000].astype(str)})
    rows = rows.assign(caption=[str(n) for n in LARGE[30_000:60_000]], logprob=LARGE[60_000:90_000] / 7, status="ok")
    rows = rows.assign(error="", model_version="1", encoder_fingerprint="0", scored_at=pd.Timestamp(0, tz="UTC"))
    rows.astype(PREDICTIONS).to_parquet(source / "part-00000.parquet", compression=None)
    scorer = Scorer("models:/captioner/1", "0", Search())
    commit_batch(folder, "key", source, scorer)
    assert len(read_dataset(folder, scorer)) == len(rows)


def files(folder: Path) -> dict[str, str]:
    found = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock" and path.name != "lock"]
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in found}


@pytest.mark.parametrize("write", [fetch, make_stage, fill_pool, hand_over, keep_checkpoint])
@pytest.mark.parametrize("left", [0, 20_000, 500_000])
def test_what_a_full_disk_stops_is_whole_when_there_is_room(
    disk: "Disk", tmp_path: Path, write: Callable[[Path, Path], None], left: int
) -> None:
    calm, source = tmp_path / "calm", tmp_path / "source"
    for folder in (calm, source):
        folder.mkdir()
    write(calm, source)
    disk.fill(left)
    with pytest.raises((OSError, CaptioningError)) as caught:
        write(disk.path, source)
    if isinstance(caught.value, CaptioningError):
        assert str(disk.path) in str(caught.value)
    assert "room" in str(caught.value) or "Make room" in find_remedy(caught.value)
    assert not [path for path in files(disk.path) if path in files(calm)]
    disk.empty()
    write(disk.path, source)
    assert files(disk.path) == files(calm)


def test_a_checkpoint_stays_when_the_next_finds_no_room(disk: "Disk", tmp_path: Path) -> None:
    keep_checkpoint(disk.path, tmp_path)
    before = file_digest(disk.path / "decoder" / CHECKPOINT_FILE)
    disk.fill(100_000)
    with pytest.raises(OSError, match=r"No space|written"):
        keep_checkpoint(disk.path, tmp_path)
    assert file_digest(disk.path / "decoder" / CHECKPOINT_FILE) == before


def test_a_home_and_a_folder_that_can_only_be_read_are_named(disk: "Disk", home: "Home") -> None:
    there = replace(home, path=disk.path)
    assert there.run("doctor").code in (0, 1)
    disk.remount("ro")
    assert "it cannot be written to" in there.run("doctor").result
    there.run("train", "--profile", "demo").has_said(f"cannot write to {disk.path}", "CAPTIONING_HOME", code=2)
    with pytest.raises(CaptioningError, match=f"cannot write predictions to {disk.path}: Read-only"):
        prepare_folder(disk.path)


def test_a_home_that_runs_full_again_and_again_ends_as_an_undisturbed_one(
    long_form: None, calm: "Home", disk: "Disk", home: "Home", train_command: tuple[str, ...]
) -> None:
    there = replace(home, path=disk.path)
    for megabytes in (3, 5, 20, 60):  # Prefect's database, MLflow's, what training leaves, the registered model
        disk.remount(f"size={megabytes}m")
        there.run(*train_command).has_said("Make room")
    disk.remount("size=500m")
    there.train()
    assert there.stages() == calm.stages()
    assert there.versions() == [1]
