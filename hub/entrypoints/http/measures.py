"""Measures: what a Prometheus server may read. Counts by route and status; no id and no name is a label."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class Measures:
    """A registry of its own: two applications in one process do not add up."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._answers = Counter(
            "hub_http_answers", "Answers, by route and status.", ["route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "hub_http_seconds",
            "From the first byte of a request to the last of its answer.",
            ["route"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300, 3600),
            registry=self._registry,
        )
        self._store = Gauge(
            "hub_store_answers", "Whether the store answered (1) or not.", registry=self._registry
        )
        self._counts: dict[str, Gauge] = {}

    def answered(self, route: str, status: int, seconds: float) -> None:
        """`route` is the template of the path, never the path."""
        self._answers.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def page(self, counts: Mapping[str, int] | None) -> bytes:
        """Everything in the text format. `counts` as `Views.counts` tells them, None when the store is away:
        the last ones are then left out, for they may be wrong."""
        self._store.set(0 if counts is None else 1)
        for gauge in self._counts.values():
            gauge.clear()
        for name, count in (counts or {}).items():
            family, _, state = name.partition(".")
            self._gauge(family).labels(state).set(count)
        return generate_latest(self._registry)

    def _gauge(self, family: str) -> Gauge:
        if family not in self._counts:
            what = f"Rows of the store: {family}, by state."
            if family.endswith("_seconds"):
                what = "For how long the oldest one waits, by what for."
            self._counts[family] = Gauge(f"hub_{family}", what, ["state"], registry=self._registry)
        return self._counts[family]
