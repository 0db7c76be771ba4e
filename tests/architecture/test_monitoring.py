"""What Prometheus, its alerts and the dashboard ask for is what the hub tells at /metrics, and where it tells it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hub.adapters.postgres.database import Database
from hub.adapters.postgres.views import PostgresViews
from hub.assembly import Role
from hub.entrypoints.http.measures import Measures
from tests.architecture.test_containers import COMPOSE, HUBS, ROOT, SERVICES

FOLDER = ROOT / "monitoring"
_SERIES = re.compile(r"^(hub_\w+?)(?:\{(.*)\})? [0-9.e+-]+$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)(=~|=)"([^"]*)"')
_ASKED = re.compile(r"\b(hub_\w+|up)\b(?:\{([^}]*)\})?")


def read(name: str) -> Any:
    text = (FOLDER / name).read_text("utf-8")
    return json.loads(text) if name.endswith(".json") else yaml.safe_load(text)


def expressions() -> Iterator[str]:
    for group in read("alerts.yml")["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
    for panel in read("grafana-hub.json")["panels"]:
        yield from (target["expr"] for target in panel["targets"])


async def told(dsn: str) -> dict[str, set[tuple[str, str]]]:
    """By the name of a series, what its labels may be, as a role on Kafka tells it after an answer."""
    database = await Database.open(dsn)
    try:
        counts = {**await PostgresViews(database).counts(), "flows.silent": 0}
    finally:
        await database.close()
    measures = Measures()
    measures.answered("/v1/submissions", 503, 0.1)
    found: dict[str, set[tuple[str, str]]] = {}
    for name, labels in _SERIES.findall(measures.page(counts).decode()):
        found.setdefault(name, set()).update((label, value) for label, _, value in _LABEL.findall(labels))
    return found


async def test_every_series_that_is_asked_for_is_told(database: str) -> None:
    series = await told(database)
    asked = [found for expression in expressions() for found in _ASKED.findall(expression)]
    assert len(asked) > 15
    for name, selected in asked:
        if name == "up":
            continue
        assert name in series, name
        for label, how, value in _LABEL.findall(selected):
            values = {known for other, known in series[name] if other == label}
            for one in value.split("|") if how == "=~" else [value]:
                assert any(re.fullmatch(one, known) for known in values), (name, label, one)


def test_every_role_is_scraped_at_its_door() -> None:
    [job] = read("prometheus.yml")["scrape_configs"]
    targets = {target for static in job["static_configs"] for target in static["targets"]}
    port = HUBS["intake"]["environment"]["HUB_PORT"]
    assert targets == {f"{role}:{port}" for role in Role} <= {f"{name}:{port}" for name in SERVICES}
    assert 'job="' + job["job_name"] + '"' in "".join(expressions())


@pytest.mark.parametrize("service", ["prometheus", "grafana"])
def test_every_file_is_there_and_put_where_it_is_looked_for(service: str) -> None:
    for mounted in SERVICES[service]["configs"]:
        assert (ROOT / COMPOSE["configs"][mounted["source"]]["file"]).is_file()
    targets = {mounted["target"] for mounted in SERVICES[service]["configs"]}
    if service == "prometheus":
        assert set(read("prometheus.yml")["rule_files"]) <= targets
        return
    [provider] = read("grafana-dashboards.yml")["providers"]
    assert any(Path(target).is_relative_to(provider["options"]["path"]) for target in targets)
    [source] = read("grafana-sources.yml")["datasources"]
    assert source["url"].removeprefix("http://").partition(":")[0] in SERVICES
    dashboard = read("grafana-hub.json")
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {source["uid"]}


def test_every_config_is_used() -> None:
    used = {mounted["source"] for service in SERVICES.values() for mounted in service.get("configs", ())}
    assert used == set(COMPOSE["configs"])
