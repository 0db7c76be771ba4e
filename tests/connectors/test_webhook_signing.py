"""Signatures: which keys there may be, and how one is replaced by another without a parcel that nobody believes."""

from __future__ import annotations

import base64
import json
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from connectors.webhook import body, connector, delivering, trust
from hub.domain.delivery import About, Deferred, Delivered, Refused
from hub.domain.errors import Tampered
from hub.domain.partner import Endpoint
from hub.ports.connector import Connector
from tests.certificates import authority
from tests.connectors.partners import (
    SECRET,
    Taken,
    WebhookTown,
    names,
    some_file,
    some_parcel,
    surroundings,
    tried_again,
    webhook_town,
)

LIMIT = 2.0
NEXT = "whsec_" + base64.b64encode(b"next" * 8).decode()
SEED = bytes(range(32, 64))
PRIVATE = "whsk_" + base64.b64encode(SEED).decode()
PUBLIC = Ed25519PrivateKey.from_private_bytes(SEED).public_key()


@pytest.fixture
async def town() -> AsyncIterator[WebhookTown]:
    async with webhook_town() as found:
        yield found


async def _signed(town: WebhookTown, now: float, secrets: dict[str, str], **settings: object) -> Taken:
    """What came, of a parcel sent at that moment."""
    webhook = connector(surroundings(now))
    endpoint = Endpoint("webhook", {**town.endpoint.settings, **settings}, secrets)
    assert webhook.check(endpoint) == ()
    assert await webhook.deliver(endpoint, [some_parcel()], LIMIT) == [Delivered("http 204")]
    await webhook.close()
    return town.requests[-1]


def _believed(taken: Taken, secret: str) -> bool:
    try:
        Webhook(secret).verify(taken.body, dict(taken.headers))
    except WebhookVerificationError:
        return False
    return True


@pytest.mark.parametrize(
    ("hours_ago", "overlap", "before_is_believed"),
    [(-2, 24, True), (0, 24, True), (23.9, 24, True), (24.1, 24, False), (0.9, 1, True), (1.1, 1, False)],
)
async def test_the_key_before_signs_until_the_overlap_ends_and_the_new_one_always(
    town: WebhookTown, hours_ago: float, overlap: int, before_is_believed: bool
) -> None:
    now = time.time()
    rotated = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - hours_ago * 3600))
    secrets = {"secret": NEXT, "previous_secret": SECRET}
    taken = await _signed(town, now, secrets, rotated_at=rotated, overlap=overlap)
    assert _believed(taken, NEXT)
    assert _believed(taken, SECRET) is before_is_believed


async def test_an_asymmetric_key_signs_so_that_whoever_has_the_public_one_believes_it(
    town: WebhookTown,
) -> None:
    taken = await _signed(town, time.time(), {"secret": PRIVATE})
    scheme, _, signature = taken.headers["webhook-signature"].partition(",")
    assert scheme == "v1a"
    told = f"{taken.headers['webhook-id']}.{taken.headers['webhook-timestamp']}.".encode() + taken.body
    PUBLIC.verify(base64.b64decode(signature), told)
    with pytest.raises(InvalidSignature):
        PUBLIC.verify(base64.b64decode(signature), told + b" ")


async def test_a_partner_may_go_from_a_shared_key_to_an_asymmetric_one(town: WebhookTown) -> None:
    secrets = {"secret": PRIVATE, "previous_secret": SECRET}
    taken = await _signed(town, time.time(), secrets, rotated_at="2020-01-01T00:00Z", overlap=2160)
    assert not _believed(taken, SECRET)
    rotated = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    taken = await _signed(town, time.time(), secrets, rotated_at=rotated)
    assert [one.split(",")[0] for one in taken.headers["webhook-signature"].split()] == ["v1a", "v1"]
    assert _believed(taken, SECRET)


WHOLE = PRIVATE[:5] + base64.b64encode(SEED + PUBLIC.public_bytes_raw()).decode()


