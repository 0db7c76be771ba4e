"""Partners' servers for tests: real ones, in the test's own event loop, that keep what they get.

Each can be told to break off in the middle, or to refuse one parcel alone. What hangs or refuses to connect
needs no server: a bound port is enough.
"""

from __future__ import annotations

import asyncio
import base64
import email
import hashlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any, Protocol, cast
from uuid import UUID, uuid4

import asyncssh
from aiohttp import web
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from hub.adapters.system.outgoing import GuardedOutgoing
from hub.domain.addresses import read_networks
from hub.domain.delivery import Attempt
from hub.domain.identity import ParcelKind, Subscriber
from hub.domain.partner import Endpoint
from hub.ports.connector import Parcel, ParcelFile, Surroundings

HERE = "127.0.0.1"
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
PASSWORD = "correct horse"
SUBSCRIBER = Subscriber("21640122200017", "64122")
NOW = 1_770_000_000.0


def outgoing() -> GuardedOutgoing:
    """To this machine, beside the public internet."""
    return GuardedOutgoing(read_networks("127.0.0.0/8, ::1"))


def surroundings(now: float = NOW) -> Surroundings:
    return Surroundings(
        link=lambda parcel, number: f"https://hub.test/f/{parcel.attempt.delivery}/{number}?s=x",
        now=lambda: now,
        outgoing=outgoing(),
    )


def some_file(number: int, name: str, content: bytes, media_type: str = "application/pdf") -> ParcelFile:
    async def read(start: int, end: int | None) -> AsyncIterator[bytes]:
        for at in range(start, len(content) if end is None else end, 65536):
            yield content[at : at + 65536]

    return ParcelFile(
        number, name, name, "piece", media_type, len(content), hashlib.sha256(content).hexdigest(), read
    )


def some_parcel(*files: ParcelFile, sequence: int = 1, delivery: UUID | None = None) -> Parcel:
    """With two files when none is given; `files[0]` is the description by its number only."""
    default_files = (
        some_file(0, "submission.json", b'{"a":"\xc3\xa9"}', "application/json"),
        some_file(1, "état civil (1).xml", b"<?xml version='1.0'?>\r\n<a>\xe9</a>\n.\r\n", "text/xml"),
    )
    return Parcel(
        attempt=Attempt(delivery or uuid4(), 1, 1),
        subscriber=SUBSCRIBER,
        sequence=sequence,
        sender="service-public",
        external_id="A-9-X3UGO4V7",
        procedure="EtatCivil",
        procedure_title="Demande d'acte d'état civil",
        kind=ParcelKind.SUBMISSION,
        revision=1,
        received_at=datetime(2026, 4, 3, 14, 26, 40, tzinfo=UTC),
        files=files or default_files,
    )


def with_settings(endpoint: Endpoint, **settings: object) -> Endpoint:
    """The same endpoint, with these settings beside its own or in their place."""
    return replace(endpoint, settings={**endpoint.settings, **settings})


def tried_again(parcel: Parcel, number: int = 2) -> Parcel:
    return replace(parcel, attempt=replace(parcel.attempt, number=number))


@contextmanager
def silent_port() -> Iterator[int]:
    """Connections are completed, and nobody ever answers."""
    with socket.socket() as door:
        door.bind((HERE, 0))
        door.listen(64)
        yield door.getsockname()[1]


@contextmanager
def closed_port() -> Iterator[int]:
    with socket.socket() as door:
        door.bind((HERE, 0))
        yield door.getsockname()[1]


class Town(Protocol):
    """A partner with its server."""

    @property
    def endpoint(self) -> Endpoint: ...

    def at(self, port: int) -> Endpoint:
        """The same partner, were its server at another port."""
        ...

    def received(self) -> list[tuple[str, Mapping[str, bytes]]]:
        """Each parcel that lies there: its name, and its files (for a webhook, what it announced)."""
        ...

    def break_off(self) -> None:
        """From now on the connection is cut in the middle of each parcel."""
        ...

    def spoil(self, delivery: UUID) -> None:
        """From now on this parcel alone is refused."""
        ...


