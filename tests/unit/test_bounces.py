"""Mails that come back: return addresses that nobody guesses, and reports of which little is believed."""

from __future__ import annotations

import hmac
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.domain.bounces import (
    MailReceipt,
    Return,
    StatusReport,
    failure,
    is_lost,
    read_receipt,
    read_return_address,
    return_address,
)
from hub.wire import read_status_report


def sign(content: bytes) -> bytes:
    return hmac.digest(b"a key", content, "sha256")


def other(content: bytes) -> bytes:
    return hmac.digest(b"another key", content, "sha256")


# --- return addresses ---------------------------------------------------------------------------------


@given(st.uuids(), st.integers(0, 65535), st.integers(1, 255), st.text(min_size=1, max_size=50))
def test_a_return_address_says_what_it_was_given_out_for(
    mail: UUID, sending: int, place: int, address: str
) -> None:
    address = address.encode("utf-8", "ignore").decode()
    local = return_address(mail, sending, place, address, sign)
    assert len(local) <= 64
    found = read_return_address(local, sign)
    assert found is not None
    assert (found.mail, found.sending, found.place) == (mail, sending, place)
    assert found.address(["nobody@mairie.test", address], sign) == address
    assert found.address(["nobody@mairie.test"], sign) is None


def test_a_server_may_change_capitals_of_a_return_address() -> None:
    local = return_address(uuid4(), 1, 1, "a@b.test", sign)
    assert read_return_address(local.upper(), sign) == read_return_address(local, sign)


def test_no_return_address_is_believed_that_was_not_given_out() -> None:
    local = return_address(uuid4(), 1, 1, "a@b.test", sign)
    assert read_return_address(local, other) is None
    for place in range(2, len(local)):
        changed = local[:place] + ("a" if local[place] != "a" else "b") + local[place + 1 :]
        assert read_return_address(changed, sign) is None
    for wrong in ("", "r-", "r-é", "r-%%", local[:-1], local + "a", "x" + local, local.replace("r-", "")):
        assert read_return_address(wrong, sign) is None


@given(st.text())
def test_any_text_can_be_asked_for(text: str) -> None:
    assert read_return_address(text, sign) is None
    assert read_return_address("r-" + text, sign) is None


# --- receipts -----------------------------------------------------------------------------------------


def test_a_receipt_says_which_addresses_took_a_mail() -> None:
    receipt = MailReceipt(uuid4(), (1, 3), 3)
    assert receipt.written("hub.test") == f"<{receipt.mail}@hub.test> to 1, 3 of 3"
    assert read_receipt(receipt.written("hub.test")) == receipt


@pytest.mark.parametrize("text", ["", "http 204", "/depot/1", "<x@hub.test> to 1 of 1", "<> to of "])
def test_receipts_of_other_channels_are_none_of_a_mail(text: str) -> None:
    assert read_receipt(text) is None


@pytest.mark.parametrize(
    ("accepted", "bounced", "lost"),
    [((1,), (1,), True), ((1, 3), (1,), False), ((1, 3), (3, 1), True), ((), (1,), False), ((1,), (), False)],
)
def test_a_mail_is_lost_once_it_came_back_from_everywhere(
    accepted: tuple[int, ...], bounced: tuple[int, ...], lost: bool
) -> None:
    assert is_lost(accepted, bounced) is lost


# --- reports ------------------------------------------------------------------------------------------


def report(*groups: str, kind: str = "delivery-status", part: str = "message/delivery-status") -> bytes:
    """As mail servers write them; `groups` of fields, one for each recipient."""
    fields = "\n\n".join(("Reporting-MTA: dns; mx.test", *groups))
    return f"""From: MAILER-DAEMON@mx.test
To: somebody@retours.test
Subject: Undelivered Mail Returned to Sender
MIME-Version: 1.0
Content-Type: multipart/report; report-type={kind};
 boundary="b/1"

Preamble.

--b/1
Content-Type: text/plain; charset=utf-8

<gone@mairie.test>: user unknown

--b/1
Content-Description: Delivery report
Content-Type: {part}

{fields}

--b/1
Content-Type: text/rfc822-headers

Subject: x
--b/1--
""".replace("\n", "\r\n").encode()


