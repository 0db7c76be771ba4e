"""Between a mail server's report (DSN, RFC 3464) and what the hub reads of it.

Business of this file: reading little, in bounded time, of what anybody may have written. Only the part that is made for
programs is looked at, and of it, what became of the mail; addresses in it are not believed, and not read.
"""

from __future__ import annotations

import base64
import binascii
import quopri
import re
from email.message import Message
from email.parser import BytesHeaderParser

from hub.domain.bounces import StatusReport, failure

_HEAD = 65_536
_PARTS = 20
_TOLD = 65_536
_GROUPS = 200
_NO_REPORT = StatusReport(False)
_KINDS = frozenset({"message/delivery-status", "message/global-delivery-status"})


def read_status_report(content: bytes) -> StatusReport:
    """Never raises: what cannot be read says nothing."""
    try:
        told = _status_part(content.replace(b"\r\n", b"\n"))
        return _NO_REPORT if told is None else failure(_actions(told))
    except Exception:
        # The library's parser may stumble over what was made for it to stumble over.
        return _NO_REPORT


def _status_part(mail: bytes) -> bytes | None:
    head, body = _parted(mail)
    border = head.get_boundary()
    if head.get_content_type() != "multipart/report" or not border or len(border) > 200:
        return None
    edge = re.compile(
        rb"^--" + re.escape(border.encode("ascii", "surrogateescape")) + rb"(?:--)?[ \t]*$", re.M
    )
    for part in edge.split(body, maxsplit=_PARTS)[1:]:
        inner, told = _parted(part.removeprefix(b"\n"))
        if inner.get_content_type() in _KINDS:
            return _plain(told[:_TOLD], str(inner.get("Content-Transfer-Encoding", "")).strip().lower())
    return None


def _parted(entity: bytes) -> tuple[Message, bytes]:
    """Its headers, and what follows the first empty line."""
    if entity.startswith(b"\n"):
        return Message(), entity[1:]
    head, _, body = entity.partition(b"\n\n")
    return BytesHeaderParser().parsebytes(head[:_HEAD] + b"\n\n"), body


def _plain(told: bytes, encoding: str) -> bytes:
    if encoding == "base64":
        try:
            return base64.b64decode(told)
        except binascii.Error:
            return b""
    return quopri.decodestring(told) if encoding == "quoted-printable" else told


def _actions(told: bytes) -> list[tuple[str, str]]:
    """Of each group of fields that speaks of a recipient: what became of it, and the code."""
    found = []
    for group in re.split(rb"\n[ \t]*\n", told.replace(b"\r\n", b"\n").strip(b"\n"))[:_GROUPS]:
        fields = BytesHeaderParser().parsebytes(group.lstrip(b"\n") + b"\n\n")
        action = fields.get("Action")
        if action is not None:
            found.append((_first_word(str(action)), _first_word(str(fields.get("Status", "")))))
    return found


def _first_word(told: str) -> str:
    return next(iter(told.split()), "")
