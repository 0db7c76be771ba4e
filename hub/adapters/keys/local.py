"""The keyring of one hub: its keys, from a file, from a program, or from the environment.

Business of this room: deriving from the hub's key one key for each use, wrapping the data keys of submissions, sealing
small documents. Not its business: where keys lie (`file`), files of any length (`sealing`), and where wrapped keys are
kept.

Every use has a key of its own, derived with HKDF-SHA-256, so that nothing learnt from one use says
anything about another.
"""

from __future__ import annotations

import hmac
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hub.adapters.keys.file import KEY, HubKeys, KeyFile, Look, read_keys
from hub.domain.errors import SettingsError, Tampered, UnknownKey
from hub.ports.keyring import DataKey

log = structlog.get_logger()

KEY_ID = 8
NONCE = 12
TAG = 16

# The first byte of what is stored says how the rest is to be read.
WRAPPED = b"\x01"
WRAPPED_LENGTH = len(WRAPPED) + KEY_ID + NONCE + KEY + TAG
DOCUMENT = b"\x01"

_LOOKING = 1.0
"""Seconds between two looks at the key file: so long a process may go on wrapping under the key of before."""
_ASKING = 60.0
"""The same for a program, which may ask a service that counts its calls."""
_ASKING_AGAIN = 10.0
"""Seconds before it is asked again because of a key that is not known."""


class LocalKeyring:
    """Holds the hub's keys in memory; its repr shows the newest one's id, never a key. One that was read from a file
    looks at it again: when something is wrapped under a key that it does not know, and every second. One whose keys a
    program says asks it again, beside its work: what it did not know, it knows a moment later.

    Wrapping draws its nonces at random: safe for 2^32 data keys under one hub key.
    """

    __slots__ = ("_ask", "_asking", "_file", "_keys", "_look", "_looked", "_newest", "_root")

    def __init__(self, key: bytes, *older: bytes) -> None:
        if any(len(one) != KEY for one in (key, *older)):
            raise SettingsError(f"the hub's key must be {KEY} bytes")
        self._ask: Callable[[], HubKeys] | None = None
        self._asking = threading.Lock()
        self._file: KeyFile | None = None
        self._look: Look | None = None
        self._looked = 0.0
        self._take(HubKeys((key, *older)))
        # Of a hub that never rotated its key, this is what digests were made under since its beginning.
        self._root = _derived((key, *older)[-1], b"digests")

    @classmethod
    def from_base64(cls, text: str) -> LocalKeyring:
        """The keys as 32 bytes in base64 each, the newest first. Raises SettingsError, which does not quote them."""
        return cls.of(read_keys(text))

    @classmethod
    def of(cls, keys: HubKeys) -> LocalKeyring:
        keyring = cls(*keys.used)
        keyring._take(keys)
        return keyring

    @classmethod
    def from_file(cls, path: Path, create: bool) -> LocalKeyring:
        """The keys in a file that only its owner may touch, made with a fresh key if it is missing and
        `create` is set. Of several hubs that start at once, all get the same key. Raises SettingsError."""
        file = KeyFile(path)
        if create:
            file.make()
        look = file.look()
        keyring = cls.of(file.read())
        keyring._file, keyring._look, keyring._looked = file, look, time.monotonic()
        return keyring

    @classmethod
    def from_program(cls, ask: Callable[[], HubKeys]) -> LocalKeyring:
        """`ask` says the keys, in its time; it raises SettingsError, and so does this."""
        keyring = cls.of(ask())
        keyring._ask, keyring._looked = ask, time.monotonic()
        return keyring

    @property
    def ids(self) -> Sequence[bytes]:
        self._watch(0)
        return tuple(self._keys)

    def fresh(self) -> DataKey:
        self._watch(_LOOKING)
        return self._newest.wrap(os.urandom(KEY))

    def unwrap(self, wrapped: bytes) -> DataKey:
        return DataKey(self._opener(wrapped).unwrap(wrapped), wrapped)

    def rewrap(self, wrapped: bytes) -> bytes:
        plain = self.unwrap(wrapped).plain
        return self._newest.wrap(plain).wrapped

    def _opener(self, wrapped: bytes) -> _HubKey:
        if len(wrapped) != WRAPPED_LENGTH or not wrapped.startswith(WRAPPED):
            raise Tampered
        named = wrapped[len(WRAPPED) : len(WRAPPED) + KEY_ID]
        if named not in self._keys:
            self._watch(0)
        try:
            return self._keys[named]
        except KeyError:
            raise UnknownKey from None

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
        return hmac.digest(self._root, content, "sha256")

    def root(self) -> bytes:
        return self._newest.wrap(self._root).wrapped

    def take_root(self, wrapped: bytes) -> None:
        self._root = self.unwrap(wrapped).plain

    def sign(self, purpose: str, content: bytes) -> bytes:
        self._watch(_LOOKING)
        return self._newest.sign(purpose, content)

    def verify(self, purpose: str, content: bytes, signature: bytes) -> bool:
        self._watch(_LOOKING)
        return self._verify(purpose, content, signature) or (
            # Another process may have signed it under a key that came a moment ago.
            self._watch(0) and self._verify(purpose, content, signature)
        )

    def _verify(self, purpose: str, content: bytes, signature: bytes) -> bool:
        # All of them, whichever it was: how long it takes says nothing.
        found = [hmac.compare_digest(signature, key.sign(purpose, content)) for key in self._keys.values()]
        return any(found)

    def _watch(self, after: float) -> bool:
        """Look at the file again, unless that was less than so many seconds ago: whether keys changed. One that
        cannot be read changes nothing: what is known stays known."""
        now = time.monotonic()
        if self._ask is not None:
            if now - self._looked >= (_ASKING if after else _ASKING_AGAIN) and self._asking.acquire(False):
                self._looked = now
                threading.Thread(target=self._asked, args=(self._ask,), name="keys", daemon=True).start()
            return False
        if self._file is None or now - self._looked < after:
            return False
        self._looked = now
        look = self._file.look()
        if look is None or look == self._look:
            return False
        try:
            self._take(self._file.read())
        except SettingsError:
            return False
        self._look = look
        return True

    def _asked(self, ask: Callable[[], HubKeys]) -> None:
        try:
            keys = ask()
            # Of the keys of any rotation, one is known before and after it: all new ones are another hub's.
            if not {_HubKey(key).id for key in keys.known}.isdisjoint(self._keys):
                self._take(keys)
            else:
                log.error("keys.of_another_hub")
        except SettingsError as error:
            # Its sentence quotes nothing. What is known stays known.
            log.warning("keys.not_asked", reason=str(error))
        finally:
            self._asking.release()

    def _take(self, keys: HubKeys) -> None:
        known = {one.id: one for one in map(_HubKey, keys.known)}
        # In this order: whoever wraps meanwhile, in another thread, wraps under a key that is known.
        self._keys, self._newest = known, next(iter(known.values()))

    def __repr__(self) -> str:
        return f"LocalKeyring({self._newest.id.hex()})"


