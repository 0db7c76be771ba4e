"""A server that speaks S3, for the tests: moto's own, on a port of this machine, with a door in front of it
that can be shut, slow, or lie.

Business of this file: the server, its buckets as whoever runs them sees them, and what can happen to it.
"""

from __future__ import annotations

import os
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from moto.core.utils import utcnow
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from moto.s3.models import FakeBucket, FakeKey, S3Backend, s3_backends
from werkzeug.serving import BaseWSGIServer, make_server

from hub.adapters.objects.bucket import Bucket

# Of all that moto keeps.
ACCOUNT = "123456789012"
ACCESS_KEY = "AKIAESSAIESSAIESSAI0"
SECRET_KEY = "un-secret-que-personne-ne-doit-lire"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. `kind`: its method, then `uploads`, `part`, `complete`, `abort`, `list` or `delete` where
    S3 has a word for it. `signed`: by whom, under which token, and
    the digest of the body."""

    kind: str
    path: str
    range: str
    length: int
    signed: str


@dataclass(frozen=True, slots=True)
class Answer:
    status: str
    body: bytes = b""


# Called in the server's thread, before moto is: None lets the request through.
Conduct = Callable[[Asked], Answer | None]


class Server:
    """`conduct`: what happens to each request from now on. `asked`: every request so far."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.conduct: Conduct = lambda _: None
        self.asked: list[Asked] = []
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._lost: Callable[[Asked], bool] = lambda _: False
        self._port = 0
        self._listening: BaseWSGIServer | None = None
        self.open()

    @property
    def endpoint(self) -> str:
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self._port}"

    @property
    def listens(self) -> bool:
        return self._listening is not None

    def open(self) -> None:
        """On the port it had before."""
        self._listening = make_server(
            "127.0.0.1",
            self._port,
            self._serve,
            threaded=True,
            request_handler=_Quiet,
            ssl_context=self._tls,
        )
        self._port = self._listening.server_port
        threading.Thread(target=self._listening.serve_forever, args=(0.02,), daemon=True).start()

    def shut(self) -> None:
        """Connections are refused; what the buckets hold stays."""
        assert self._listening is not None
        self._listening.shutdown()
        self._listening.server_close()
        self._listening = None

    def well(self) -> None:
        """Serves everything again, and forgets what was asked."""
        self.conduct = lambda _: None
        self._lost = lambda _: False
        self.asked.clear()

    def lose(self, kind: str) -> None:
        """The next request of this kind is carried out, and answered by an error."""
        once = iter([True])
        self._lost = lambda asked: asked.kind == kind and next(once, False)

    def bucket(self) -> Kept:
        """A new one."""
        name = f"essai-{secrets.token_hex(6)}"
        _moto().create_bucket(name, "us-east-1")
        return Kept(self, name)

    def kinds(self) -> list[str]:
        return [asked.kind for asked in self.asked]

    def _serve(self, environment: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        asked = _asked(environment)
        self.asked.append(asked)
        answer = self.conduct(asked)
        if answer is not None:
            environment["wsgi.input"].read(asked.length)
        elif self._lost(asked):
            # The real answer is made, and thrown away.
            list(self._moto(environment, lambda *_: None))
            answer = Answer("500 Internal Server Error")
        else:
            told: Iterable[bytes] = self._moto(environment, start)
            return told
        start(answer.status, [("Content-Length", str(len(answer.body)))])
        return [answer.body]


class Kept:
    """A bucket, as whoever runs the store sees it."""

    def __init__(self, server: Server, name: str) -> None:
        self.server = server
        self.name = name

    def settings(self, prefix: str = "essai/pieces", **more: Any) -> Bucket:
        given: dict[str, Any] = {
            "endpoint": self.server.endpoint,
            "access_key": ACCESS_KEY,
            "secret_key": SECRET_KEY,
        }
        return Bucket(f"s3://{self.name}/{prefix}", **(given | more))

    def all(self) -> dict[str, bytes]:
        """By the last part of its key; what of an upload is here, by its number."""
        whole = {key.rpartition("/")[2]: kept.value for key, kept in list(self._bucket.keys.items())}
        return {**whole, **{number: b"".join(parts) for number, parts in self.unfinished().items()}}

    def unfinished(self) -> dict[str, list[bytes]]:
        """The parts of every upload that is neither completed nor aborted."""
        return {
            number: [part.value for part in list(upload.parts.values())]
            for number, upload in list(self._bucket.multiparts.items())
        }

    def lay(self, key: str, content: bytes) -> None:
        _moto().put_object(self.name, key, content)

    def overwrite(self, name: str, content: bytes) -> None:
        self.lay(self._key(name), content)

    def make_older(self, name: str, age: timedelta) -> None:
        self._bucket.keys[self._key(name)].last_modified = utcnow() - age

    def _key(self, name: str) -> str:
        [key] = [key for key in self._bucket.keys if key.endswith(name)]
        return str(key)

    @property
    def _bucket(self) -> FakeBucket:
        return _moto().buckets[self.name]


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    # Moto copies a whole file for each range of it, which for a large one takes minutes.
    uncopied = property(lambda kept: kept._value_buffer._file.getvalue(), vars(FakeKey)["value"].fset)
    with (
        patch.dict(os.environ, {"MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": str(2**31)}),
        patch.object(FakeKey, "value", uncopied),
    ):
        server = Server(tls)
        try:
            yield server
        finally:
            if server.listens:
                server.shut()


def refuse(status: str, *kinds: str, times: int = 1_000_000, body: bytes = b"") -> Conduct:
    """So many requests of these kinds (of every kind, if none is named) are answered by an error."""
    left = iter(range(times))

    def conduct(asked: Asked) -> Answer | None:
        if kinds and asked.kind not in kinds:
            return None
        return None if next(left, None) is None else Answer(status, body)

    return conduct


def dawdle(seconds: float, *kinds: str) -> Conduct:
    """Requests of these kinds are answered late."""

    def conduct(asked: Asked) -> Answer | None:
        if not kinds or asked.kind in kinds:
            time.sleep(seconds)
        return None

    return conduct


def _moto() -> S3Backend:
    return s3_backends[ACCOUNT]["aws"]


_SIGNED = ("AUTHORIZATION", "X_AMZ_SECURITY_TOKEN", "X_AMZ_CONTENT_SHA256")


class _Quiet(MotoRequestHandler):
    def log(self, *_: Any) -> None:
        return None


def _asked(environment: dict[str, Any]) -> Asked:
    method, query = environment["REQUEST_METHOD"], environment.get("QUERY_STRING", "")
    kind = method
    for word, name in (
        ("uploads", "uploads"),
        ("partNumber=", "part"),
        ("uploadId=", "complete" if method == "POST" else "abort"),
        ("list-type=", "list"),
        ("delete", "delete"),
    ):
        if query.startswith(word):
            kind = name
            break
    return Asked(
        kind,
        environment["PATH_INFO"],
        environment.get("HTTP_RANGE", ""),
        int(environment.get("CONTENT_LENGTH") or 0),
        " ".join(environment.get(f"HTTP_{name}", "") for name in _SIGNED),
    )
