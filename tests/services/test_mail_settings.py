"""What operators say of mail: the hub's own server, hours of digests, where mails come back to; and that a hub made of
it gives out return addresses that its own door knows."""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import time
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import ValidationError

from hub.assembly.checking import flaws_in
from hub.assembly.files import checks
from hub.assembly.ground import ground
from hub.assembly.house import House
from hub.assembly.mail import digest_hours, relay
from hub.domain.errors import SettingsError
from hub.domain.partner import Endpoint
from hub.settings import Settings

SECRET = "un-mot-de-passe"
SERVER = {"mail_relay_host": "smtp.test", "mail_relay_sender": "hub@hub.test"}


@pytest.fixture
def password(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text(f"{SECRET}\n")
    file.chmod(0o600)
    return file


def settings(**told: object) -> Settings:
    return Settings.model_validate(told)


@pytest.mark.parametrize(
    ("told", "word"),
    [
        ({"mail_relay_host": "smtp.test"}, "HUB_MAIL_RELAY_SENDER"),
        ({**SERVER, "mail_relay_user": "hub"}, "HUB_MAIL_RELAY_PASSWORD_FILE"),
        ({**SERVER, "mail_relay_password_file": "/nulle/part"}, "HUB_MAIL_RELAY_USER"),
        ({**SERVER, "mail_relay_user": "hub", "mail_relay_password_file": "/nulle/part"}, "/nulle/part"),
        ({**SERVER, "mail_relay_ca": "/nulle/part.pem"}, "HUB_MAIL_RELAY_CA"),
        ({"bounces_port": 2424}, "HUB_MAIL_RETURN_DOMAIN"),
    ],
    ids=lambda value: None if isinstance(value, str) else ", ".join(value),
)
def test_what_contradicts_itself_is_told_in_a_sentence(told: dict[str, object], word: str) -> None:
    [sentence] = flaws_in(settings(**told))
    assert word in sentence


def test_a_password_is_read_from_a_file_that_only_its_owner_reads(password: Path) -> None:
    told = settings(**SERVER, mail_relay_user="hub", mail_relay_password_file=password)
    found = relay(told)
    assert found is not None
    assert (found.username, found.password, found.tls, found.port) == ("hub", SECRET, "starttls", None)
    assert SECRET not in repr(found)
    password.chmod(0o640)
    with pytest.raises(SettingsError, match="chmod 600") as refused:
        relay(told)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"a\nb\n", b"\xff\xfe"], ids=["empty", "a line", "two", "bytes"]
)
def test_a_password_is_one_line_of_text(password: Path, content: bytes) -> None:
    password.write_bytes(content)
    with pytest.raises(SettingsError):
        relay(settings(**SERVER, mail_relay_user="hub", mail_relay_password_file=password))


def test_a_password_is_not_sent_in_the_clear(password: Path) -> None:
    told = {
        **SERVER,
        "mail_relay_user": "hub",
        "mail_relay_password_file": password,
        "mail_relay_tls": "none",
    }
    with pytest.raises(SettingsError, match="HUB_MAIL_RELAY_TLS"):
        relay(settings(**told))


@pytest.mark.parametrize(
    "told",
    [
        {"digest_daily": ""},
        {"digest_daily": "8:00"},
        {"digest_twice_daily": "08:00,25:00"},
        {"mail_relay_sender": "Hub <hub@hub.test>"},
        {"mail_relay_sender": "hub@hub.test\r\nBcc: x"},
        {"mail_return_domain": "a b"},
        {"mail_relay_tls": "maybe"},
        {"bounces_port": 0},
    ],
    ids=str,
)
def test_what_is_no_such_setting_is_refused(told: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        settings(**told)


def test_digests_leave_at_the_hours_that_are_set() -> None:
    hours = digest_hours(settings(digest_daily="07:30", digest_twice_daily="18:00, 09:15"))
    assert hours.daily == (time(7, 30),)
    assert hours.twice_daily == (time(9, 15), time(18))
    assert digest_hours(settings()).twice_daily == (time(8), time(14))


def test_a_partner_may_name_its_addresses_alone_where_the_hub_has_a_server_of_its_own() -> None:
    endpoint = Endpoint("mail", {"recipients": ["accueil@mairie.test"]})
    assert checks(relay(settings(**SERVER)))["mail"](endpoint) == ()
    assert len(checks(None)["mail"](endpoint)) == 2


async def test_a_hub_knows_the_return_addresses_it_gives_out(fresh_database: Callable[[], str]) -> None:
    told = settings(
        database_url=fresh_database(),
        key=base64.b64encode(bytes(range(32))).decode(),
        mail_return_domain="Retours.test",
        public_url="https://hub.test/",
        **SERVER,
    )
    async with AsyncExitStack() as stack:
        house = House(await stack.enter_async_context(ground(told, alone=True)), stack)
        surroundings = house.surroundings
        room = house.bounces()
        assert room is not None
        assert surroundings.returns is not None
        assert surroundings.mailbox == "https://hub.test/boite"
        mail = uuid4()
        returned = room.recognise(surroundings.returns(mail, 3, 2, "accueil@mairie.test"))
        assert returned is not None
        assert (returned.mail, returned.sending, returned.place) == (mail, 3, 2)
        assert room.recognise("hub@hub.test") is None