class _HubKey:
    """One key of the hub, and what is derived from it."""

    __slots__ = ("_key", "_signing", "_wrapping", "id")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.id = _derived(key, b"key id", KEY_ID)
        self._wrapping = AESGCM(_derived(key, b"wrapping"))
        self._signing: dict[str, bytes] = {}

    def wrap(self, plain: bytes) -> DataKey:
        nonce = os.urandom(NONCE)
        # The hub key's id travels with the wrapping: a rotation finds by it what is still to be wrapped anew.
        named = WRAPPED + self.id
        return DataKey(plain, named + nonce + self._wrapping.encrypt(nonce, plain, named))

    def unwrap(self, wrapped: bytes) -> bytes:
        named, rest = wrapped[: len(WRAPPED) + KEY_ID], wrapped[len(WRAPPED) + KEY_ID :]
        try:
            return self._wrapping.decrypt(rest[:NONCE], rest[NONCE:], named)
        except InvalidTag:
            raise Tampered from None

    def sign(self, purpose: str, content: bytes) -> bytes:
        key = self._signing.get(purpose)
        if key is None:
            key = self._signing.setdefault(purpose, _derived(self._key, b"signature " + purpose.encode()))
        return hmac.digest(key, content, "sha256")


def _documents(key: DataKey) -> AESGCM:
    # Not the data key itself: attachments are sealed under keys derived from it too.
    return AESGCM(_derived(key.plain, b"document"))


def _derived(key: bytes, use: bytes, length: int = KEY) -> bytes:
    # No salt: the input is uniformly random already (RFC 5869, 3.1).
    return HKDF(SHA256(), length, salt=None, info=b"aiguillage/1/" + use).derive(key)
