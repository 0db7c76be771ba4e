"""The hub's keys from a program of the operator's: OpenSSL plays the key management service."""

from __future__ import annotations

import asyncio
import base64
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from hub.adapters.keys.command import KeyProgram
from hub.adapters.keys.file import HubKeys
from hub.adapters.keys.local import LocalKeyring
from hub.adapters.postgres.database import Database
from hub.assembly.checking import flaws_in
from hub.assembly.ground import given_keyring
from hub.domain.errors import SettingsError, UnknownKey
from hub.services.rotation import RotationRoom
from hub.settings import Settings
from tests.services.test_key_rotation import LIFETIME, Axe, Killed, World, axed

KEY, OLDER = bytes(range(32)), bytes(32)
SECRET = "Zébulon-7319"


def says(python: str, *arguments: str) -> str:
    return shlex.join([sys.executable, "-c", python, *arguments])


def test_a_key_that_lies_encrypted_is_opened_at_the_start(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here; run: make system")
    (tmp_path / "passphrase").write_text(SECRET)
    (tmp_path / "hub.key").write_text(HubKeys((KEY, OLDER)).written())
    way = ["openssl", "enc", "-aes-256-cbc", "-pbkdf2", "-pass", f"file:{tmp_path}/passphrase"]
    subprocess.run([*way, "-in", tmp_path / "hub.key", "-out", tmp_path / "hub.key.enc"], check=True)
    (tmp_path / "hub.key").unlink()
    command = shlex.join([*way, "-d", "-in", f"{tmp_path}/hub.key.enc"])
    keyring = given_keyring(Settings(folder=tmp_path, key_command=command))
    assert keyring is not None
    assert keyring.ids == LocalKeyring(KEY, OLDER).ids
    # A new key behind the others, as docs/operations.md says it.
    cipher = shlex.join(way)
    script = f"""set -o pipefail; cp -p hub.key.enc hub.key.before
    {cipher} -d -in hub.key.before | {{ cat; openssl rand -base64 32; }} |
        {cipher} -out hub.key.new && mv hub.key.new hub.key.enc"""
    subprocess.run(["bash", "-c", script], cwd=tmp_path, check=True)
    again = given_keyring(Settings(folder=tmp_path, key_command=command))
    assert again is not None
    assert (again.ids[:2], len(again.ids)) == (keyring.ids, 3)
    (tmp_path / "passphrase").write_text("another")
    assert subprocess.run(["bash", "-c", script], cwd=tmp_path, stderr=subprocess.DEVNULL).returncode
    assert (tmp_path / "hub.key.enc").read_bytes() == (tmp_path / "hub.key.before").read_bytes()
    with pytest.raises(SettingsError, match=r"^HUB_KEY_COMMAND: the program ended with status 1$"):
        given_keyring(Settings(folder=tmp_path, key_command=command))


def test_the_program_is_not_told_the_hub_s_settings_and_no_shell_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_DATABASE_URL", SECRET)
    monkeypatch.setenv("KMS_KEY", "here")
    look = (
        "import os, sys, base64;"
        "assert not [one for one in os.environ if one.startswith('HUB_')];"
        "assert os.environ['KMS_KEY'] == 'here' and sys.argv[1] == '$(id) > x';"
        "assert sys.stdin.read() == '';"
        "print(base64.b64encode(bytes(32)).decode())"
    )
    assert KeyProgram(says(look, "$(id) > x")).keys().used == (bytes(32),)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("", "must be a program"),
        ("'", "must be a program"),
        ("/nowhere/at-all", "cannot be started: No such file"),
        (says(f"import sys; print('{SECRET}', file=sys.stderr); sys.exit(3)"), "ended with status 3"),
        (says(f"print('{SECRET}')"), "not base64"),
        (says("pass"), "no key of the hub"),
        (says("print('QUJD')"), "must be 32 bytes"),
        (says(f"while True: print('{SECRET}')"), "more than keys"),
        (says("import time; print('x', flush=True); time.sleep(600)"), "did not end within 0.2 seconds"),
        (
            says("import os, time; os.close(1); time.sleep(600)"),
            "did not end within 0.2 seconds",
        ),
        (
            says("import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"),
            "did not end within 0.2 seconds",
        ),
    ],
    ids=[
        "nothing", "no-words", "not-there", "failing", "no-key", "silent", "short", "endless", "hanging", "closed",
        "its-child",
    ],
)  # fmt: skip
def test_a_program_that_says_no_key_ends_the_start_in_a_sentence_without_its_words(
    command: str, why: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        KeyProgram(command, 0.2 if "sleep" in command else 20).keys()
    assert why in str(caught.value)
    told = caught.value
    while told is not None:
        assert SECRET not in f"{told!r} {told.__cause__!r}"
        told = told.__cause__  # type: ignore[assignment]


def test_a_program_that_is_not_ours_to_end_holds_nobody_and_is_not_asked_beside_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that runs as another user (sudo)."""

    def refused(group: int, sign: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    gate = tmp_path / "gate"
    os.mkfifo(gate)
    program = KeyProgram(shlex.join(["cat", str(gate)]), 0.2)
    with monkeypatch.context() as patched:
        patched.setattr("os.killpg", refused)
        with pytest.raises(SettingsError, match=r"did not end within 0\.2 seconds"):
            program.keys()
        with pytest.raises(SettingsError, match="asked before has not ended yet"):
            program.keys()
    # It ends.
    os.close(os.open(gate, os.O_WRONLY))
    gate.unlink()
    gate.write_text(base64.b64encode(KEY).decode())

    def asked() -> bool:
        with suppress(SettingsError):
            return program.keys().used == (KEY,)
        return False

    until(asked)


def test_keys_are_said_in_one_place(tmp_path: Path) -> None:
    coded = SecretStr(base64.b64encode(KEY).decode())
    with pytest.raises(SettingsError, match=r"^only one of HUB_KEY and HUB_KEY_FILE may be set$"):
        given_keyring(Settings(folder=tmp_path, key=coded, key_file=tmp_path / "hub.key"))
    with pytest.raises(SettingsError, match=r"^only one of HUB_KEY and HUB_KEY_COMMAND may be set$"):
        given_keyring(Settings(folder=tmp_path, key=coded, key_command="true"))
    assert flaws_in(Settings(folder=tmp_path, key=coded, key_command="true")) == [
        "only one of HUB_KEY and HUB_KEY_COMMAND may be set"
    ]
    assert os.listdir(tmp_path) == []


# --- while the hub is at work ---------------------------------------------------------------------------


class Service:
    """As a key management service that says, when it is asked, what a test put there."""

    def __init__(self, *keys: bytes) -> None:
        self.says: HubKeys | SettingsError = HubKeys(keys)
        self.asked = 0
        self.answers = threading.Event()
        self.answers.set()

    def __call__(self) -> HubKeys:
        self.asked += 1
        assert self.answers.wait(60)
        if isinstance(self.says, SettingsError):
            raise self.says
        return self.says


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_ASKING", "_ASKING_AGAIN"):
        monkeypatch.setattr(f"hub.adapters.keys.local.{name}", 0)


def test_a_process_at_work_learns_a_new_key_without_waiting_for_the_program(impatient: None) -> None:
    service = Service(OLDER)
    running, wrapped = LocalKeyring.from_program(service), LocalKeyring(KEY).fresh().wrapped
    service.says = HubKeys((KEY, OLDER))
    service.answers.clear()
    with pytest.raises(UnknownKey):
        running.unwrap(wrapped)
    service.answers.set()
    until(lambda: running.ids == LocalKeyring(KEY, OLDER).ids)
    assert running.unwrap(wrapped)
    assert running.fresh().wrapped[1:9] == LocalKeyring(KEY).ids[0]
    service.says = HubKeys((KEY,))
    until(lambda: running.ids == LocalKeyring(KEY).ids)


def test_a_program_that_fails_later_or_says_another_hub_s_keys_takes_no_key_away(impatient: None) -> None:
    service = Service(KEY, OLDER)
    running = LocalKeyring.from_program(service)
    wrapped = running.fresh().wrapped
    for says, event in (
        (SettingsError("the program ended with status 3"), "keys.not_asked"),
        (HubKeys((bytes(reversed(KEY)),)), "keys.of_another_hub"),
    ):
        service.says = says
        with capture_logs() as lines:
            until(lambda: bool(running.ids) and event in [line["event"] for line in lines])  # noqa: B023
        assert running.unwrap(wrapped)
        assert running.ids == LocalKeyring(KEY, OLDER).ids


def test_the_program_is_not_asked_again_for_each_wrapping_nor_for_each_forged_link(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hub.adapters.keys.local._ASKING_AGAIN", 3600)
    service = Service(KEY)
    running = LocalKeyring.from_program(service)
    for _ in range(50):
        running.fresh()
        running.verify("link", b"file", bytes(32))
        with pytest.raises(UnknownKey):
            running.unwrap(LocalKeyring(OLDER).fresh().wrapped)
    assert service.asked == 1


async def test_killed_at_any_step_where_a_program_says_the_keys_everything_opens(
    fresh_database: Callable[[], str], tmp_path: Path, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = await Database.open(fresh_database())
    world = World(database, tmp_path / "said")

    def keyring() -> LocalKeyring:
        return LocalKeyring.from_program(KeyProgram(shlex.join(["cat", str(world.path)])).keys)

    async def known(*keys: bytes) -> None:
        """By the process at work, for the operator put them there."""
        world.path.write_text(HubKeys(keys).written())
        ids = LocalKeyring(*keys).ids
        async with asyncio.timeout(60):
            while running.ids != ids:
                await asyncio.sleep(0.01)

    async def once(axe: Axe) -> bool:
        room = RotationRoom(keyring(), world.kept, None, shared=False, lifetime=LIFETIME)
        try:
            with axed(axe, monkeypatch):
                await room.rotate(everywhere=False, told=lambda _: None)
                await room.forget(at_once=True)
        except Killed:
            return False
        return True

    old = os.urandom(32)
    world.path.write_text(HubKeys((old,)).written())
    running = keyring()
    await world.plant(running, 2)
    for fall in range(1, 50):
        new = os.urandom(32)
        await known(old, new)
        await world.plant(running, 1)
        await known(new, old)
        ended = await once(Axe(fall))
        await world.opens(keyring())
        await world.opens(running)
        await world.plant(running, 1)
        assert await once(Axe(0))
        await known(new)
        await world.opens(running)
        old = new
        if ended:
            break
    else:
        raise AssertionError("it never came to its end")
    assert fall > 6
    await database.close()
