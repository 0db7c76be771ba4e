"""What the container files say is what the hub takes: no engine is needed to find out that they do not."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from hub.assembly import Role
from hub.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
HUBS = {name: service for name, service in SERVICES.items() if service.get("image") == "aiguillage"}
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")


def test_each_role_has_a_container_that_runs_it() -> None:
    running = {service["command"][1] for service in HUBS.values() if service["command"][0] == "run"}
    assert running == {role.value for role in Role}


@pytest.mark.parametrize("name", sorted(HUBS))
def test_a_container_s_settings_are_the_hub_s_and_hold(name: str) -> None:
    told = {key.removeprefix("HUB_").lower(): value for key, value in HUBS[name]["environment"].items()}
    assert all(key.startswith("HUB_") for key in HUBS[name]["environment"])
    assert set(told) <= set(Settings.model_fields)
    settings = Settings.model_validate(
        {field: TypeAdapter(Any).validate_python(value) for field, value in told.items()}
    )
    assert settings.database_url is not None
    assert settings.public_url is not None


def test_what_the_hub_is_told_of_its_neighbours_is_what_they_are_told_of_themselves() -> None:
    settings = HUBS["intake"]["environment"]
    postgres, objects = SERVICES["postgres"]["environment"], SERVICES["objects"]["environment"]
    assert settings["HUB_DATABASE_URL"] == (
        f"postgresql://{postgres['POSTGRES_USER']}:{postgres['POSTGRES_PASSWORD']}@postgres:5432/{postgres['POSTGRES_DB']}"
    )
    assert (
        f"PLAINTEXT://{settings['HUB_KAFKA']}"
        in SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    )
    assert settings["HUB_S3_ACCESS_KEY"] == objects["ROOT_ACCESS_KEY"]
    assert settings["HUB_S3_SECRET_KEY"] == objects["ROOT_SECRET_KEY"]
    bucket = settings["HUB_ATTACHMENTS"].removeprefix("s3://")
    assert SERVICES["objects"]["volumes"] == [f"objects:/data/{bucket}"]
    assert settings["HUB_S3_ENDPOINT"].endswith(SERVICES["objects"]["command"][1])


def test_every_neighbour_a_service_waits_for_is_there() -> None:
    for service in SERVICES.values():
        assert set(service.get("depends_on", ())) <= set(SERVICES)


def test_every_volume_is_declared_and_used() -> None:
    used = {
        volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())
    }
    assert used == set(COMPOSE["volumes"])


def test_doors_open_on_this_machine_alone() -> None:
    for service in SERVICES.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_every_image_has_a_version() -> None:
    for image in {service["image"] for service in SERVICES.values()} - {"aiguillage"}:
        _, _, version = image.partition(":")
        assert version not in ("", "latest"), image


def test_the_image_holds_each_package_and_a_python_that_runs_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    for package in packages:
        assert f"COPY {package} {package}\n" in DOCKERFILE
    needed = tuple(int(part) for part in project["project"]["requires-python"].removeprefix(">=").split("."))
    for version in _pythons():
        assert version >= needed
    ignored = (ROOT / ".dockerignore").read_text("utf-8").split()
    assert not set(packages) & set(ignored)


def _pythons() -> Iterator[tuple[int, int]]:
    found = re.findall(r"^FROM python:(\d+)\.(\d+)-", DOCKERFILE, re.MULTILINE)
    assert found
    return ((int(major), int(minor)) for major, minor in found)
