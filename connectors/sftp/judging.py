"""What a fault of the network, of SSH or of an SFTP server means. Pure."""

from __future__ import annotations

import socket
from dataclasses import replace

import asyncssh
from asyncssh.packet import PacketDecodeError

from connectors.parcels import exhausted
from connectors.sftp.trust import Distrusted, LoginDenied
from hub.domain.delivery import About, Deferred, Refused
from hub.ports.connector import ForbiddenAddress

FAULTS = (asyncssh.Error, PacketDecodeError, OSError)
"""What servers do; the second is what the library says of a packet that is none."""

ABSENT = (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath)


class SizeDiffers(asyncssh.SFTPFailure):
    """The server took all bytes of a file, and has another number of them."""

    def __init__(self) -> None:
        super().__init__("another size")


class AtTheJump(OSError):
    """The fault lies with the server that is jumped through."""

    def __init__(self, fault: Exception) -> None:
        super().__init__("at the jump")
        self.fault = fault


class ForwardingDenied(OSError):
    """It lets us in, and not through."""


class NotReached(OSError):
    """It could not reach what stands behind it."""


def judge(fault: Exception) -> Deferred | Refused:
    """Its text is never looked at."""
    match fault:
        case TimeoutError():
            return Deferred("sftp.timeout")
        case ForbiddenAddress():
            return Refused("sftp.address_forbidden", About.ENDPOINT)
        case AtTheJump():
            outcome = judge(fault.fault)
            return replace(outcome, cause=outcome.cause.replace("sftp.", "sftp.jump_", 1))
        case ForwardingDenied():
            return Refused("sftp.jump_forwarding_denied", About.ENDPOINT)
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
        case Distrusted() | LoginDenied():
            return Refused(f"sftp.{fault.flaw}", About.ENDPOINT)
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
        case SizeDiffers():
            return Deferred("sftp.size_differs", About.PARCEL)
        case _:
            # Version 3 servers say this for nearly everything, a name they do not like included.
            return Deferred("sftp.failure", About.PARCEL)


def is_answer(fault: Exception) -> bool:
    """Whether the server said no to a request, and the connection is as good as before."""
    return isinstance(fault, asyncssh.SFTPError) and judge(fault).cause != "sftp.disconnected"