FAILED = (
    "Final-Recipient: rfc822; gone@mairie.test\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: x-unix; no"
)


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([FAILED], StatusReport(True, "5.1.1")),
        ([FAILED.replace("failed", "FAILED (expired)")], StatusReport(True, "5.1.1")),
        ([FAILED.replace("5.1.1", "5.1.1 (bad)")], StatusReport(True, "5.1.1")),
        ([FAILED.replace("5.1.1", "<script>")], StatusReport(True, None)),
        ([FAILED.replace("failed", "delayed")], StatusReport(False)),
        ([FAILED.replace("failed", "delivered")], StatusReport(False)),
        ([FAILED.replace("failed", "relayed")], StatusReport(False)),
        ([FAILED.replace("failed", "expanded")], StatusReport(False)),
        ([FAILED, FAILED.replace("failed", "delivered")], StatusReport(False)),
        ([FAILED, FAILED], StatusReport(True, "5.1.1")),
        ([], StatusReport(False)),
    ],
    ids=["failed", "case", "comment", "status", "delayed", "delivered", "relayed", "expanded", "both", "two", "none"],
)  # fmt: skip
def test_only_a_failure_of_all_whom_a_report_speaks_of_is_a_bounce(
    groups: list[str], expected: StatusReport
) -> None:
    assert read_status_report(report(*groups)) == expected


def test_a_report_about_names_in_utf_8_is_read_too() -> None:
    assert read_status_report(report(FAILED, part="message/global-delivery-status")).failed


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\r\n\r\n",
        b"Subject: absent\r\n\r\nJe suis en vacances. Action: failed",
        report(FAILED, kind="disposition-notification", part="message/disposition-notification"),
        report(FAILED).replace(b"multipart/report", b"multipart/mixed"),
        report(FAILED).replace(b'boundary="b/1"', b"boundary="),
        report(FAILED).replace(b"--b/1", b"--b/2"),
        report(FAILED).replace(b"Action:", b"X-Action:"),
        b"Content-Type: multipart/report; boundary*0*=utf-9''%ff%; boundary*1=x\r\n\r\n--x\r\n\r\n",
        b"Content-Type: " + b"multipart/report; a=" * 5000 + b"\r\n\r\n",
    ],
    ids=["nothing", "empty", "on leave", "receipt", "mixed", "no border", "other border", "no action", "odd", "long"],
)  # fmt: skip
def test_what_is_no_report_of_a_failure_says_nothing(content: bytes) -> None:
    assert read_status_report(content) == StatusReport(False)


@given(st.binary(max_size=2000))
def test_any_bytes_can_be_read(content: bytes) -> None:
    read_status_report(content)
    read_status_report(report(FAILED).replace(b"Status: 5.1.1", content))


def test_a_report_that_is_made_to_take_long_is_read_in_bounded_time() -> None:
    nested = b"".join(
        b'Content-Type: multipart/mixed; boundary="n%d"\r\n\r\n--n%d\r\n' % (number, number)
        for number in range(20_000)
    )
    parts = b"--b/1\r\n\r\nx\r\n" * 100_000
    groups = "\n\n".join(["Action: delayed"] * 50_000)
    for content in (nested, report().replace(b"Preamble.", parts), report(groups), report(*[FAILED] * 5_000)):
        read_status_report(content)
    assert read_status_report(report(*[FAILED] * 5_000)).failed


def test_return_addresses_of_one_mail_differ_by_address() -> None:
    mail = uuid4()
    given_out = {return_address(mail, 1, place, "a@b.test", sign) for place in (1, 2)}
    assert len(given_out) == 2
    assert failure([]) == StatusReport(False)
    assert isinstance(read_return_address(given_out.pop(), sign), Return)
