"""The mail channel beside a bare loop of aiosmtplib: the same mails, over one kept connection, to Debian's Postfix.

The loop's mails are composed before it begins; the hub composes each of its own. Postfix keeps its queue in memory, and
throws away what it took.
"""

from __future__ import annotations

import time
from dataclasses import replace

from aiosmtplib import SMTP

from benchmarks.rows import Row, at_least, measured
from benchmarks.turns import in_turn
from connectors import mail
from connectors.mail.connections import open_connection
from connectors.mail.letter import Letterhead, attached, referred
from connectors.mail.settings import read
from hub.domain.delivery import Delivered
from hub.domain.partner import Endpoint
from hub.ports.connector import Connector, Parcel
from tests.connectors.partners import NOW, outgoing, some_file, some_parcel, surroundings
from tests.postfix import Postfix

PAGE = 20
"""Parcels that the engine hands over at once."""
SMALL = (3_000, 20_000)
"""Bytes of a parcel's two files."""
_PAGES = 15
_LIMIT = 60.0
_SENDER, _TO, _MAILBOX = "hub@hub.test", "nowhere@mairie.test", "https://hub.test/boite"


async def measure(server: Postfix, short: bool) -> list[Row]:
    rows = []
    for mode, what in (
        ("reference", "a notification"),
        ("attachments", f"files of {SMALL[0]} and {SMALL[1]} bytes"),
    ):
        told = {
            "host": "127.0.0.1",
            "port": server.port,
            "ca": server.ca,
            "sender": _SENDER,
            "recipients": [_TO],
        }
        endpoint = Endpoint("mail", {**told, "mode": mode})
        target, flaws = read(endpoint, None)
        assert not flaws
        connector = mail.connector(replace(surroundings(), mailbox=_MAILBOX))
        smtp = await open_connection(target.server, outgoing(), _LIMIT)
        made = _Contenders(connector, endpoint, smtp, mode)
        mine, floor = await in_turn(3 if short else 9, made.ours, made.bare)
        await connector.close()
        await smtp.quit()
        number = PAGE * _PAGES
        rows += [
            measured(f"mail, {what}", number / mine, "mails/s"),
            measured("the same in a bare aiosmtplib loop (floor)", number / floor, "mails/s"),
            at_least("mail / floor", floor / mine, "ratio", 0.8),
        ]
    return rows


class _Contenders:
    def __init__(self, connector: Connector, endpoint: Endpoint, smtp: SMTP, mode: str) -> None:
        self._connector = connector
        self._endpoint = endpoint
        self._smtp = smtp
        self._mode = mode
        self._contents = [bytes(range(250)) * (size // 250) for size in SMALL]

    async def ours(self) -> float:
        pages = [[self._parcel() for _ in range(PAGE)] for _ in range(_PAGES)]
        begun = time.perf_counter()
        for page in pages:
            outcomes = await self._connector.deliver(self._endpoint, page, _LIMIT)
            if not all(isinstance(outcome, Delivered) for outcome in outcomes):
                raise RuntimeError("not delivered")
        return time.perf_counter() - begun

    async def bare(self) -> float:
        head = Letterhead(_SENDER, (_TO,), NOW, _MAILBOX)
        parcels = [self._parcel() for _ in range(PAGE * _PAGES)]
        if self._mode == "reference":
            mails = [referred(parcel, head) for parcel in parcels]
        else:
            mails = [attached(parcel, head, self._contents) for parcel in parcels]
        begun = time.perf_counter()
        for content in mails:
            await self._smtp.sendmail(_SENDER, [_TO], content)
        return time.perf_counter() - begun

    def _parcel(self) -> Parcel:
        return some_parcel(
            *(some_file(number, f"{number}.bin", content) for number, content in enumerate(self._contents))
        )
