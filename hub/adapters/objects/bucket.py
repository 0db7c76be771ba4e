"""A bucket of a store that speaks S3: how it is reached, how long it is waited for, and how its absence
shows.

Not the business of this file: what lies in the bucket.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from hub.domain.errors import SettingsError, Unavailable

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config, S3Credential, S3CredentialProvider

RETRIES = 4

_ADDRESS = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]+)(/(?P<prefix>[\w.-]+(/[\w.-]+)*))?/?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Bucket:
    """`address`: s3://bucket/prefix. Without keys, what the machine has is used: the usual variables of the
    environment, or its own role. `patience`: seconds a request may take, a part of a large file included;
    one that is answered by an error is tried again meanwhile, one that is not answered is given up."""

    address: str
    endpoint: str | None = None
    region: str = "us-east-1"
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    ca: Path | None = None
    patience: float = 15.0

    def open(self) -> S3Store:
        """Asks nobody anything. Raises SettingsError."""
        found = _ADDRESS.fullmatch(self.address)
        if found is None or {".", ".."} & set(self.address.split("/")):
            raise SettingsError("attachments in a bucket have an address like s3://bucket/prefix")
        try:
            return S3Store(
                found["bucket"],
                prefix=found["prefix"],
                config=self._config(),
                client_options=self._client(),
                retry_config=self._retries(),
                credential_provider=self._keys(),
            )
        except (BaseError, ValueError):
            raise SettingsError("the settings of the attachments' bucket cannot be used") from None

    def _config(self) -> S3Config:
        # What is not said here the environment may say; that bodies are signed is not its choice.
        config: S3Config = {"region": self.region, "unsigned_payload": False}
        if self.endpoint is not None:
            parts = urlsplit(self.endpoint)
            if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
                raise SettingsError("the endpoint of an S3 store looks like https://host:port")
            # Of the two words for it the one that no variable of the environment overrules.
            config["aws_endpoint_url_s3"] = self.endpoint
        return config

    def _keys(self) -> S3CredentialProvider | None:
        if (self.access_key is None) != (self.secret_key is None):
            raise SettingsError("an access key to S3 needs its secret key, and the other way round")
        if self.access_key is None or self.secret_key is None:
            return None
        # Told as a whole: a session's token from the environment would not go with these.
        keys: S3Credential = {
            "access_key_id": self.access_key,
            "secret_access_key": self.secret_key,
            "token": None,
            "expires_at": None,
        }
        return lambda: keys

    def _client(self) -> ClientConfig:
        client: ClientConfig = {
            "connect_timeout": timedelta(seconds=min(self.patience, 5)),
            "timeout": timedelta(seconds=self.patience),
            "allow_http": (self.endpoint or "").startswith("http://"),
        }
        if self.ca is not None:
            try:
                client["root_certificate"] = self.ca.read_bytes()
            except OSError as error:
                raise SettingsError(f"{self.ca} cannot be read: {error.strerror}") from error
        return client

    def _retries(self) -> RetryConfig:
        return {
            "max_retries": RETRIES,
            # Less than a request may take: a store that does not answer is not asked again.
            "retry_timeout": timedelta(seconds=self.patience * 2 / 3),
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=self.patience / 5),
                "base": 2,
            },
        }


@contextmanager
def served() -> Iterator[None]:
    """Around what is asked of the store. Raises Unavailable, in words of ours: the store's own may quote
    what was signed, and by whom."""
    try:
        yield
    except (BaseError, OSError) as error:
        raise Unavailable(f"the attachments' bucket {_why(error)}") from None


def _why(error: Exception) -> str:
    match error:
        case FileNotFoundError():
            return "or what is asked of it is not there"
        case PermissionDeniedError() | UnauthenticatedError():
            return "refuses this hub"
        case _:
            return f"does not serve ({type(error).__name__})"
