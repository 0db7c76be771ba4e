"""Health: whether this process lives, whether it can work, and what may be measured of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from fastapi import APIRouter
from starlette.responses import Response

from hub.domain.errors import HubError
from hub.entrypoints.http.description import problems
from hub.entrypoints.http.measures import MEDIA_TYPE
from hub.entrypoints.http.receiving import JSON
from hub.entrypoints.http.rooms import InPulse, Vitals
from schemas.models.answers import HealthAnswer, ReadinessAnswer

_LIMIT = 5.0


def routes() -> APIRouter:
    router = APIRouter(tags=["health"])
    router.add_api_route(
        "/healthz", get_health, methods=["GET"], response_model=HealthAnswer, responses=problems()
    )
    router.add_api_route(
        "/readyz",
        get_readiness,
        methods=["GET"],
        response_model=ReadinessAnswer,
        responses=problems() | {503: {"description": "Not ready.", "model": ReadinessAnswer}},
    )
    router.add_api_route(
        "/metrics",
        get_metrics,
        methods=["GET"],
        response_class=Response,
        responses=problems()
        | {
            200: {
                "description": "Prometheus text.",
                "content": {"text/plain": {"schema": {"type": "string"}}},
            }
        },
    )
    return router


async def get_health() -> Response:
    """This process answers; nothing else is asked."""
    return Response(HealthAnswer(status="ok").model_dump_json(), media_type=JSON)


async def get_readiness(pulse: InPulse) -> Response:
    """What this process needs answers too."""
    parts = await _parts(pulse.vitals)
    answer = ReadinessAnswer(ready=all(parts.values()), parts=dict(parts))
    return Response(answer.model_dump_json(), 200 if answer.ready else 503, media_type=JSON)


async def _parts(vitals: Vitals) -> Mapping[str, bool]:
    try:
        async with asyncio.timeout(_LIMIT):
            return await vitals.readiness()
    except (TimeoutError, HubError):
        return {"answers": False}


async def get_metrics(pulse: InPulse) -> Response:
    """Counts, in the text format of Prometheus."""
    counts: Mapping[str, int] | None = None
    try:
        async with asyncio.timeout(_LIMIT):
            counts = await pulse.vitals.counts()
    except (TimeoutError, HubError):
        pass
    return Response(pulse.measures.page(counts), media_type=MEDIA_TYPE)
