"""The SFTP channel: each parcel becomes a folder that appears whole in the partner's directory.

Business of this file: one connection for a page of parcels, to a server whose host key is pinned; files
written as streams into a hidden folder, which one rename makes visible. It never overwrites, and a parcel
that is there already is recognised. It decides no retry.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
import stat
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar, cast

import asyncssh
from asyncssh.packet import PacketDecodeError

from connectors.fields import Reading
from connectors.parcels import each, exhausted, harmless_name, patience, slug
from hub.domain.delivery import About, Attempt, Deferred, Delivered, Outcome, Refused
from hub.domain.errors import HubError
from hub.domain.fields import Field, FieldKind
from hub.domain.partner import Endpoint
from hub.ports.connector import Connector, Parcel, ParcelFile, Surroundings

AT_ONCE = 4
"""Parcels under way on one connection: enough to hide the round trips, gentle to a small server."""
READ_BACK = 64 * 1024 * 1024
"""Up to this many bytes, a parcel found under its final name is read back and compared."""
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-ctr")
"""Modern ones; first those that a processor has instructions for."""
BLOCK = 128 * 1024
"""Bytes written before an answer is awaited: the server shows a sign of life for each."""

FIELDS = (
    Field(
        "host",
        FieldKind.HOST,
        required=True,
        fr="Nom ou adresse du serveur SFTP.",
        en="Name or address of the SFTP server.",
    ),
    Field(
        "port",
        FieldKind.NUMBER,
        default=22,
        least=1,
        most=65535,
        fr="Port du serveur.",
        en="Port of the server.",
    ),
    Field(
        "username",
        FieldKind.TEXT,
        required=True,
        fr="Compte sur ce serveur.",
        en="Account on that server.",
    ),
    Field(
        "directory",
        FieldKind.TEXT,
        default=".",
        fr="Dossier où les plis arrivent, tel que le compte le voit.",
        en="Folder where parcels arrive, as the account sees it.",
    ),
    Field(
        "host_key",
        FieldKind.TEXT,
        required=True,
        must="must be one line of an OpenSSH public key",
        fr="Clé publique du serveur, en une ligne OpenSSH : aucune autre n'est acceptée.",
        en="The server's public key, one OpenSSH line: nothing else is believed.",
    ),
    Field(
        "private_key",
        FieldKind.BLOCK,
        secret=True,
        unless=("password",),
        must="must be an OpenSSH private key without a passphrase",
        fr="Clé privée du compte, au format OpenSSH, sans phrase secrète.",
        en="The account's private key, in OpenSSH's format, without a passphrase.",
    ),
    Field(
        "password",
        FieldKind.TEXT,
        secret=True,
        fr="Mot de passe du compte, où il n'y a pas de clé privée.",
        en="The account's password, where there is no private key.",
    ),
)

_HIDDEN = re.compile(
    r"\.(?P<delivery>[0-9a-f-]{36})\.(?P<sending>[0-9]{1,9})\.(?P<number>[0-9]{1,9})(\.[0-9]{1,9})?\.(part|gone)"
)
_LEAVING = 1.0
_FAULTS = (asyncssh.Error, PacketDecodeError, OSError)
"""What servers do; the second is what the library says of a packet that is none."""
_ABSENT = (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath)

T = TypeVar("T")


def connector(surroundings: Surroundings) -> Connector:
    return SftpConnector()


class SftpConnector:
    @property
    def channel(self) -> str:
        return "sftp"

    @property
    def fields(self) -> Sequence[Field]:
        return FIELDS

    def check(self, endpoint: Endpoint) -> Sequence[str]:
        return _read(endpoint)[1]

    async def deliver(self, endpoint: Endpoint, parcels: Sequence[Parcel], limit: float) -> Sequence[Outcome]:
        target, flaws = _read(endpoint)
        if target is None or flaws:
            return [Refused("sftp.settings", About.ENDPOINT) for _ in parcels]
        try:
            visit = await _enter(target, limit)
        except _FAULTS as fault:
            return [judge(fault) for _ in parcels]
        try:
            leftovers = await visit.leftovers(parcels)
            return await each(parcels, AT_ONCE, lambda parcel: visit.deliver(parcel, leftovers))
        finally:
            await visit.leave()

    async def close(self) -> None:
        """Nothing stays open between two calls."""


def judge(fault: Exception) -> Deferred | Refused:
    """What a fault of the network, of SSH or of the SFTP server means. Its text is never looked at."""
    match fault:
        case TimeoutError():
            return Deferred("sftp.timeout")
        case ConnectionRefusedError():
            return Deferred("sftp.connection_refused")
        case socket.gaierror():
            return Deferred("sftp.host_unknown")
        case NotADirectoryError():
            return Refused("sftp.directory_missing", About.ENDPOINT)
        case ConnectionError():
            return Deferred("sftp.disconnected")
        case OSError():
            return exhausted(fault) or Deferred("sftp.unreachable")
        case asyncssh.HostKeyNotVerifiable():
            return Refused("sftp.host_key_changed", About.ENDPOINT)
        case asyncssh.PermissionDenied():
            return Refused("sftp.permission_denied", About.ENDPOINT)
        case asyncssh.KeyExchangeFailed():
            return Refused("sftp.no_common_algorithm", About.ENDPOINT)
        case asyncssh.SFTPError():
            return _judge_answer(fault)
        case asyncssh.ChannelOpenError():
            return Deferred("sftp.no_sftp")
        case _:
            return Deferred("sftp.disconnected")


def _judge_answer(fault: asyncssh.SFTPError) -> Deferred | Refused:
    match fault:
        case asyncssh.SFTPConnectionLost() | asyncssh.SFTPNoConnection() | asyncssh.SFTPBadMessage():
            return Deferred("sftp.disconnected")
        case asyncssh.SFTPPermissionDenied() | asyncssh.SFTPWriteProtect():
            return Refused("sftp.write_denied", About.ENDPOINT)
        case asyncssh.SFTPNoSpaceOnFilesystem() | asyncssh.SFTPQuotaExceeded():
            return Deferred("sftp.no_space")
        case asyncssh.SFTPInvalidFilename():
            return Refused("sftp.name_refused", About.PARCEL)
        case asyncssh.SFTPNoSuchFile() | asyncssh.SFTPNoSuchPath():
            return Deferred("sftp.folder_vanished", About.PARCEL)
        case _:
            # Version 3 servers say this for nearly everything, a name they do not like included.
            return Deferred("sftp.failure", About.PARCEL)


@dataclass(frozen=True, slots=True)
class _Target:
    host: str
    port: int
    username: str
    directory: str
    host_key: asyncssh.SSHKey = field(repr=False)
    private_key: asyncssh.SSHKey | None = field(repr=False)
    password: str | None = field(repr=False)


def _read(endpoint: Endpoint) -> tuple[_Target | None, Sequence[str]]:
    reading = Reading(endpoint, FIELDS)
    host = reading.text("host")
    port = reading.number("port")
    username = reading.text("username")
    directory = reading.text("directory")
    host_key = _public_key(reading, reading.text("host_key"))
    password = reading.secret("password")
    key_text = reading.secret("private_key")
    private_key = _private_key(reading, key_text)
    flaws = reading.flaws
    if host_key is None or flaws:
        return None, flaws
    return _Target(host, port, username, directory, host_key, private_key, password), flaws


def _public_key(reading: Reading, line: str) -> asyncssh.SSHKey | None:
    if not line:
        return None
    try:
        return asyncssh.import_public_key(line)
    except (asyncssh.KeyImportError, ValueError):
        reading.wrong("host_key", "must be one line of an OpenSSH public key")
        return None


def _private_key(reading: Reading, text: str | None) -> asyncssh.SSHKey | None:
    if text is None:
        return None
    try:
        return asyncssh.import_private_key(text)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError):
        reading.wrong("private_key", "must be an OpenSSH private key without a passphrase")
        return None


async def _enter(target: _Target, limit: float) -> _Visit:
    """Raises what `judge` understands; leaves nothing open then."""
    async with asyncio.timeout(limit):
        connection = await asyncssh.connect(
            target.host,
            target.port,
            username=target.username,
            known_hosts=([target.host_key], [], []),
            client_keys=[target.private_key] if target.private_key else None,
            password=target.password,
            preferred_auth=("publickey",) if target.private_key else ("password", "keyboard-interactive"),
            encryption_algs=CIPHERS,
            compression_algs=None,
            utf8_decode_errors="replace",
            # Only what the partner's settings say: nothing of the account this process runs under.
            config=None,
            agent_path=None,
            gss_host=None,
            x509_trusted_certs=None,
        )
        try:
            # A file name in the directory that is no UTF-8 is no reason to stop.
            sftp = await connection.start_sftp_client(path_errors="surrogateescape")
            if not await _is_directory(sftp, target.directory):
                raise NotADirectoryError
        except BaseException:
            connection.abort()
            raise
    return _Visit(connection, sftp, target.directory, limit)


async def _is_directory(sftp: asyncssh.SFTPClient, path: str) -> bool:
    try:
        attributes = await sftp.stat(path)
    except _ABSENT:
        return False
    # A server may hide permissions, and then the first folder made will tell.
    return attributes.permissions is None or stat.S_ISDIR(attributes.permissions)


def folder_name(parcel: Parcel) -> str:
    """The name a parcel has at its partner: from the delivery alone, so that it is the same each time."""
    return f"{slug(parcel.external_id, 80)}-{parcel.attempt.delivery.hex[:16]}"


def _part_name(attempt: Attempt) -> str:
    return f".{attempt.delivery}.{attempt.sending}.{attempt.number}.part"


@dataclass(slots=True)
class _Visit:
    """One connection to one partner. Once it is broken, whatever is still to do shares that outcome: a
    page of parcels must not wait for the same silent server one after the other."""

    connection: asyncssh.SSHClientConnection
    sftp: asyncssh.SFTPClient
    directory: str
    limit: float
    broken: Deferred | Refused | None = None

    async def deliver(self, parcel: Parcel, leftovers: Iterable[str]) -> Outcome:
        if self.broken is not None:
            return self.broken
        try:
            size = sum(file.size for file in parcel.files)
            async with asyncio.timeout(patience(size, self.limit)):
                outcome = await self._place(parcel)
                await self._clear(parcel.attempt, leftovers)
            return outcome
        except _FAULTS as fault:
            outcome = judge(fault)
            if isinstance(fault, asyncssh.SFTPFailure) and await self._is_full(parcel):
                outcome = Deferred("sftp.no_space")
            if outcome.cause == "sftp.no_space":
                # The rest of the page would be sent in vain, byte for byte.
                self.broken = outcome
                return outcome
            if not isinstance(fault, asyncssh.SFTPError) or outcome.cause == "sftp.disconnected":
                self.broken = self.broken or outcome
                self.connection.abort()
                return self.broken
            return outcome

    async def _place(self, parcel: Parcel) -> Outcome:
        final = f"{self.directory}/{folder_name(parcel)}"
        found = await self._compare(final, parcel)
        if found is not None:
            return found
        part = f"{self.directory}/{_part_name(parcel.attempt)}"
        await self._make_folder(part, parcel.attempt)
        try:
            for file in parcel.files:
                await self._write(f"{part}/{harmless_name(file)}", file)
            await self._soon(self.sftp.rename(part, final))
        except (asyncssh.SFTPError, HubError) as fault:
            with suppress(asyncssh.SFTPError):
                await self._remove_folder(part)
            # Another attempt of this delivery may have been quicker.
            found = await self._compare(final, parcel) if isinstance(fault, asyncssh.SFTPError) else None
            if found is None:
                raise
            return found
        return Delivered(folder_name(parcel))

    async def _is_full(self, parcel: Parcel) -> bool:
        """Version 3 has no word for a full disk; most servers tell how much room there is."""
        try:
            told = await self._soon(self.sftp.statvfs(self.directory))
        except _FAULTS:
            return False
        needed = sum(file.size + told.frsize for file in parcel.files)
        return bool(told.bavail * told.frsize < needed)

    async def _make_folder(self, part: str, attempt: Attempt) -> None:
        try:
            await self._soon(self.sftp.mkdir(part))
        except asyncssh.SFTPError as fault:
            # Perhaps this very attempt was begun before, and its end was forgotten.
            try:
                await self._set_aside(_part_name(attempt), attempt, 0)
            except asyncssh.SFTPError:
                raise fault from None
            await self._soon(self.sftp.mkdir(part))

    async def _write(self, path: str, file: ParcelFile) -> None:
        """Opened exclusively: a file of this name can only be a mistake. Durable where the server can."""
        handle = await self._soon(self._open(path, "xb"))
        try:
            async for chunk in file.open(0, None):
                for start in range(0, len(chunk), BLOCK):
                    await self._soon(handle.write(chunk[start : start + BLOCK]))
            with suppress(asyncssh.SFTPOpUnsupported):
                await self._soon(handle.fsync())
        except (asyncssh.SFTPError, HubError):
            with suppress(asyncssh.SFTPError):
                await self._soon(handle.close())
            raise
        await self._soon(handle.close())

    async def _compare(self, final: str, parcel: Parcel) -> Outcome | None:
        """None when nothing stands under the final name. What the partner added to the folder is its own
        business; our files must all be there, unchanged."""
        try:
            await self._soon(self.sftp.stat(final))
        except _ABSENT:
            return None
        to_read = sum(file.size for file in parcel.files) <= READ_BACK
        for file in parcel.files:
            if not await self._is_there(f"{final}/{harmless_name(file)}", file, to_read):
                return Refused("sftp.conflict", About.PARCEL)
        return Delivered(folder_name(parcel))

    async def _is_there(self, path: str, file: ParcelFile, to_read: bool) -> bool:
        try:
            attributes = await self._soon(self.sftp.stat(path))
            if attributes.size != file.size or not to_read:
                return attributes.size == file.size
            return await self._digest(path) == file.sha256
        except _ABSENT:
            return False
        except asyncssh.SFTPPermissionDenied:
            # A drop box may be written and not read. The final name was given after the last byte.
            return True

    async def _digest(self, path: str) -> str:
        digest = hashlib.sha256()
        handle = await self._soon(self._open(path, "rb"))
        while chunk := await self._soon(handle.read(BLOCK)):
            digest.update(cast(bytes, chunk))
        await self._soon(handle.close())
        return digest.hexdigest()

    async def leftovers(self, parcels: Sequence[Parcel]) -> list[str]:
        """Hidden folders of attempts that did not end. Listed once, and only when a parcel was tried
        before: a first attempt has left nothing, and directories can be long."""
        again = any((parcel.attempt.sending, parcel.attempt.number) > (1, 1) for parcel in parcels)
        found: list[str] = []
        if not again:
            return found
        entries = self.sftp.scandir(self.directory)
        try:
            while (entry := await self._soon(anext(entries, None))) is not None:
                name = str(entry.filename)
                if _HIDDEN.fullmatch(name):
                    found.append(name)
        except _FAULTS as fault:
            # A server that does not let its directory be listed still takes parcels.
            if not isinstance(fault, asyncssh.SFTPError):
                self.broken = judge(fault)
                self.connection.abort()
        return found

    async def _clear(self, attempt: Attempt, leftovers: Iterable[str]) -> None:
        """Never fails a delivery: what cannot be cleared now is tried again by a later attempt."""
        mine = (attempt.sending, attempt.number)
        older = [name for name in leftovers if (told := _attempt_of(name, attempt)) and told < mine]
        for count, name in enumerate(older, 1):
            with suppress(asyncssh.SFTPError):
                await self._set_aside(name, attempt, count)

    async def _set_aside(self, name: str, attempt: Attempt, count: int) -> None:
        """Renamed before it is emptied: a worker that only seemed dead may still write into the folder,
        and must not find it again to publish half of a parcel."""
        gone = f"{self.directory}/.{attempt.delivery}.{attempt.sending}.{attempt.number}.{count}.gone"
        if name.endswith(".gone"):
            gone = f"{self.directory}/{name}"
        else:
            await self._soon(self.sftp.rename(f"{self.directory}/{name}", gone))
        await self._remove_folder(gone)

    async def _remove_folder(self, path: str) -> None:
        for name in await self._soon(self.sftp.listdir(path)):
            if name not in (".", ".."):
                await self._soon(self.sftp.remove(f"{path}/{name}"))
        await self._soon(self.sftp.rmdir(path))

    async def _open(self, path: str, mode: str) -> asyncssh.SFTPClientFile:
        return await self.sftp.open(path, mode)

    async def _soon(self, answer: Awaitable[T]) -> T:
        """The server's answer, or TimeoutError when it says nothing for too long."""
        async with asyncio.timeout(self.limit):
            return await answer

    async def leave(self) -> None:
        self.connection.close()
        with suppress(*_FAULTS):
            async with asyncio.timeout(_LEAVING):
                await self.connection.wait_closed()
                return
        self.connection.abort()


def _attempt_of(name: str, attempt: Attempt) -> tuple[int, int] | None:
    """(sending, number) that a hidden folder of this delivery belongs to; None for any other name."""
    told = _HIDDEN.fullmatch(name)
    if told is None or told["delivery"] != str(attempt.delivery):
        return None
    return int(told["sending"]), int(told["number"])
