"""The keyring of one hub: what it seals opens only here, and its key is read from safe places only."""

from __future__ import annotations

import base64
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.adapters.keys.file import KeyFile
from hub.adapters.keys.local import LocalKeyring
from hub.domain.errors import SettingsError, Tampered, UnknownKey
from hub.ports.keyring import DataKey, Keyring

HUB_KEY = bytes(range(32))
OTHER_KEY = bytes(range(1, 33))
CODED = base64.b64encode(HUB_KEY).decode()
KEYRING: Keyring = LocalKeyring(HUB_KEY)
DATA_KEY = KEYRING.fresh()


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


# --- data keys ----------------------------------------------------------------------------------------


def test_a_data_key_is_unwrapped_by_any_keyring_of_the_same_hub_key() -> None:
    fresh = KEYRING.fresh()
    assert LocalKeyring(HUB_KEY).unwrap(fresh.wrapped) == fresh
    assert len(fresh.plain) == 32


def test_no_two_data_keys_are_alike() -> None:
    keys = [KEYRING.fresh() for _ in range(200)]
    assert len({key.plain for key in keys}) == len({key.wrapped for key in keys}) == 200


def test_a_wrapping_does_not_contain_the_key() -> None:
    assert DATA_KEY.plain not in DATA_KEY.wrapped
    assert HUB_KEY not in DATA_KEY.wrapped


def test_a_data_key_of_another_hub_is_under_an_unknown_key() -> None:
    with pytest.raises(UnknownKey):
        LocalKeyring(os.urandom(32)).unwrap(DATA_KEY.wrapped)


def test_the_wrappings_of_one_hub_key_carry_the_same_id_and_those_of_two_do_not() -> None:
    other = LocalKeyring(os.urandom(32))
    assert KEYRING.fresh().wrapped[:9] == KEYRING.fresh().wrapped[:9]
    assert KEYRING.fresh().wrapped[1:9] != other.fresh().wrapped[1:9]


@given(bit=st.integers(0, len(DATA_KEY.wrapped) * 8 - 1))
def test_a_wrapping_in_which_one_bit_changed_does_not_open(bit: int) -> None:
    # A change of the key id cannot be told from the wrapping of another hub.
    expected = UnknownKey if 8 <= bit < 72 else Tampered
    with pytest.raises(expected):
        KEYRING.unwrap(flipped(DATA_KEY.wrapped, bit))


@pytest.mark.parametrize(
    "wrapped",
    [b"", b"\x01", DATA_KEY.wrapped[:-1], DATA_KEY.wrapped[:9], DATA_KEY.wrapped + b"\x00"],
    ids=["nothing", "one byte", "one less", "the head", "one more"],
)
def test_a_wrapping_that_was_cut_or_lengthened_does_not_open(wrapped: bytes) -> None:
    with pytest.raises(Tampered):
        KEYRING.unwrap(wrapped)


# --- documents ----------------------------------------------------------------------------------------


@given(plain=st.binary(max_size=5000), context=st.binary(max_size=40))
def test_a_document_opens_as_it_was(plain: bytes, context: bytes) -> None:
    assert KEYRING.open(DATA_KEY, KEYRING.seal(DATA_KEY, plain, context), context) == plain


def test_the_same_document_is_never_sealed_alike() -> None:
    assert KEYRING.seal(DATA_KEY, b"same", b"") != KEYRING.seal(DATA_KEY, b"same", b"")


@given(plain=st.binary(max_size=100), chosen=st.data())
def test_a_document_in_which_one_bit_changed_does_not_open(plain: bytes, chosen: st.DataObject) -> None:
    sealed = KEYRING.seal(DATA_KEY, plain, b"context")
    bit = chosen.draw(st.integers(0, len(sealed) * 8 - 1))
    with pytest.raises(Tampered):
        KEYRING.open(DATA_KEY, flipped(sealed, bit), b"context")


@given(plain=st.binary(max_size=100), chosen=st.data())
def test_a_document_that_was_cut_or_lengthened_does_not_open(plain: bytes, chosen: st.DataObject) -> None:
    sealed = KEYRING.seal(DATA_KEY, plain, b"")
    kept = chosen.draw(st.integers(0, len(sealed) - 1))
    for changed in (sealed[:kept], sealed + b"\x00", b"\x00" + sealed):
        with pytest.raises(Tampered):
            KEYRING.open(DATA_KEY, changed, b"")


