"""nginx with TLS and certificates of clients. It takes what is posted and writes down what it saw, in lines of its
access log."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hub.domain.partner import Endpoint
from hub.ports.connector import AddressInfo
from tests.certificates import Authority, authority
from tests.connectors.partners import SECRET
from tests.ports import free_ports

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
NAME = "town.test"

ABSENT = "no nginx here; run: make system"


@dataclass(frozen=True)
class Nginx:
    """`mutual` is the port where a client must show a certificate of `clients`."""

    folder: Path
    port: int
    mutual: int
    expired: int
    servers: Authority
    clients: Authority

    def at(self, port: int, path: str = "/hooks", **settings: object) -> Endpoint:
        url = f"https://{NAME}:{port}{path}"
        ca = self.servers.file.read_text()
        return Endpoint("webhook", {"url": url, "ca": ca, **settings}, {"secret": SECRET})

    def showing(self, files: tuple[Path, Path]) -> Endpoint:
        certificate, key = (file.read_text() for file in files)
        endpoint = self.at(self.mutual, client_certificate=certificate)
        return replace(endpoint, secrets={"secret": SECRET, "client_key": key})

    async def seen(self, delivery: object, count: int = 1) -> list[dict[str, Any]]:
        """Its lines about a delivery, once there are so many."""
        for _ in range(500):
            lines = (self.folder / "seen.log").read_text().splitlines()
            found = [line for line in map(json.loads, lines) if line["webhook-id"] == str(delivery)]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.02)
        raise AssertionError("nginx saw less")

    async def count(self, client: str, least: int = 0) -> int:
        """How many requests came with this certificate, once there are at least so many."""
        for _ in range(1_500):
            lines = (self.folder / "seen.log").read_text().splitlines()
            found = sum(bool(json.loads(line)["client"] == client) for line in lines)
            if found >= least:
                return found
            await asyncio.sleep(0.02)
        raise AssertionError("nginx saw less")


@contextmanager
def running_nginx(folder: Path) -> Iterator[Nginx]:
    servers, clients = authority(folder / "servers"), authority(folder / "clients")
    port, mutual, expired, inner = free_ports(4)
    found = Nginx(folder, port, mutual, expired, servers, clients)
    (folder / "nginx.conf").write_text(_configuration(found, inner))
    (folder / "seen.log").touch()
    assert NGINX is not None
    arguments = [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    server = subprocess.Popen([*arguments, "-g", "daemon off;"])
    try:
        _wait(mutual)
        yield found
    finally:
        server.terminate()
        server.wait(20)


def _wait(port: int) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        with socket.socket() as trying:
            if trying.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError("nginx did not start")


def _configuration(nginx: Nginx, inner: int) -> str:
    good = nginx.servers.sign("good", NAME)
    old = nginx.servers.sign("old", NAME, expired=True)
    user = "user root;" if os.geteuid() == 0 else ""
    temporary = "\n".join(
        f"{kind}_temp_path {nginx.folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    places = f"""
        location /hooks {{ proxy_pass http://127.0.0.1:{inner}; }}
        location /busy {{ add_header Retry-After 120 always; return 503 "these words must go nowhere"; }}
        location /moved {{ return 301 /hooks; }}
        location /small {{ client_max_body_size 100; proxy_pass http://127.0.0.1:{inner}; }}
    """

    def server(port: int, files: tuple[Path, Path], more: str = "") -> str:
        return f"""server {{
            listen 127.0.0.1:{port} ssl;
            ssl_certificate {files[0]};
            ssl_certificate_key {files[1]};
            {more}
            {places}
        }}"""

    return f"""
    {user}
    worker_processes 1;
    pid {nginx.folder}/pid;
    events {{ worker_connections 256; }}
    http {{
        {temporary}
        client_body_buffer_size 4m;
        client_max_body_size 8m;
        log_format seen escape=json '{{"webhook-id":"$http_webhook_id","webhook-timestamp":"$http_webhook_timestamp",'
            '"webhook-signature":"$http_webhook_signature","client":"$ssl_client_s_dn","connection":"$connection",'
            '"authorization":"$http_authorization","tls":"$ssl_protocol","body":"$request_body"}}';
        access_log {nginx.folder}/seen.log seen;
        {server(nginx.port, good)}
        {server(nginx.expired, old)}
        {server(nginx.mutual, good, f"ssl_client_certificate {nginx.clients.file}; ssl_verify_client on;")}
        server {{ listen 127.0.0.1:{inner}; access_log off; location / {{ return 204; }} }}
    }}
    """


async def look_up(host: str) -> list[AddressInfo]:
    assert host == NAME
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]
