"""The embedding of a data set as the flows do it: in this process, on a Ray cluster, and where nothing is to do."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pandas as pd
import prefect
import pytest
from prefect.client.orchestration import get_client

from components.artifacts import Artifact, Stage, run_stage
from components.encoder.store import EmbeddingStore
from components.images.photographs import PHOTOGRAPHS_FILE, read_photographs
from components.profile import Profile
from flows.services.prefect_server import limit_gpu
from flows.settings import settings
from flows.tasks.embeddings import extract_embeddings
from tests import toy

ROOT = Path(__file__).parents[3]
Extract = Callable[..., Artifact]

AGAIN = """
import json, sys
from pathlib import Path
from components.artifacts import find_artifact
from components.profile import Profile
from flows.tasks.embeddings import extract_embeddings
photographs, archive, profile = find_artifact(Path(sys.argv[1])), Path(sys.argv[2]), json.loads(sys.argv[3])
made = extract_embeddings(photographs, {"all": archive}, Profile.model_validate(profile))
print(json.dumps({"reused": made.reused, "rows": made.rows, "tensorflow": "tensorflow" in sys.modules}))
"""


pytestmark = pytest.mark.usefixtures("server")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("CAPTIONING_HOME", str(tmp_path))
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


def profile_of(**runtime: object) -> Profile:
    return toy.profile_of(ROOT, "photos.zip", "all.json", {"shard_size": 5, "batch_size": 4}, runtime=runtime)


@pytest.fixture
def photographs(photograph: Callable[[int], bytes], home: Path) -> Callable[[int], Artifact]:
    """The artefact that lists so many photographs, of which every tenth is broken."""

    def make(count: int) -> Artifact:
        files = {f"{i}.jpg": photograph(i) if i % 10 else b"broken %d" % i for i in range(count)}
        with ZipFile(home / "photos.zip", "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        images = pd.DataFrame({"image_id": range(count), "archive": "all", "file_name": list(files)})

        def work(folder: Path) -> int:
            table = read_photographs(images, {"all": home / "photos.zip"})
            table.to_parquet(folder / PHOTOGRAPHS_FILE, index=False)
            return len(table)

        return run_stage(home, Stage("photographs", {"count": count}), work)

    return make


@prefect.flow
def embed(photographs: Artifact, archive: Path, profile: Profile) -> Artifact:
    return extract_embeddings(photographs, {"all": archive}, profile)


def pools(home: Path) -> list[list[str]]:
    """The images of each shard of the pool."""
    return [json.loads(path.read_text())["images"] for path in home.glob("embeddings/*/*.json")]


def test_only_new_images_are_embedded(home: Path, photographs: Callable[[int], Artifact]) -> None:
    first = embed(photographs(22), home / "photos.zip", profile_of())
    before = pools(home)
    assert sum(map(len, before)) == first.rows == 19
    more = embed(photographs(24), home / "photos.zip", profile_of())
    (new,) = [shard for shard in pools(home) if shard not in before]
    index = EmbeddingStore.open(more.path).index
    assert sorted(index.loc[index["image_id"] >= 22, "digest"]) == sorted(new)
    assert more.rows == 21


def test_where_all_is_embedded_tensorflow_is_not_started(home: Path, photographs: Callable[[int], Artifact]) -> None:
    listed = photographs(12)
    made = embed(listed, home / "photos.zip", profile_of())
    profile = profile_of().model_dump_json()
    command = [sys.executable, "-c", AGAIN, str(listed.path), str(home / "photos.zip"), profile]
    for reused in (True, False):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
        assert json.loads(done.stdout) == {"reused": reused, "rows": 10, "tensorflow": False}
        (made.path / "index.parquet").unlink()  # from the pool it comes back


def test_a_damaged_shard_is_embedded_again(home: Path, photographs: Callable[[int], Artifact]) -> None:
    made = embed(photographs(12), home / "photos.zip", profile_of())
    shard = made.path / "shard-00000.npy"
    with shard.open("r+b") as file:  # also in the pool: it is the same file
        file.seek(1000)
        file.write(b"damage")
    again = embed(photographs(12), home / "photos.zip", profile_of())
    assert not again.reused
    assert again.digest == made.digest


def with_notebook_pixels(profile: Profile) -> Profile:
    """The same with a second encoder, the first one's network behind the notebook's preprocessing."""
    second = profile.encoder.model_copy(update={"preprocessing": "notebook"})
    return profile.model_copy(update={"further_encoders": {"second": second}})


def test_embeddings_of_two_encoders_are_joined(home: Path, photographs: Callable[[int], Artifact]) -> None:
    listed, archive = photographs(12), home / "photos.zip"
    both = with_notebook_pixels(profile_of())
    alone = [profile_of(), profile_of().model_copy(update={"encoder": both.encoders[1]})]
    first, second = (EmbeddingStore.open(embed(listed, archive, profile).path) for profile in alone)
    before = pools(home)
    made = embed(listed, archive, both)
    assert pools(home) == before, "embedded again"
    store = EmbeddingStore.open(made.path)
    ids = store.index["image_id"].to_numpy()
    assert made.rows == len(ids) == 10
    np.testing.assert_array_equal(store.vectors(ids)[:], np.hstack([first.vectors(ids)[:], second.vectors(ids)[:]]))
    assert not np.array_equal(first.vectors(ids)[:], second.vectors(ids)[:])
    assert store.fingerprint == f"{first.fingerprint}+{second.fingerprint}"
    assert sorted(store.quarantine["image_id"]) == [0, 10]
    assert embed(listed, archive, both).reused


def test_a_second_encoder_embeds_what_the_first_has_embedded(
    home: Path, photographs: Callable[[int], Artifact]
) -> None:
    embed(photographs(12), home / "photos.zip", profile_of())
    assert sum(map(len, pools(home))) == 10
    made = embed(photographs(12), home / "photos.zip", with_notebook_pixels(profile_of()))
    assert sum(map(len, pools(home))) == 20
    assert EmbeddingStore.open(made.path).dimension == 2 * 1280


def test_a_ray_cluster_makes_the_same_embeddings(
    home: Path,
    photographs: Callable[[int], Artifact],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("prefect_ray", reason="the extra `ray` is not installed")
    listed = photographs(33)
    here = EmbeddingStore.open(embed(listed, home / "photos.zip", profile_of()).path)
    monkeypatch.setenv("CAPTIONING_HOME", str(tmp_path_factory.mktemp("ray-home")))
    settings.cache_clear()
    there = EmbeddingStore.open(embed(listed, home / "photos.zip", profile_of(runner="ray", workers=2)).path)
    pd.testing.assert_frame_equal(there.index, here.index)
    pd.testing.assert_frame_equal(there.quarantine, here.quarantine)
    np.testing.assert_allclose(
        there.vectors(there.index["image_id"])[:], here.vectors(here.index["image_id"])[:], rtol=1e-5, atol=1e-5
    )


def test_the_gpu_is_limited_once_and_an_operators_limit_stays() -> None:
    limit_gpu()
    limit_gpu()
    with get_client(sync_client=True) as client:
        assert client.read_global_concurrency_limit_by_name("tag:gpu").limit == 1
        client.upsert_global_concurrency_limit_by_name("tag:gpu", 3)
        limit_gpu()
        assert client.read_global_concurrency_limit_by_name("tag:gpu").limit == 3