def test_a_document_does_not_open_in_another_context_or_under_another_key() -> None:
    sealed = KEYRING.seal(DATA_KEY, b"content", b"submission 1")
    with pytest.raises(Tampered):
        KEYRING.open(DATA_KEY, sealed, b"submission 2")
    with pytest.raises(Tampered):
        KEYRING.open(KEYRING.fresh(), sealed, b"submission 1")


def test_a_document_may_be_sealed_in_many_threads_at_once() -> None:
    def there_and_back(number: int) -> bool:
        plain = str(number).encode() * 500
        fresh = KEYRING.unwrap(KEYRING.fresh().wrapped)
        return KEYRING.open(fresh, KEYRING.seal(fresh, plain, b""), b"") == plain

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(there_and_back, range(400)))


# --- digests and signatures ---------------------------------------------------------------------------


def test_equal_content_has_equal_digests_in_every_process_of_one_hub_only() -> None:
    assert KEYRING.digest(b"content") == LocalKeyring(HUB_KEY).digest(b"content")
    assert KEYRING.digest(b"content") != KEYRING.digest(b"contents")
    assert KEYRING.digest(b"content") != LocalKeyring(os.urandom(32)).digest(b"content")
    assert len(KEYRING.digest(b"")) == 32


def test_a_signature_is_good_for_its_purpose_only() -> None:
    signature = KEYRING.sign("link", b"content")
    assert signature == LocalKeyring(HUB_KEY).sign("link", b"content")
    assert len(signature) == 32
    others = {
        KEYRING.sign("other", b"content"),
        KEYRING.sign("", b"linkcontent"),
        KEYRING.sign("link", b"contents"),
        KEYRING.digest(b"content"),
        LocalKeyring(os.urandom(32)).sign("link", b"content"),
    }
    assert len(others) == 5
    assert signature not in others


# --- the hub's key ------------------------------------------------------------------------------------


@given(key=st.binary(min_size=32, max_size=32))
def test_no_repr_shows_a_key(key: bytes) -> None:
    keyring = LocalKeyring(key)
    fresh = keyring.fresh()
    for shown in (repr(keyring), str(keyring), f"{keyring!r:>5}", repr(fresh)):
        for secret in (key, fresh.plain, fresh.wrapped):
            assert secret.hex() not in shown
            assert repr(secret) not in shown
            assert base64.b64encode(secret).decode() not in shown


def test_the_key_may_be_given_as_base64() -> None:
    text = base64.b64encode(HUB_KEY).decode()
    assert LocalKeyring.from_base64(f" {text}\n").unwrap(DATA_KEY.wrapped) == DATA_KEY


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mot de passe",
        "é" * 44,
        base64.b64encode(bytes(31)).decode(),
        base64.b64encode(bytes(33)).decode(),
    ],
)
def test_what_is_not_32_bytes_in_base64_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        LocalKeyring.from_base64(text)
    assert not text or text not in str(caught.value)
    # A log that prints the chain of causes must not quote it either.
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_key_file_is_made_once_for_its_owner_alone_and_read_ever_after(tmp_path: Path) -> None:
    path = tmp_path / "data" / "hub.key"
    before = os.umask(0)
    try:
        first = LocalKeyring.from_file(path, create=True)
    finally:
        os.umask(before)
    written = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(base64.b64decode(written)) == 32
    fresh = first.fresh()
    assert LocalKeyring.from_file(path, create=True).unwrap(fresh.wrapped) == fresh
    assert LocalKeyring.from_file(path, create=False).unwrap(fresh.wrapped) == fresh
    assert path.read_bytes() == written
    assert [entry.name for entry in path.parent.iterdir()] == ["hub.key"]


def test_hubs_that_start_at_once_get_the_same_key(tmp_path: Path) -> None:
    path = tmp_path / "hub.key"
    with ThreadPoolExecutor(16) as threads:
        keyrings = list(threads.map(lambda _: LocalKeyring.from_file(path, create=True), range(64)))
    assert len({keyring.digest(b"content") for keyring in keyrings}) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["hub.key"]


def test_a_missing_key_file_is_named_and_not_made_unless_asked(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"hub\.key"):
        LocalKeyring.from_file(tmp_path / "hub.key", create=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o610])
def test_a_key_file_that_is_open_to_others_is_refused_and_named(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "hub.key"
    LocalKeyring.from_file(path, create=True)
    path.chmod(mode)
    for create in (True, False):
        with pytest.raises(SettingsError, match=r"hub\.key.*chmod"):
            LocalKeyring.from_file(path, create=create)


@pytest.mark.parametrize("content", [b"", b"not a key", bytes(32), b"\xff" * 5000])
def test_a_file_that_holds_no_key_is_named_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "hub.key"
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"hub\.key"):
        LocalKeyring.from_file(path, create=True)
    assert path.read_bytes() == content


