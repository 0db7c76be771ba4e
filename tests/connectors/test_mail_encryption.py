"""Mails that are encrypted to a partner's certificates: OpenSSL opens them, whole, for each reader; none leaves in
clear."""

from __future__ import annotations

import base64
import datetime
import email
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from connectors.mail.delivering import MailConnector
from connectors.mail.envelope import read_certificates, until_one_cannot_read
from connectors.mail.letter import enveloped_size
from hub.domain.delivery import About, Delivered, Refused
from hub.domain.digests import Issue
from hub.domain.identity import ParcelKind
from hub.domain.partner import Endpoint
from hub.domain.trials import StepState
from tests.connectors.partners import (
    NOW,
    MailTown,
    attachments,
    mail_town,
    plain_of,
    some_file,
    some_parcel,
    surroundings,
)

LIMIT = 5.0
TITLE = "Demande d'acte d'état civil"
DAY = datetime.timedelta(days=1)
WHOLE = "must be certificates in PEM, each of them whole, and no keys"


@dataclass(frozen=True, slots=True)
class Reader:
    """Who can open mails: the files of a certificate and its key, and the certificate as it stands in a setting."""

    folder: Path
    pem: str

    def opens(self, mail: bytes) -> EmailMessage[str, str]:
        """What it says; raises CalledProcessError if it was encrypted to others."""
        given = ["-recip", str(self.folder / "certificate.pem"), "-inkey", str(self.folder / "key.pem")]
        done = subprocess.run(
            ["openssl", "cms", "-decrypt", *given], input=mail, capture_output=True, check=True, timeout=60
        )
        return email.message_from_bytes(done.stdout, _class=EmailMessage, policy=default)


Makes = Callable[..., Reader]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Makes:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here; run: make system")

    def make(
        begins: float = -1,
        ends: float = 365,
        usage: str | None = "key_encipherment",
        bits: int = 2048,
        address: str | None = None,
        ca: bool = False,
    ) -> Reader:
        """From and until so many days from the hub's today; for nothing that is named without `usage`; no key of RSA
        with `bits` 0; of this address; an authority's with `ca`."""
        folder = tmp_path_factory.mktemp("reader")
        key = rsa.generate_private_key(65537, bits) if bits else ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Accueil")])
        today = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
        usages = dict.fromkeys(
            (
                "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
                "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
            ),
            False,
        )  # fmt: skip
        builder = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(today + begins * DAY)
            .not_valid_after(today + ends * DAY)
            .add_extension(x509.BasicConstraints(ca, None), True)
        )
        if usage is not None:
            builder = builder.add_extension(x509.KeyUsage(**{**usages, usage: True}), True)
        if address is not None:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.RFC822Name(address)]), False)
        certificate = builder.sign(key, hashes.SHA256())
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        (folder / "certificate.pem").write_bytes(pem)
        form = serialization.PrivateFormat.PKCS8
        told = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        (folder / "key.pem").write_bytes(told)
        return Reader(folder, pem.decode())

    return make


@pytest.fixture(scope="module")
def accueil(reader: Makes) -> Reader:
    return reader()


@pytest_asyncio.fixture
async def channel() -> AsyncIterator[MailConnector]:
    made = MailConnector(surroundings())
    yield made
    await made.close()


@pytest_asyncio.fixture
async def town() -> AsyncIterator[MailTown]:
    async with mail_town() as town:
        yield town


def to(town: MailTown, certificates: str | None, **settings: object) -> Endpoint:
    endpoint = town.endpoint
    return replace(endpoint, settings={**endpoint.settings, "certificates": certificates, **settings})


def in_clear(mail: bytes) -> EmailMessage[str, str]:
    return email.message_from_bytes(mail, _class=EmailMessage, policy=default)


async def test_its_readers_open_it_whole_and_nobody_else_reads_a_word(
    channel: MailConnector, town: MailTown, accueil: Reader, reader: Makes
) -> None:
    other, stranger = reader(), reader()
    # More than is encoded in passing, with accents and every byte.
    scan = bytes(range(256)) * 2000
    parcel = some_parcel(some_file(0, "submission.json", b"{}"), some_file(1, "état.pdf", scan))
    endpoint = to(town, accueil.pem + other.pem)
    assert not channel.check(endpoint)
    for _ in range(2):
        assert isinstance((await channel.deliver(endpoint, [parcel], LIMIT))[0], Delivered)
    first, mail = town.mails
    assert first != mail
    assert len(mail) <= enveloped_size(parcel, read_certificates(accueil.pem + other.pem))
    assert accueil.opens(first).as_bytes() == accueil.opens(mail).as_bytes()
    outside = in_clear(mail)
    assert outside.get_content_type() == "application/pkcs7-mime"
    assert outside["Subject"] == f"Télédossier {parcel.external_id}"
    assert outside["Message-ID"] == f"<{parcel.attempt.delivery}@hub.test>"
    assert outside["Auto-Submitted"] == "auto-generated"
    assert max(len(line) for line in mail.split(b"\r\n")) <= 998
    for one in (accueil, other):
        inside = one.opens(mail)
        assert TITLE in plain_of(inside)
        assert attachments(inside)["état.pdf"] == scan
    with pytest.raises(subprocess.CalledProcessError):
        stranger.opens(mail)


