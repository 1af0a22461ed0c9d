"""The compose file: what it demands, what it opens, what it allows."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ONE_SHOT = {"bucket"}


def test_is_valid_with_the_example_and_secrets(configure: Callable, secrets: dict[str, str]) -> None:
    done = configure(secrets, "--quiet")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("missing", ["", "=empty"])
def test_names_each_missing_secret(configure: Callable, secrets: dict[str, str], missing: str) -> None:
    for name in secrets:
        rest = {other: value for other, value in secrets.items() if other != name}
        done = configure(rest | ({name: ""} if missing else {}), "--quiet")
        assert done.returncode != 0
        assert f"required variable {name} is missing" in done.stderr


def test_the_example_lists_every_variable_and_no_secret(docker_folder: Path, secrets: dict[str, str]) -> None:
    lines = (docker_folder / "env.example").read_text(encoding="utf-8").splitlines()
    example = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    text = (docker_folder / "compose.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"\$\{(\w+)", text)) == set(example)
    assert {name for name, value in example.items() if not value} == set(secrets)


def test_holds_no_secret_of_its_own(docker_folder: Path) -> None:
    unresolved = yaml.safe_load((docker_folder / "compose.yaml").read_text(encoding="utf-8"))
    for service in unresolved["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|KEY|TOKEN", name):
                assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), name


def test_opens_ports_on_loopback_only(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert {port["target"] for port in ports} == {4200, 5000, 8080}
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}


def test_every_service_is_watched_or_ends(compose: dict[str, Any], docker_folder: Path) -> None:
    stages = re.split(r"(?m)^FROM \S+ AS ", (docker_folder / "Dockerfile").read_text(encoding="utf-8"))
    watched = {stage.split()[0] for stage in stages if "\nHEALTHCHECK" in stage}
    for name, service in compose["services"].items():
        has_check = "healthcheck" in service or service.get("build", {}).get("target") in watched
        assert has_check != (name in ONE_SHOT), name
        assert service["restart"] == ("no" if name in ONE_SHOT else "unless-stopped"), name


def test_waits_for_what_it_needs(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for needed, how in service.get("depends_on", {}).items():
            ends = needed in ONE_SHOT
            assert how["condition"] == ("service_completed_successfully" if ends else "service_healthy")


def test_pins_every_image(compose: dict[str, Any], docker_folder: Path) -> None:
    project = tomllib.loads((docker_folder.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name, service in compose["services"].items():
        tag = service["image"].rpartition(":")[2]
        if "build" in service:
            assert tag == project["version"], name
        else:
            assert re.match(r"\d", tag), name


def test_locks_every_service_down(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert any(folder.split(":")[0] == "/tmp" for folder in service["tmpfs"]), name
    granted = {name for name, service in compose["services"].items() if service.get("cap_add")}
    assert granted == {"s3"}


def test_keeps_the_stores_to_the_servers(compose: dict[str, Any]) -> None:
    assert compose["networks"]["storage"]["internal"]
    inside = {name for name, service in compose["services"].items() if "storage" in service["networks"]}
    assert inside == {"postgres", "s3", "bucket", "prefect", "mlflow"}


def test_trains_where_it_is_told_to(compose: dict[str, Any]) -> None:
    services = compose["services"]
    queues = {name: service["command"][-1] for name, service in services.items() if "worker" in service["image"]}
    assert queues == {"worker": "default", "trainer": "gpu", "trainer-gpu": "gpu"}
    assert services["trainer-gpu"]["build"]["args"] == {"ACCELERATOR": "gpu"}
    (device,) = services["trainer-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert services["worker"]["environment"]["CAPTIONING_TRACKING_URI"] == "http://mlflow:5000"