def test_a_folder_or_a_pipe_in_place_of_the_key_file_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("folder", "pipe"):
        with pytest.raises(SettingsError, match=name):
            LocalKeyring.from_file(tmp_path / name, create=True)


def test_a_data_key_shows_neither_of_its_forms() -> None:
    assert repr(DataKey(b"secret", b"wrapped")) == "DataKey()"


# --- several keys -------------------------------------------------------------------------------------


def test_the_newest_key_wraps_and_signs_and_every_key_opens_and_verifies() -> None:
    old, both = LocalKeyring(HUB_KEY), LocalKeyring(OTHER_KEY, HUB_KEY)
    assert both.unwrap(DATA_KEY.wrapped) == DATA_KEY
    assert both.ids == (*LocalKeyring(OTHER_KEY).ids, *old.ids)
    anew = both.rewrap(DATA_KEY.wrapped)
    assert LocalKeyring(OTHER_KEY).unwrap(anew).plain == DATA_KEY.plain
    with pytest.raises(UnknownKey):
        old.unwrap(both.fresh().wrapped)
    assert both.sign("link", b"x") == LocalKeyring(OTHER_KEY).sign("link", b"x")
    assert both.verify("link", b"x", old.sign("link", b"x"))
    assert not both.verify("other", b"x", old.sign("link", b"x"))
    assert not both.verify("link", b"x", b"")


def test_digests_are_those_of_the_oldest_key_until_a_root_is_given_and_those_of_that_root_after() -> None:
    both = LocalKeyring(OTHER_KEY, HUB_KEY)
    assert both.digest(b"content") == KEYRING.digest(b"content")
    alone = LocalKeyring(OTHER_KEY)
    alone.take_root(both.root())
    assert alone.digest(b"content") == KEYRING.digest(b"content")


def test_a_key_that_is_announced_opens_and_is_not_used(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "hub.key")
    running = LocalKeyring.from_file(file.path, create=True)
    (old,) = running.ids
    file.announce()
    written = file.path.read_text()
    file.announce()
    assert file.path.read_text() == written
    assert (running.ids[0], running.fresh().wrapped[1:9]) == (old, old)
    given = LocalKeyring.from_base64(written)
    file.promote()
    (new, older) = running.ids
    assert (older, given.ids) == (old, (old, new))
    assert given.unwrap(running.fresh().wrapped)
    file.forget()
    assert running.ids == (new,)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_keys_left_in_a_file_that_was_never_named_are_removed_by_the_next_change(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "hub.key")
    file.make()
    (tmp_path / (".hub.key." + "0a" * 8)).write_text("keys")
    (tmp_path / ".hub.key.of-somebody-else").write_text("")
    file.announce()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hub.key.of-somebody-else", "hub.key"]


def test_a_link_to_a_key_file_stays_a_link(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "kept" / "hub.key")
    file.make()
    (tmp_path / "hub.key").symlink_to(file.path)
    KeyFile(tmp_path / "hub.key").announce()
    assert (tmp_path / "hub.key").is_symlink()
    assert file.announced
    assert [path.name for path in file.path.parent.iterdir()] == ["hub.key"]


def test_a_key_file_that_can_no_longer_be_read_takes_no_key_away(tmp_path: Path) -> None:
    path = tmp_path / "hub.key"
    running = LocalKeyring.from_file(path, create=True)
    wrapped = running.fresh().wrapped
    path.write_text("half a ke")
    assert running.ids
    assert running.unwrap(wrapped)
    path.unlink()
    assert running.unwrap(wrapped)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "next",
        f"next {CODED}",
        f"{CODED} next",
        f"{CODED} {CODED}",
        f"{CODED} next x",
        f"{CODED} {CODED[:-8]}",
    ],
    ids=["nothing", "next alone", "only a next", "no next", "twice", "no base64", "short"],
)
def test_a_text_of_keys_that_cannot_be_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        LocalKeyring.from_base64(text)
    assert CODED[:6] not in str(caught.value)


def test_keys_in_a_setting_are_parted_by_blanks_or_commas() -> None:
    other = base64.b64encode(OTHER_KEY).decode()
    for between in (" ", ",", "\n", ", "):
        assert (
            LocalKeyring.from_base64(f"{other}{between}{CODED}").ids == LocalKeyring(OTHER_KEY, HUB_KEY).ids
        )
