"""The hub's keys from a program of the operator's: OpenSSL plays the key management service."""

from __future__ import annotations

import base64
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from hub.adapters.keys.command import keys_of
from hub.adapters.keys.file import HubKeys
from hub.adapters.keys.local import LocalKeyring
from hub.assembly.ground import given_keyring
from hub.domain.errors import SettingsError
from hub.settings import Settings

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
    (tmp_path / "passphrase").write_text("another")
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
    assert keys_of(says(look, "$(id) > x")).used == (bytes(32),)


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
        (says("import time; print('x', flush=True); time.sleep(600)"), "did not end within 0.5 seconds"),
        (
            says("import os, time; os.close(1); time.sleep(600)"),
            "did not end within 0.5 seconds",
        ),
        (
            says("import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"),
            "did not end within 0.5 seconds",
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
        keys_of(command, 0.5 if "sleep" in command else 20)
    assert why in str(caught.value)
    told = caught.value
    while told is not None:
        assert SECRET not in f"{told!r} {told.__cause__!r}"
        told = told.__cause__  # type: ignore[assignment]


def test_keys_are_said_in_one_place(tmp_path: Path) -> None:
    coded = SecretStr(base64.b64encode(KEY).decode())
    with pytest.raises(SettingsError, match=r"^only one of HUB_KEY and HUB_KEY_FILE may be set$"):
        given_keyring(Settings(folder=tmp_path, key=coded, key_file=tmp_path / "hub.key"))
    with pytest.raises(SettingsError, match=r"^only one of HUB_KEY and HUB_KEY_COMMAND may be set$"):
        given_keyring(Settings(folder=tmp_path, key=coded, key_command="true"))
    assert os.listdir(tmp_path) == []