@pytest.mark.parametrize(
    ("settings", "secrets", "field"),
    [
        ({}, {"secret": WHOLE}, None),
        ({}, {"secret": "whsk_" + "A" * 24}, "secret"),
        ({}, {"secret": "whsk_" + base64.b64encode(bytes(64)).decode()}, "secret"),
        ({}, {"secret": "whpk_" + PRIVATE[5:]}, "secret"),
        ({}, {"secret": SECRET, "previous_secret": NEXT}, "previous_secret"),
        (
            {"rotated_at": "2026-03-01T09:00:00Z"},
            {"secret": SECRET, "previous_secret": "x"},
            "previous_secret",
        ),
        ({"rotated_at": "2026-13-01T09:00:00Z"}, {"secret": SECRET, "previous_secret": NEXT}, "rotated_at"),
        ({"rotated_at": "2026-02-30T09:00Z"}, {"secret": SECRET, "previous_secret": NEXT}, "rotated_at"),
        ({"rotated_at": "0001-01-01T00:00+23:59"}, {"secret": SECRET, "previous_secret": NEXT}, "rotated_at"),
        ({"rotated_at": "hier"}, {"secret": SECRET, "previous_secret": NEXT}, "rotated_at"),
        ({"rotated_at": "2026-03-01T09:00:00"}, {"secret": SECRET, "previous_secret": NEXT}, "rotated_at"),
        ({"overlap": 0}, {"secret": SECRET}, "overlap"),
        ({"max_content": 10_000_001}, {"secret": SECRET}, "max_content"),
        ({"ca": "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----"}, {"secret": SECRET}, "ca"),
        ({"client_certificate": "x"}, {"secret": SECRET, "client_key": "y"}, "client_certificate"),
        ({"client_certificate": "x"}, {"secret": SECRET}, "client_certificate"),
        ({}, {"secret": SECRET, "client_key": "y"}, "client_key"),
    ],
)
def test_a_key_that_cannot_be_is_named_and_not_told(
    settings: dict[str, object], secrets: dict[str, str], field: str | None
) -> None:
    flaws = connector(surroundings()).check(
        Endpoint("webhook", {"url": "https://m.test/", **settings}, secrets)
    )
    assert {flaw.split()[0] for flaw in flaws} == ({field} if field else set())
    assert not any(secret in str(flaws) for secret in secrets.values() if len(secret) > 1)


def test_a_certificate_and_a_key_must_belong_together(tmp_path: Path) -> None:
    signing = authority(tmp_path / "ca")
    one, other = signing.sign("one"), signing.sign("other")
    certificate, key = one[0].read_text(), other[1].read_text()
    assert trust.trust_flaw(certificate) is not None
    assert trust.trust_flaw(certificate + signing.file.read_text()) is None
    settings = {"url": "https://m.test/", "client_certificate": certificate}
    secrets = {"secret": SECRET, "client_key": key}
    (flaw,) = connector(surroundings()).check(Endpoint("webhook", settings, secrets))
    assert flaw == "client_key must be the key of client_certificate"
    endpoint = Endpoint("webhook", settings, {**secrets, "client_key": one[1].read_text()})
    assert connector(surroundings()).check(endpoint) == ()
    settings["ca"] = certificate
    (flaw,) = connector(surroundings()).check(replace(endpoint, settings=settings))
    assert flaw == "ca must be certificates of an authority, in PEM"