# --- SFTP ---------------------------------------------------------------------------------------------


@dataclass
class SftpTown:
    root: Path
    port: int
    host_key: asyncssh.SSHKey
    login: asyncssh.SSHKey
    breaking: bool = False
    spoiled: set[str] = field(default_factory=set)
    fault: asyncssh.SFTPError | None = None
    mute: bool = False
    pause: float = 0
    """Seconds before each block is taken."""
    room: int | None = None
    """Bytes that are left on its disk, as it says; None: as it is."""
    cut_after_rename: bool = False
    overwrites: bool = False
    """Its rename puts a file over another, and it has no hard links."""
    swallows: int = 0
    """Bytes at the end of each block that it takes and forgets."""
    deaf: list[asyncssh.SSHServerConnection] = field(default_factory=list)
    """Connections on which it says nothing any more."""
    connections: int = 0
    guests: list[asyncssh.SSHServerConnection] = field(default_factory=list)
    """The connections that are open."""
    written: int = 0
    appeared: list[dict[str, int]] = field(default_factory=list)
    """The sizes of the files in each folder, at the moment it became visible."""

    @property
    def endpoint(self) -> Endpoint:
        return self.at(self.port)

    def at(self, port: int) -> Endpoint:
        return Endpoint(
            "sftp",
            {
                "host": HERE,
                "port": port,
                "username": "mairie",
                "directory": ".",
                "host_key": self.host_key.export_public_key().decode().strip(),
            },
            {"private_key": self.login.export_private_key().decode()},
        )

    def received(self) -> list[tuple[str, Mapping[str, bytes]]]:
        return [
            (folder.name, {file.name: file.read_bytes() for file in sorted(folder.iterdir())})
            for folder in sorted(self.root.iterdir())
            if not folder.name.startswith(".")
        ]

    def hidden(self) -> list[str]:
        return sorted(found.name for found in self.root.iterdir() if found.name.startswith("."))

    def break_off(self) -> None:
        self.breaking = True

    def spoil(self, delivery: UUID) -> None:
        self.spoiled.add(str(delivery))


@asynccontextmanager
async def sftp_town(root: Path, **options: Any) -> AsyncIterator[SftpTown]:
    """`options` are the server library's."""
    login = asyncssh.generate_private_key("ssh-ed25519")
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    town = SftpTown(root, 0, host_key, login)

    class Inbox(asyncssh.SFTPServer):
        def __init__(self, channel: asyncssh.SSHServerChannel[bytes]) -> None:
            super().__init__(channel, chroot=str(root).encode())

        def mkdir(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
            if any(delivery in path.decode() for delivery in town.spoiled):
                raise asyncssh.SFTPFailure("these words must go nowhere")
            super().mkdir(path, attrs)

        async def write(self, file_obj: object, offset: int, data: bytes) -> int:
            if town.breaking:
                self.connection.abort()
            town.written += len(data)
            if town.mute:
                await asyncio.Event().wait()
            await asyncio.sleep(town.pause)
            if town.fault is not None:
                raise town.fault
            return cast(int, super().write(file_obj, offset, data[: len(data) - town.swallows]))

        async def stat(self, path: bytes) -> asyncssh.SFTPAttrs:
            if self.connection in town.deaf:
                await asyncio.Event().wait()
            return asyncssh.SFTPAttrs.from_local(cast(os.stat_result, super().stat(path)))

        def link(self, oldpath: bytes, newpath: bytes) -> None:
            if town.overwrites:
                raise asyncssh.SFTPOpUnsupported("these words must go nowhere")
            super().link(oldpath, newpath)

        def statvfs(self, path: bytes) -> asyncssh.SFTPVFSAttrs:
            told = cast(os.statvfs_result, super().statvfs(path))
            attributes = asyncssh.SFTPVFSAttrs.from_local(told)
            if town.room is not None:
                attributes.frsize, attributes.bavail = 1024, town.room // 1024
            return attributes

        def rename(self, oldpath: bytes, newpath: bytes) -> None:
            if town.overwrites:
                os.replace(self.map_path(oldpath), self.map_path(newpath))
            else:
                super().rename(oldpath, newpath)
            if Path(self.map_path(newpath).decode()).is_dir() and not newpath.rpartition(b"/")[2].startswith(
                b"."
            ):
                folder = Path(self.map_path(newpath).decode())
                town.appeared.append({file.name: file.stat().st_size for file in folder.iterdir()})
            if town.cut_after_rename:
                self.connection.abort()

    class Gate(asyncssh.SSHServer):
        def connection_made(self, connection: asyncssh.SSHServerConnection) -> None:
            town.connections += 1
            town.guests.append(connection)
            self.guest = connection

        def connection_lost(self, fault: Exception | None) -> None:
            town.guests.remove(self.guest)

        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, password: str) -> bool:
            return password == PASSWORD

    authorized = root.parent / f"{root.name}.authorized"
    authorized.write_bytes(login.export_public_key())
    server = await asyncssh.listen(
        HERE,
        0,
        server_factory=Gate,
        authorized_client_keys=str(authorized),
        sftp_factory=Inbox,
        config=None,
        **{"server_host_keys": [host_key, asyncssh.generate_private_key("ecdsa-sha2-nistp256")], **options},
    )
    town.port = server.get_port()
    try:
        yield town
    finally:
        server.close()


