"""Settings of another hub, read from a file: what it says and nothing else, or a sentence for each fault in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from hub.cli.shared import written_settings

SECRET = "un-mot-de-passe"


def test_the_file_says_it_and_the_environment_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_KAFKA", "here:9092")
    monkeypatch.setenv("HUB_PORT", "9999")
    file = tmp_path / "there.env"
    file.write_text(
        "# the cluster\nAWS_REGION=ailleurs\n"
        f"HUB_DATABASE_URL=postgresql://hub:{SECRET}@db/hub?sslmode=verify-full&sslrootcert=/ca.pem\n"
        "export HUB_ATTACHMENTS='s3://bucket/hub'\nHUB_RETRY_WAITS=1,2\n"
    )
    told = written_settings(file)
    assert told.database_url is not None
    assert told.database_url.get_secret_value().endswith("@db/hub?sslmode=verify-full&sslrootcert=/ca.pem")
    assert (told.kafka, told.port, told.attachments) == (None, 8080, "s3://bucket/hub")
    assert told.retry_waits == (1, 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("HUB_DATABSE_URL=x", "HUB_DATABSE_URL: Extra inputs are not permitted"),
        (f"HUB_PORT={SECRET}", "HUB_PORT: Input should be a valid integer"),
        ("HUB_RETRY_WAITS=souvent", "HUB_RETRY_WAITS: "),
        (
            f"HUB_OUTGOING_ALLOW=10.0.0.0/8,{SECRET}",
            "HUB_OUTGOING_ALLOW: Value error, number 2 is no network",
        ),
        ("HUB_FOLDER=\udcff", "is no file of lines"),
        (None, "cannot be read: No such file"),
    ],
    ids=["misspelt", "no number", "no numbers", "no networks", "no text", "not there"],
)
def test_what_is_wrong_with_it_is_told_in_a_sentence_without_any_value(
    text: str | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "there.env"
    if text is not None:
        file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(typer.Exit) as ended:
        written_settings(file)
    assert ended.value.exit_code == 2
    told = capsys.readouterr().err
    assert words in told.replace("\n", " ")
    assert SECRET not in told
