from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest

from flows.tasks import downloads


def test_each_file_has_one_artifact_that_is_updated_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    created: dict[UUID, tuple[str, float]] = {}
    updates: list[tuple[str, float]] = []
    now = 0.0

    def create(progress: float, key: str, description: str) -> UUID:
        artifact = uuid4()
        created[artifact] = (key, progress)
        return artifact

    monkeypatch.setattr(downloads, "create_progress_artifact", create)
    monkeypatch.setattr(downloads, "update_progress_artifact", lambda a, p: updates.append((created[a][0], p)))
    monkeypatch.setattr(downloads, "time", SimpleNamespace(monotonic=lambda: now))
    downloads.progress_artifacts()("a.zip", 50, 50)
    assert created == {}, "a notebook has no page of Prefect"
    monkeypatch.setattr(downloads, "is_in_prefect", lambda: True)
    report = downloads.progress_artifacts()
    for done in range(1, 101):
        now += 0.3
        report("Träin2014.zip", done, 100)
    report("é.zip", 5, None)
    report("b.zip", 50, 50)
    assert list(created.values()) == [("download-tr-in2014-zip", 1.0), ("download-b-zip", 100.0)]
    assert updates == [("download-tr-in2014-zip", float(p)) for p in (18, 35, 52, 69, 86, 100)]
