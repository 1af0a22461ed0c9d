"""Too few files that may be open at once: raised where the machine lets it, told where it does not."""

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.faults.conftest import Home

SHARDS = 100
READ = """
import sys
from pathlib import Path
import numpy as np
from components.encoder.pool import EmbeddingPool, EncoderCard
from components.errors import find_remedy
from flows.settings import prepare_environment

pool = EmbeddingPool(Path(sys.argv[1]), EncoderCard("toy", "0" * 16, 5, 8, "notebook", "float32"))
names = [str(number) for number in range(int(sys.argv[2]))]
for name in names:
    if not pool.has(name):
        pool.write(name, [name], np.full((1, 5), int(name), np.float32), {})
prepare_environment(False)
try:
    print(pool.vectors([pool.find(names).places[name] for name in names])[:][:, 0].sum())
except OSError as error:
    print(find_remedy(error))
"""


def limited(soft: int, hard: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_more_shards_than_open_files_are_read_where_the_limit_can_be_raised(tmp_path: Path) -> None:
    command = [sys.executable, "-c", READ, str(tmp_path / "pool"), str(SHARDS)]
    told = [
        subprocess.run(command, preexec_fn=limited(64, hard), capture_output=True, text=True, check=True).stdout.strip()
        for hard in (64, 4096)
    ]
    assert told[0] == "Too many files are open: raise the limit (`ulimit -n 65536`)"
    assert float(told[1]) == sum(range(SHARDS))


def test_a_command_that_may_open_too_few_says_so(
    long_form: None, trained: "Home", tmp_path: Path, train_command: tuple[str, ...]
) -> None:
    before = trained.stages()
    images = str(next(trained.path.glob("downloads/scenes+*")) / "dev.zip")
    for command in (("score", "--images", images, "--out", str(tmp_path / "out")), train_command):
        trained.run(*command, preexec_fn=limited(24, 24)).has_said("ulimit -n")
    done = trained.run(*train_command, preexec_fn=limited(64, 4096))
    assert done.code == 0, done.told
    assert trained.stages().items() >= before.items()  # and what the scoring did before it failed
    assert trained.versions() == [1]
    done = trained.run("score", "--images", images, "--out", str(tmp_path / "out"), preexec_fn=limited(64, 4096))
    assert done.code == 0, done.told
