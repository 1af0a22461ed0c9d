"""The download as a Prefect task: what is tried again, and what its run shows."""

import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import prefect
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from components.dataset import sources
from components.errors import CaptioningError, ConfigurationError
from components.profile import Profile
from flows.settings import settings
from flows.tasks import data

pytestmark = pytest.mark.usefixtures("server")


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Profile]:
    """A profile of a folder of photographs in the cloud."""
    monkeypatch.setenv("CAPTIONING_HOME", str(tmp_path))
    settings.cache_clear()
    bucket, photos = fsspec.filesystem("memory"), io.BytesIO()
    with zipfile.ZipFile(photos, "w") as archive:
        archive.writestr("a.jpg", b"a photograph")
    bucket.pipe_file("/bucket/photos.zip", photos.getvalue())
    bucket.pipe_file("/bucket/all.json", b"{}" * 1_000_000)
    source = {"images": "photos.zip", "captions": "all.json", "annotations": ""}
    dataset = {"root": "memory://bucket", "sources": {"all": source}, "holdout": 0.5}
    encoder = {"name": "efficientnet_lite0", "weights": "package"}
    yield Profile.model_validate({"name": "x", "dataset": dataset, "encoder": encoder})
    settings.cache_clear()


@prefect.flow
def fetch(profile: Profile) -> None:
    data.fetch_dataset.with_options(retry_delay_seconds=0)(profile)


def failing(error: type[CaptioningError], calls: list[int]) -> Callable[..., object]:
    obtain = sources.obtain_sources

    def fail_at_first(*arguments: object) -> object:
        calls.append(len(calls))
        if len(calls) == 1:
            raise error("broken")
        return obtain(*arguments)

    return fail_at_first


def test_a_failed_download_is_tried_again_and_its_progress_shown(
    profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(sources, "obtain_sources", failing(CaptioningError, calls))
    fetch(profile)
    assert len(calls) == 2
    with get_client(sync_client=True) as client:
        shown = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["download-all-json"])))
    assert [(artifact.type, artifact.data) for artifact in shown] == [("progress", 100)]


def test_what_trying_again_cannot_mend_is_not(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(sources, "obtain_sources", failing(ConfigurationError, calls))
    with pytest.raises(ConfigurationError):
        fetch(profile)
    assert len(calls) == 1
