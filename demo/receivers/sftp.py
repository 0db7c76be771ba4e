"""An SFTP server of many made-up partners: the user name is the partner, its folder is all it sees.

`--authorized-keys FILE`: the public keys that may log in, as any user. The ready line adds `host_key`, the
server's public key. What is uploaded lies under `DIR/<partner>/`; a parcel has arrived when its hidden
folder is renamed to a visible name.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
from pathlib import Path

import asyncssh

from demo.receivers.stage import Arrivals, Stage, is_partner, parser, read_object

_HIDDEN = re.compile(r"\.(?P<delivery>[0-9a-f-]{36})\..*\.part")


class Inbox(asyncssh.SFTPServer):
    def __init__(self, channel: asyncssh.SSHServerChannel[bytes], root: Path, arrivals: Arrivals) -> None:
        self._partner = str(channel.get_extra_info("username"))
        if not is_partner(self._partner):
            raise asyncssh.SFTPPermissionDenied("no such partner")
        self._arrivals = arrivals
        self._folder = root / self._partner
        self._folder.mkdir(parents=True, exist_ok=True)
        super().__init__(channel, chroot=str(self._folder).encode())

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        super().rename(oldpath, newpath)
        hidden = _HIDDEN.fullmatch(Path(oldpath.decode()).name)
        appeared = Path(self.map_path(newpath).decode())
        if hidden is not None and not appeared.name.startswith("."):
            files = [_fingerprint(file) for file in sorted(appeared.iterdir())]
            place = str(appeared.relative_to(self._folder.parent.resolve()))
            self._arrivals.note(self._partner, hidden["delivery"], place, files)


def _fingerprint(file: Path) -> dict[str, object]:
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return {"name": file.name, "size": file.stat().st_size, "sha256": digest}


async def main() -> None:
    arguments = parser("An SFTP server of made-up partners")
    arguments.add_argument("--authorized-keys", type=Path, required=True)
    chosen = arguments.parse_args()
    root = chosen.folder.resolve()
    arrivals = Arrivals(root)
    host_key = asyncssh.generate_private_key("ssh-ed25519")

    def inbox(channel: asyncssh.SSHServerChannel[bytes]) -> asyncssh.SFTPServer:
        return Inbox(channel, root, arrivals)

    async def serve(door: socket.socket) -> None:
        await asyncssh.listen(
            sock=door,
            server_host_keys=[host_key],
            authorized_client_keys=str(chosen.authorized_keys),
            sftp_factory=inbox,
            password_auth=False,
            kbdint_auth=False,
            config=None,
        )

    told = {"host_key": host_key.export_public_key().decode().strip()}
    await Stage(read_object(chosen.misbehaving)).run(serve, arrivals, told)


if __name__ == "__main__":
    asyncio.run(main())
