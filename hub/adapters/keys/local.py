"""The keyring of one hub: a single key, from a file or from the environment.

Business of this room: reading and making that key, deriving from it one key for each use, wrapping the
data keys of submissions, sealing small documents. Not its business: files of any length (`sealing`), and
where wrapped keys are kept.

Every use has a key of its own, derived with HKDF-SHA-256, so that nothing learnt from one use says
anything about another.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import os
import secrets
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hub.domain.errors import MissingKey, SettingsError, Tampered
from hub.ports.keyring import DataKey

KEY = 32
KEY_ID = 8
NONCE = 12
TAG = 16

# The first byte of what is stored says how the rest is to be read.
WRAPPED = b"\x01"
WRAPPED_LENGTH = len(WRAPPED) + KEY_ID + NONCE + KEY + TAG
DOCUMENT = b"\x01"

# Far more than a key takes, far less than a device file that was named by mistake gives.
LONGEST_FILE = 1024


class LocalKeyring:
    """Holds the hub's key in memory; its repr shows the key's id, never a key.

    Wrapping draws its nonces at random: safe for 2^32 data keys under one hub key.
    """

    __slots__ = ("_digests", "_id", "_key", "_signing", "_wrapping")

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY:
            raise SettingsError(f"the hub's key must be {KEY} bytes")
        self._key = key
        self._id = _derived(key, b"key id", KEY_ID)
        self._wrapping = AESGCM(_derived(key, b"wrapping"))
        self._digests = _derived(key, b"digests")
        self._signing: dict[str, bytes] = {}

    @classmethod
    def from_base64(cls, text: str) -> LocalKeyring:
        """The key as 32 bytes in base64. Raises SettingsError, which does not quote it."""
        try:
            key = base64.b64decode(text.strip(), validate=True)
        except ValueError:
            # Not chained: what could not be decoded is a secret with a typing error in it.
            raise SettingsError("the hub's key is not base64") from None
        return cls(key)

    @classmethod
    def from_file(cls, path: Path, create: bool) -> LocalKeyring:
        """The key in a file that only its owner may touch, made with a fresh key if it is missing and
        `create` is set. Of several hubs that start at once, all get the same key. Raises SettingsError."""
        try:
            if create and not path.exists():
                _make(path)
            text = _read(path)
        except OSError as error:
            raise SettingsError(f"the key file {path}: {error.strerror}") from error
        try:
            return cls.from_base64(text)
        except SettingsError as error:
            raise SettingsError(f"the key file {path}: {error}") from None

    def fresh(self) -> DataKey:
        plain = os.urandom(KEY)
        nonce = os.urandom(NONCE)
        # The hub key's id travels with the wrapping: a rotation finds by it what is still to be wrapped anew.
        named = WRAPPED + self._id
        return DataKey(plain, named + nonce + self._wrapping.encrypt(nonce, plain, named))

    def unwrap(self, wrapped: bytes) -> DataKey:
        if len(wrapped) != WRAPPED_LENGTH or not wrapped.startswith(WRAPPED):
            raise Tampered
        named, rest = wrapped[: len(WRAPPED) + KEY_ID], wrapped[len(WRAPPED) + KEY_ID :]
        if named[len(WRAPPED) :] != self._id:
            raise MissingKey
        try:
            return DataKey(self._wrapping.decrypt(rest[:NONCE], rest[NONCE:], named), wrapped)
        except InvalidTag:
            raise Tampered from None

    def seal(self, key: DataKey, plain: bytes, context: bytes) -> bytes:
        nonce = os.urandom(NONCE)
        return DOCUMENT + nonce + _documents(key).encrypt(nonce, plain, DOCUMENT + context)

    def open(self, key: DataKey, sealed: bytes, context: bytes) -> bytes:
        body = sealed[len(DOCUMENT) :]
        if len(body) < NONCE + TAG or not sealed.startswith(DOCUMENT):
            raise Tampered
        try:
            return _documents(key).decrypt(body[:NONCE], body[NONCE:], DOCUMENT + context)
        except InvalidTag:
            raise Tampered from None

    def digest(self, content: bytes) -> bytes:
        return hmac.digest(self._digests, content, "sha256")

    def sign(self, purpose: str, content: bytes) -> bytes:
        key = self._signing.get(purpose)
        if key is None:
            key = self._signing.setdefault(purpose, _derived(self._key, b"signature " + purpose.encode()))
        return hmac.digest(key, content, "sha256")

    def __repr__(self) -> str:
        return f"LocalKeyring({self._id.hex()})"


def _documents(key: DataKey) -> AESGCM:
    # Not the data key itself: attachments are sealed under keys derived from it too.
    return AESGCM(_derived(key.plain, b"document"))


def _derived(key: bytes, use: bytes, length: int = KEY) -> bytes:
    # No salt: the input is uniformly random already (RFC 5869, 3.1).
    return HKDF(SHA256(), length, salt=None, info=b"aiguillage/1/" + use).derive(key)


def _read(path: Path) -> str:
    # Asked of the opened file: between a look at the name and its opening, the name may change hands.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise SettingsError(f"the key file {path} is not a file")
        if found.st_mode & 0o077:
            raise SettingsError(
                f"the key file {path} is open to others than its owner "
                f"(mode {stat.S_IMODE(found.st_mode):04o}): chmod 600 it, and consider the key known"
            )
        return os.read(descriptor, LONGEST_FILE).decode("ascii", errors="replace")
    finally:
        os.close(descriptor)


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        try:
            os.write(descriptor, base64.b64encode(os.urandom(KEY)) + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        # A link, not a rename: it never overwrites, so the first of several hubs decides for all.
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink()
    # Content will be sealed under this key at once: a power cut must not take the key and leave the content.
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