# --- mail ---------------------------------------------------------------------------------------------


@dataclass
class MailTown:
    port: int
    tls: str = "none"
    ca: str | None = None
    breaking: bool = False
    mute: bool = False
    spoiled: set[str] = field(default_factory=set)
    mails: list[bytes] = field(default_factory=list)
    return_addresses: list[str] = field(default_factory=list)
    """Of each of these mails."""
    conversations: list[asyncio.BaseTransport] = field(default_factory=list)
    refusals: dict[str, str] = field(default_factory=dict)
    content_answer: str = "250 OK"
    pause: float = 0
    """Seconds before each mail is taken."""
    deaf: bool = False
    """Nothing more is answered."""
    breaks_after: int | None = None
    """Mails after which each further one breaks the connection; None: never."""

    @property
    def endpoint(self) -> Endpoint:
        return self.at(self.port)

    def at(self, port: int) -> Endpoint:
        settings: dict[str, object] = {
            "host": HERE,
            "port": port,
            "tls": self.tls,
            "sender": "ne-pas-repondre@hub.test",
            "recipients": ["accueil@mairie.test"],
            "mode": "attachments",
        }
        if self.ca is not None:
            settings["ca"] = self.ca
        return Endpoint("mail", settings)

    def read(self) -> list[EmailMessage[str, str]]:
        return [email.message_from_bytes(mail, _class=EmailMessage, policy=default) for mail in self.mails]

    def received(self) -> list[tuple[str, Mapping[str, bytes]]]:
        """A mail program shows mails of one Message-ID once."""
        shown = {str(mail["Message-ID"]): attachments(mail) for mail in self.read()}
        return sorted(shown.items())

    def break_off(self) -> None:
        self.breaking = True

    def spoil(self, delivery: UUID) -> None:
        self.spoiled.add(str(delivery))

    async def handle_RCPT(  # noqa: N802 - the server library's name for it
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refusals:
            return self.refusals[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - the server library's name for it
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        content = cast(bytes, envelope.original_content)
        await asyncio.sleep(self.pause)
        if self.breaking or (self.breaks_after is not None and len(self.mails) >= self.breaks_after):
            cast(asyncio.Transport, server.transport).abort()
            return "250 OK"
        if self.mute:
            await asyncio.Event().wait()
        if any(delivery.encode() in content for delivery in self.spoiled):
            return "554 these words must go nowhere"
        if self.content_answer.startswith("250"):
            self.mails.append(content)
            self.return_addresses.append(str(envelope.mail_from))
        return self.content_answer


def attachments(mail: EmailMessage[str, str]) -> dict[str, bytes]:
    return {
        str(part.get_filename()): cast(bytes, part.get_payload(decode=True))
        for part in mail.iter_attachments()
    }


def plain_of(mail: EmailMessage[str, str]) -> str:
    """The text of a mail, as who reads no HTML sees it."""
    body: Any = mail.get_body(("plain",))
    return str(body.get_content()).replace("\r\n", "\n")


@asynccontextmanager
async def mail_town(
    tls: str = "none",
    context: ssl.SSLContext | None = None,
    ca: str | None = None,
    largest: int = 1 << 25,
    password: str | None = None,
    utf8: bool = False,
) -> AsyncIterator[MailTown]:
    town = MailTown(0, tls, ca)
    loop = asyncio.get_running_loop()

    class Conversation(SMTP):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            town.conversations.append(transport)
            super().connection_made(transport)

        def data_received(self, data: bytes) -> None:
            if not town.deaf:
                super().data_received(data)

    server = await loop.create_server(
        lambda: cast(
            Any,
            Conversation(
                town,
                loop=loop,
                hostname="mairie.test",
                tls_context=context if tls == "starttls" else None,
                data_size_limit=largest,
                enable_SMTPUTF8=utf8,
                auth_required=password is not None,
                authenticator=lambda server, session, envelope, mechanism, login: AuthResult(
                    success=cast(LoginPassword, login).password == (password or "").encode(),
                    handled=False,
                ),
            ),
        ),
        HERE,
        0,
        ssl=context if tls == "tls" else None,
    )
    town.port = server.sockets[0].getsockname()[1]
    try:
        yield town
    finally:
        server.close()


# --- webhook ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Taken:
    """A request as it came."""

    headers: Mapping[str, str]
    body: bytes


@dataclass
class WebhookTown:
    port: int
    breaking: bool = False
    spoiled: set[str] = field(default_factory=set)
    requests: list[Taken] = field(default_factory=list)
    answers: list[web.Response] = field(default_factory=list)
    peers: set[int] = field(default_factory=set)
    queries: list[str] = field(default_factory=list)
    encrypted: bool = False

    @property
    def endpoint(self) -> Endpoint:
        return self.at(self.port)

    def at(self, port: int) -> Endpoint:
        scheme = "https" if self.encrypted else "http"
        return Endpoint("webhook", {"url": f"{scheme}://{HERE}:{port}/hooks/mairie"}, {"secret": SECRET})

    def received(self) -> list[tuple[str, Mapping[str, bytes]]]:
        """A receiver that follows the standard knows a webhook-id it has seen."""
        seen = {taken.headers["webhook-id"]: {"body": taken.body} for taken in self.requests}
        return sorted(seen.items())

    def break_off(self) -> None:
        self.breaking = True

    def spoil(self, delivery: UUID) -> None:
        self.spoiled.add(str(delivery))

    async def take(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.queries.append(request.rel_url.raw_query_string)
        if request.transport is not None:
            self.peers.add(request.transport.get_extra_info("peername")[1])
        if self.breaking and request.transport is not None:
            request.transport.abort()
            return web.Response(status=204)
        if request.headers["webhook-id"] in self.spoiled:
            return web.Response(status=422, text="these words must go nowhere")
        if self.answers:
            return self.answers.pop(0)
        self.requests.append(Taken(dict(request.headers), body))
        return web.Response(status=204)


@asynccontextmanager
async def webhook_town(context: ssl.SSLContext | None = None) -> AsyncIterator[WebhookTown]:
    """With TLS when a context is given."""
    town = WebhookTown(0, encrypted=context is not None)
    application = web.Application()
    application.router.add_post("/hooks/mairie", town.take)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, HERE, 0, shutdown_timeout=0.1, ssl_context=context)
    await site.start()
    town.port = runner.addresses[0][1]
    try:
        yield town
    finally:
        await runner.cleanup()


def names(outcomes: Sequence[object]) -> list[str]:
    return [type(outcome).__name__ for outcome in outcomes]
