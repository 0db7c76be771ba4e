"""Settings in the shapes that rooms take: waits, paces, limits and pages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from hub.domain.retry import Policies
from hub.entrypoints.http.limits import Limits
from hub.services.dispatch import Pace
from hub.settings import Settings


def policies_of(settings: Settings) -> Policies:
    of_channels = {
        "sftp": settings.retry_waits_sftp,
        "mail": settings.retry_waits_mail,
        "webhook": settings.retry_waits_webhook,
    }
    return Policies(
        _waits(settings.retry_waits),
        timedelta(seconds=settings.attempt_limit),
        {channel: _waits(waits) for channel, waits in of_channels.items() if waits is not None},
        {procedure: _waits(waits) for procedure, waits in settings.retry_procedures.items()},
    )


def _waits(seconds: Sequence[float]) -> tuple[timedelta, ...]:
    return tuple(timedelta(seconds=wait) for wait in seconds)


def pace_of(settings: Settings) -> Pace:
    return Pace(
        lanes=settings.lanes_at_once,
        failing=settings.failing_at_once,
        page=settings.page,
        rows=settings.rows_at_once,
        lease=timedelta(seconds=settings.lease),
        vendor_opens_at=settings.vendor_opens_at,
    )


def limits_of(settings: Settings) -> Limits:
    return Limits(
        body=settings.body_limit,
        document=settings.json_limit,
        rate=settings.rate_limit,
        burst=max(int(settings.rate_limit), 1),
        in_flight=settings.in_flight_limit,
        longest_post=settings.post_time,
        reserve=settings.disk_reserve,
    )


def page_of(settings: Settings) -> int:
    """Records at once. What a page costs beside its records is shared by more of them where the log is apart; in
    the store's own tables, a short one keeps others waiting less."""
    return 500 if settings.kafka is None else 4000