@pytest.mark.parametrize("mode", ["reference", "links"])
async def test_notifications_and_digests_are_encrypted_too(
    channel: MailConnector, town: MailTown, accueil: Reader, mode: str
) -> None:
    issue = Issue(uuid4(), datetime.datetime(2026, 4, 3, 6, tzinfo=datetime.UTC), 1, 1)
    endpoint = to(town, accueil.pem, mode=mode)
    await channel.deliver(endpoint, [some_parcel()], LIMIT)
    await channel.deliver(endpoint, [replace(some_parcel(), issue=issue) for _ in range(2)], LIMIT)
    assert len(town.mails) == 2
    for mail in town.mails:
        assert b"acte" not in mail
        assert "acte" not in str(in_clear(mail)["Subject"])
        assert TITLE in plain_of(accueil.opens(mail))


async def test_a_mail_that_would_be_too_large_once_encrypted_holds_links(
    channel: MailConnector, accueil: Reader
) -> None:
    file = some_file(1, "a.pdf", bytes(60_000))
    async with mail_town(largest=120_000) as town:
        for certificates in (None, accueil.pem):
            endpoint = town.endpoint if certificates is None else to(town, certificates)
            [outcome] = await channel.deliver(
                endpoint, [some_parcel(some_file(0, "s.json", b"{}"), file)], LIMIT
            )
            assert isinstance(outcome, Delivered)
        plain, sealed = town.mails
        assert set(attachments(in_clear(plain))) == {"s.json", "a.pdf"}
        assert attachments(accueil.opens(sealed)) == {}


async def test_once_all_certificates_have_run_out_nothing_leaves_in_clear(
    channel: MailConnector, town: MailTown, accueil: Reader, reader: Makes
) -> None:
    old, coming = reader(-400, -1), reader(1, 400)
    endpoint = to(town, old.pem + coming.pem)
    assert list(channel.check(endpoint)) == ["certificates must be in force: none of them is today"]
    refused = Refused("mail.certificates_expired", About.ENDPOINT)
    assert await channel.deliver(endpoint, [some_parcel(), some_parcel()], LIMIT) == [refused, refused]
    assert town.conversations == []
    # While one of them is good, it is to that one.
    endpoint = to(town, old.pem + accueil.pem)
    assert not channel.check(endpoint)
    await channel.deliver(endpoint, [some_parcel()], LIMIT)
    accueil.opens(town.mails[0])
    with pytest.raises(subprocess.CalledProcessError):
        old.opens(town.mails[0])


@pytest.mark.parametrize(
    ("made", "then", "must"),
    [
        ({"bits": 1024}, "", "must be certificates with an RSA key of 2048 bits or more"),
        ({"bits": 0}, "", "must be certificates with an RSA key of 2048 bits or more"),
        ({"usage": "digital_signature"}, "", "must be certificates that may encrypt keys, not only sign"),
        ({"usage": None, "ca": True}, "", "must be certificates of readers, not of an authority"),
        ({}, "-----BEGIN CERTIFICATE-----\nMII", WHOLE),
        ({}, "-----BEGIN PRIVATE KEY-----\nTUlJ\n-----END PRIVATE KEY-----", WHOLE),
        (None, "-----BEGIN CERTIFICATE-----\nx", "must be certificates in PEM"),
        (None, "\ud800", "must be certificates in PEM"),
        (None, "", "must be a text, not empty"),
        (None, None, "must be certificates in PEM"),
    ],
    ids=[
        "short",
        "no-rsa",
        "only-signs",
        "authority",
        "cut",
        "key",
        "no-certificate",
        "no-text",
        "empty",
        "nothing",
    ],
)
async def test_a_certificate_that_will_not_do_is_refused_at_import_and_at_delivery(
    channel: MailConnector,
    town: MailTown,
    reader: Makes,
    made: dict[str, int] | None,
    then: str | None,
    must: str,
) -> None:
    endpoint = to(town, then if made is None or then is None else reader(**made).pem + then)
    assert list(channel.check(endpoint)) == [f"certificates {must}"]
    assert await channel.deliver(endpoint, [some_parcel()], LIMIT) == [
        Refused("mail.settings", About.ENDPOINT)
    ]
    assert town.conversations == []


def without_ends(pem: str) -> str:
    return "".join(line for line in pem.splitlines(keepends=True) if "-----" not in line)


