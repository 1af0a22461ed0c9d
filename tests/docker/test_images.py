"""The Dockerfile, as far as it can be judged without building it."""

import re
import subprocess
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def stages(docker_folder: Path) -> dict[str, tuple[str, str]]:
    """Each stage's base and its lines, in their order."""
    text = (docker_folder / "Dockerfile").read_text(encoding="utf-8")
    return {
        name: (base, body) for base, name, body in re.findall(r"(?ms)^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM |\Z)", text)
    }


def test_the_linter_is_content(docker_folder: Path, tools: Path) -> None:
    command = [str(tools / "hadolint"), "--no-color", str(docker_folder / "Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_runs_as_nobody_in_particular(stages: dict[str, tuple[str, str]]) -> None:
    for target in ("worker", "server", "score"):
        assert re.findall(r"(?m)^USER (.*)$", stages[target][1])[-1:] == ["10001:10001"], target


def test_the_worker_is_what_is_built_by_default(stages: dict[str, tuple[str, str]]) -> None:
    assert list(stages)[-1] == "worker"
    assert stages["worker"][1].rstrip().endswith('CMD ["captioning", "worker"]')


def test_starts_from_a_pinned_image(docker_folder: Path, stages: dict[str, tuple[str, str]]) -> None:
    text = (docker_folder / "Dockerfile").read_text(encoding="utf-8")
    foreign = {base for base, _ in stages.values()} - set(stages)
    assert foreign == {"python:${PYTHON}"}
    assert re.findall(r"(?m)^ARG PYTHON=(.*)$", text) == ["3.11-slim-bookworm"]
    assert ":latest" not in text


def test_no_build_tool_reaches_an_image_that_runs(stages: dict[str, tuple[str, str]]) -> None:
    for target in ("worker", "server", "score"):
        base, body = stages[target]
        assert base == "base", target
        assert not re.search(r"\b(uv|pip) ", body.replace("--from=", "")), target


def test_the_scoring_image_holds_no_project_code(stages: dict[str, tuple[str, str]]) -> None:
    assert re.findall(r"(?m)^COPY .*$", stages["score"][1]) == ["COPY --link --from=score-builder /opt/venv /opt/venv"]
    assert stages["score-builder"][0] == "uv"
    assert "pyproject" not in stages["uv"][1] + stages["score-builder"][1]


def test_whatever_is_copied_is_sent_and_is_there(docker_folder: Path, stages: dict[str, tuple[str, str]]) -> None:
    ignore = (docker_folder / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignore[0] == "*"
    sent = {line[1:] for line in ignore if line.startswith("!")}
    lines = re.findall(r"(?m)^COPY (?!.*--from)(.*) \S+$", "".join(body for _, body in stages.values()))
    copied = {name for line in lines for name in line.split()}
    assert copied == sent
    assert {name for name in copied if not (docker_folder.parent / name).exists()} == set()
