"""What must hold of compose.yaml and its image, seen without an engine to run them."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from tapeline.core.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
SECRETS = {"TAPELINE_POSTGRES_PASSWORD", "TAPELINE_REDIS_PASSWORD"}
VARIABLE = re.compile(r"\$\{(\w+)(:[-?])?([^}]*)\}")


@pytest.fixture(scope="module")
def text() -> str:
    return (ROOT / "compose.yaml").read_text()


@pytest.fixture(scope="module")
def compose(text: str) -> dict[str, Any]:
    """As Compose reads it, with each variable at its default and secrets set."""
    return yaml.safe_load(VARIABLE.sub(lambda match: "secret" if match[2] == ":?" else match[3], text))


def test_every_variable_has_a_default_or_is_a_required_secret(text: str) -> None:
    kinds = {name: kind for name, kind, _ in VARIABLE.findall(text)}
    assert {name for name, kind in kinds.items() if kind == ":?"} == SECRETS
    assert all(kind in {":-", ":?"} for kind in kinds.values())


def test_no_secret_is_written_down(text: str) -> None:
    lines = [line for line in text.splitlines() if re.search(r"(?i)password|requirepass|auth:|://\w*:", line)]
    assert len(lines) > 5
    for line in lines:
        assert line.startswith("#") or re.search(r"\$\{TAPELINE_\w+_PASSWORD:\?", line), line


def test_nothing_is_published_beyond_loopback(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_every_service_is_limited_and_lasting_ones_are_watched(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        limits = service["deploy"]["resources"]["limits"]
        assert set(limits) == {"cpus", "memory"}, name
        if service["restart"] != "no":
            assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}, name
            assert service["stop_grace_period"], name


def test_what_is_mounted_is_declared(compose: dict[str, Any]) -> None:
    used = {
        volume.partition(":")[0]
        for service in compose["services"].values()
        for volume in service.get("volumes", ())
        if not volume.startswith((".", "/"))
    }
    assert used == set(compose["volumes"])
    assert {
        config["source"] for service in compose["services"].values() for config in service.get("configs", ())
    } == set(compose["configs"])


def test_what_a_service_waits_for_exists_and_can_tell(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for service in services.values():
        for name, wait in service.get("depends_on", {}).items():
            if wait["condition"] == "service_healthy":
                assert "healthcheck" in services[name]
            else:
                assert services[name]["restart"] == "no"


def test_our_own_containers_get_settings_that_exist_and_parse(
    compose: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("TAPELINE_")]:
        monkeypatch.delenv(name)
    for name in ("migrate", "server"):
        service = compose["services"][name]
        with monkeypatch.context() as patch:
            for variable, value in service["environment"].items():
                assert variable.removeprefix("TAPELINE_").lower() in Settings.model_fields
                patch.setenv(variable, str(value))
            settings = Settings()
        assert settings.postgres_url == "postgresql://tapeline:secret@127.0.0.1:5432/tapeline"
        assert settings.redis_url == "redis://:secret@127.0.0.1:6379/0"
        assert settings.serve_host == "127.0.0.1"


def test_our_own_containers_may_do_little(compose: dict[str, Any]) -> None:
    for name in ("migrate", "server"):
        service = compose["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_the_online_store_forgets_nothing(compose: dict[str, Any]) -> None:
    lines = dict(line.split(" ", 1) for line in compose["configs"]["valkey"]["content"].splitlines())
    assert lines["maxmemory-policy"] == "noeviction"
    assert lines["appendonly"] == "yes"
    assert lines["requirepass"] == "secret"


def test_the_image_installs_the_base_alone_and_runs_without_root() -> None:
    instructions = (ROOT / "Dockerfile").read_text()
    assert not re.search(r"\.\[\w", instructions), "no extra"
    assert "--constraint requirements/run.lock" in instructions
    assert instructions.index("USER tapeline") < instructions.index("ENTRYPOINT")
    assert re.search(r"FROM python:3\.\d+-slim", instructions)
    required = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    for version in re.findall(r"FROM python:3\.(\d+)", instructions):
        assert int(version) >= int(required.rpartition(".")[2])


def test_the_build_context_holds_what_the_image_copies_and_no_data() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert ignored[0] == "*"
    sent = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied = set()
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            copied.update(source.partition("/")[0] for source in line.split()[1:-1])
    assert copied == sent
    assert all((ROOT / name).exists() for name in sent)