@pytest.mark.parametrize(
    "spoiled",
    [
        lambda pem: pem.replace("-----BEGIN", "----BEGIN"),
        lambda pem: pem.replace("-----BEGIN", "\u2013\u2013BEGIN").replace("-----END", "\u2013\u2013END"),
        lambda pem: pem.partition("\n")[2],
        without_ends,
        lambda pem: " ".join(without_ends(pem).split()),
        lambda pem: "> " + without_ends(pem).replace("\n", "\n> "),
        lambda pem: "-----END CERTIFICATE-----\n",
    ],
    ids=["four-dashes", "other-dashes", "no-begin", "neither-end", "in-one-line", "cited", "an-end-alone"],
)
def test_no_reader_is_left_out_by_a_slip(
    accueil: Reader, reader: Makes, spoiled: Callable[[str], str]
) -> None:
    other = spoiled(reader().pem)
    for text in (accueil.pem + other, other + accueil.pem, accueil.pem + other + accueil.pem):
        with pytest.raises(ValueError, match=WHOLE):
            read_certificates(text)


def test_two_readers_between_one_begin_and_one_end_are_not_taken_for_one(reader: Makes) -> None:
    both = b"".join(base64.b64decode(without_ends(reader().pem)) for _ in range(2))
    body = base64.encodebytes(both).decode()
    with pytest.raises(ValueError, match="PEM"):
        read_certificates(f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n")


def test_what_openssl_writes_around_a_certificate_may_stand_there(accueil: Reader, reader: Makes) -> None:
    given = ["openssl", "x509", "-text", "-subject", "-issuer", "-serial", "-fingerprint", "-in"]
    told = [
        subprocess.run([*given, one.folder / "certificate.pem"], capture_output=True, check=True, timeout=60)
        for one in (accueil, reader(address="etat-civil@xn--bonneville.example"))
    ]
    bag = "Bag Attributes\n    friendlyName: état civil\n    localKeyID: 5A 3B\nKey Attributes: <No Attributes>\n"
    text = bag + "# Accueil\n" + "\n".join(one.stdout.decode() for one in told).replace("\n", "\r\n")
    assert len(read_certificates(text)) == 2


def test_a_certificate_that_names_no_use_is_a_reader_s_and_one_of_an_authority_that_names_it_too(
    reader: Makes,
) -> None:
    assert len(read_certificates(reader(usage=None).pem + reader(ca=True).pem)) == 2


async def test_a_notice_is_encrypted_where_its_settings_say_so(
    channel: MailConnector, town: MailTown, accueil: Reader
) -> None:
    told = replace(some_parcel(some_file(0, "avis.txt", b"Rien ne part.")), kind=ParcelKind.NOTICE)
    await channel.deliver(to(town, accueil.pem, mode="reference"), [told], LIMIT)
    assert "Rien ne part." in plain_of(accueil.opens(town.mails[0]))


async def test_a_trial_tells_whose_a_certificate_is_if_no_mail_goes_there(
    channel: MailConnector, town: MailTown, reader: Makes
) -> None:
    age = (datetime.datetime.now(datetime.UTC) - datetime.datetime.fromtimestamp(NOW, datetime.UTC)) / DAY
    own = town.endpoint.settings["recipients"]
    assert isinstance(own, list)
    pems = [reader(-1, age + 300, address=one).pem for one in (own[0].upper(), "autre@mairie.example")]
    steps = await channel.try_out(to(town, "".join(pems)), LIMIT, False)
    [noted] = [one for one in steps if one.name == "reader" and one.state is StepState.NOTED]
    assert noted.fr == "Le certificat 2 est celui de autre@mairie.example, qui n'est pas destinataire."


async def test_a_trial_tells_until_when_each_certificate_is_good(
    channel: MailConnector, town: MailTown, reader: Makes
) -> None:
    ages = (datetime.datetime.now(datetime.UTC) - datetime.datetime.fromtimestamp(NOW, datetime.UTC)) / DAY
    pems = [reader(-1, ages + days).pem for days in (300, 10, -5)]
    steps = [
        one for one in await channel.try_out(to(town, "".join(pems)), LIMIT, False) if one.name == "reader"
    ]
    assert [one.state for one in steps] == [StepState.WELL, StepState.WELL, StepState.NOTED, StepState.NOTED]
    assert "certificat 2 expire dans 9 jours" in steps[2].fr
    assert "certificat 3 n'est pas en vigueur" in steps[3].fr


def test_the_first_reader_who_is_left_without_a_certificate_is_who_counts(reader: Makes) -> None:
    today = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
    old, new = (reader(ends=ends, address="accueil@mairie.example").pem for ends in (3, 300))
    other = reader(ends=200, address="etat-civil@mairie.example").pem
    unnamed = [reader(ends=ends).pem for ends in (2, 250)]
    assert until_one_cannot_read(old) == today + 3 * DAY
    assert until_one_cannot_read(old + new) == today + 300 * DAY
    assert until_one_cannot_read(old + other + new + "".join(unnamed)) == today + 200 * DAY
    with pytest.raises(ValueError, match="PEM"):
        until_one_cannot_read("no certificate")