async def test_a_key_that_tls_does_not_take_any_more_is_told_at_once_and_refuses_where_it_was_imported_before(
    tmp_path: Path, town: WebhookTown, webhook: Connector, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = authority(tmp_path / "ca").sign("weak", weak=True)
    settings = {**town.endpoint.settings, "client_certificate": certificate.read_text()}
    endpoint = Endpoint("webhook", settings, {"secret": SECRET, "client_key": key.read_text()})
    (flaw,) = webhook.check(endpoint)
    assert flaw.startswith("client_key and client_certificate must be such as TLS takes today")
    monkeypatch.setattr("connectors.webhook.settings.key_flaw", lambda key, certificate: None)
    outcomes = await webhook.deliver(endpoint, [some_parcel()], LIMIT)
    assert outcomes == [Refused("webhook.settings", About.ENDPOINT)]


async def test_contexts_are_shared_by_those_who_say_the_same_and_no_more_are_kept_than_agreed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "_OF_OWN", 2)
    signing = [authority(tmp_path / name).file.read_text() for name in ("a", "b", "c")]
    contexts = trust.Contexts()
    first = await contexts.of(trust.Trust(signing[0]))
    assert await contexts.of(trust.Trust(signing[0])) is first
    for ca in signing[1:]:
        await contexts.of(trust.Trust(ca))
    again = await contexts.of(trust.Trust(signing[0]))
    assert again is not first
    assert again.verify_mode is ssl.CERT_REQUIRED
    assert again.check_hostname


# --- files that go along ------------------------------------------------------------------------------


@pytest.fixture
async def webhook() -> AsyncIterator[Connector]:
    made = connector(surroundings())
    yield made
    await made.close()


def _wanting(town: WebhookTown, most: int) -> Endpoint:
    return replace(town.endpoint, settings={**town.endpoint.settings, "content": True, "max_content": most})


async def test_all_files_go_along_or_none_and_links_always(town: WebhookTown, webhook: Connector) -> None:
    parcel = some_parcel(
        some_file(0, "a.json", b"{}"), some_file(1, "b.bin", b"\x00\xff" * 4), some_file(2, "c", b"")
    )
    for most in (10, 9):
        await webhook.deliver(_wanting(town, most), [parcel], LIMIT)
    along, links = (json.loads(taken.body)["data"]["files"] for taken in town.requests)
    assert [base64.b64decode(file.pop("content")) for file in along] == [b"{}", b"\x00\xff" * 4, b""]
    assert along == links
    assert all(file["url"] for file in links)


async def test_two_attempts_carry_the_same_files(town: WebhookTown, webhook: Connector) -> None:
    parcel = some_parcel(some_file(1, "b.bin", bytes(300_000)))
    for one in (parcel, tried_again(parcel)):
        await webhook.deliver(_wanting(town, 1_000_000), [one], LIMIT)
    assert town.requests[0].body == town.requests[1].body
    assert len(town.requests[0].body) > 400_000


async def test_files_that_cannot_be_read_on_our_side_spoil_their_own_parcel(
    town: WebhookTown, webhook: Connector
) -> None:
    async def read(start: int, end: int | None) -> AsyncIterator[bytes]:
        yield b"half"
        raise Tampered

    broken = some_parcel(replace(some_file(1, "a.pdf", b"half of it"), open=read))
    outcomes = await webhook.deliver(_wanting(town, 1000), [some_parcel(), broken, some_parcel()], LIMIT)
    assert names(outcomes) == ["Delivered", "Refused", "Delivered"]
    assert len(town.requests) == 2


async def test_memory_for_files_is_bounded_and_given_back(
    town: WebhookTown, webhook: Connector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivering, "_IN_HAND", 2_500)
    small = connector(surroundings())
    parcels = [some_parcel(some_file(1, "b.bin", bytes(1_000))) for _ in range(8)]
    endpoint = _wanting(town, 1_000)
    monkeypatch.setattr(delivering, "APIECE", 1)
    outcomes = await small.deliver(endpoint, parcels, LIMIT)
    assert set(outcomes) == {Delivered("http 204"), Deferred("hub.exhausted", About.PARCEL)}
    for parcel in parcels:
        assert await small.deliver(endpoint, [parcel], LIMIT) == [Delivered("http 204")]
    await small.close()


def test_a_body_without_files_says_nothing_of_them() -> None:
    assert b'"content"' not in body(some_parcel(), ["a", "b"])
