"""Deliveries: a list with filters, page by page; each reader sees what is its own."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from typing import Annotated, assert_never
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.responses import Response

from hub.domain.errors import Flaw, Invalid
from hub.domain.identity import ParcelKind, Subscriber
from hub.domain.lifecycle import State
from hub.entrypoints.http.access import Knocking
from hub.entrypoints.http.answers import delivery_answer
from hub.entrypoints.http.description import problems
from hub.entrypoints.http.receiving import JSON
from hub.entrypoints.http.rooms import InRooms
from hub.ports.tokens import Identity, OperatorIdentity, PartnerIdentity, SenderIdentity
from hub.ports.views import DeliveryFilter
from schemas.models.answers import DeliveryPageAnswer
from schemas.models.questions import DeliveryQuery


def routes() -> APIRouter:
    router = APIRouter(tags=["deliveries"])
    router.add_api_route(
        "/v1/deliveries",
        get_deliveries,
        methods=["GET"],
        response_model=DeliveryPageAnswer,
        responses=problems(401, 422, 503),
    )
    return router


async def get_deliveries(
    identity: Knocking, rooms: InRooms, query: Annotated[DeliveryQuery, Query()]
) -> Response:
    """Oldest first, without their attempts (see the submission). Every filter given must hold."""
    after = None if query.after is None else _read_cursor(query.after)
    where = _own(identity, query)
    if where is None:
        answer = DeliveryPageAnswer(items=[], next=None)
    else:
        page = await rooms.views.deliveries(where, after, query.limit)
        answer = DeliveryPageAnswer(
            items=[delivery_answer(view, identity) for view in page.items],
            next=None if page.next is None else _cursor(page.next),
        )
    return Response(answer.model_dump_json(), media_type=JSON)


def _own(identity: Identity, query: DeliveryQuery) -> DeliveryFilter | None:
    """The filter narrowed to what the reader may see; None when it asks for what is not its own."""
    sender = query.sender
    subscriber = None if query.subscriber is None else Subscriber.parse(query.subscriber)
    kind = None
    match identity:
        case SenderIdentity(sender=own):
            if sender not in (None, own):
                return None
            # Its own events on their way to itself are no deliveries of its submissions.
            sender, kind = own, ParcelKind.SUBMISSION
        case PartnerIdentity(subscriber=itself):
            if subscriber not in (None, itself):
                return None
            subscriber = itself
        case OperatorIdentity():
            pass
        case _:
            assert_never(identity)
    return DeliveryFilter(
        sender=sender,
        subscriber=subscriber,
        channel=query.channel,
        procedure=query.procedure,
        state=None if query.state is None else State(query.state),
        cause=query.cause,
        submission=query.submission,
        kind=kind,
    )


def _cursor(key: tuple[datetime, UUID]) -> str:
    return base64.urlsafe_b64encode(f"{key[0].isoformat()} {key[1]}".encode()).decode().rstrip("=")


def _read_cursor(text: str) -> tuple[datetime, UUID]:
    try:
        told = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
        instant, _, name = told.partition(" ")
        given = datetime.fromisoformat(instant)
        key = (given if given.tzinfo is None else given.astimezone(UTC), UUID(name))
    except (binascii.Error, ValueError, OverflowError):
        raise _not_a_cursor() from None
    if key[0].tzinfo is None:
        raise _not_a_cursor()
    return key


def _not_a_cursor() -> Invalid:
    return Invalid(Flaw("/after", "cursor", "this is not the `next` of a page"))
