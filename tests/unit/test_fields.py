"""Fields: what a channel asks of an endpoint is said once, and checks, forms and schemas agree about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

import connectors
from hub.assembly.files import channel_fields
from hub.domain.errors import SettingsError
from hub.domain.fields import Field, FieldKind, Filled, check_fields, fill, masked
from hub.ports.connector import Surroundings
from hub.wire.fields import form, schema, table

CHANNELS = channel_fields()
SECRET = "Hunter2-MfKQ9r8GKYqrTwjU"


def _field(name: str, kind: FieldKind = FieldKind.TEXT, **more: Any) -> Field:
    return Field(name, kind, fr="Aide.", en="Help.", **more)


SOME = (
    _field("host", FieldKind.HOST, required=True),
    _field("port", FieldKind.NUMBER, default=22, least=1, most=65535),
    _field("plain", FieldKind.FLAG, default=False, needs=("note",)),
    _field("mode", FieldKind.CHOICE, choices=("a", "b"), default="a"),
    _field("words", FieldKind.TEXTS, choices=("x", "y"), most=2),
    _field("mails", FieldKind.MAILS),
    _field("mail", FieldKind.MAIL),
    _field("url", FieldKind.URL),
    _field("note", FieldKind.BLOCK, most=10),
    _field("code", pattern="[a-z]{3}", must="must be three small letters"),
    _field("key", FieldKind.BLOCK, secret=True, unless=("password",)),
    _field("password", secret=True),
    _field("certificate", needs=("certificate_key",)),
    _field("certificate_key", FieldKind.BLOCK, secret=True, needs=("certificate",)),
)
GOOD: Mapping[str, Any] = {"host": "sftp.mairie.test"}
LOGIN = {"password": "p"}


def _fill(settings: Mapping[str, object], secrets: Mapping[str, str] = LOGIN) -> Filled:
    return fill(SOME, {**GOOD, **settings}, secrets)


# --- values -------------------------------------------------------------------------------------------

WRONG: Sequence[tuple[str, object, str]] = (
    ("host", "sftp.mairie.test:22/x", "must be the name or the address of a host, without a port"),
    ("port", 0, "must be a whole number from 1 to 65535"),
    ("port", 65536, "must be a whole number from 1 to 65535"),
    ("port", True, "must be a whole number from 1 to 65535"),
    ("port", "22", "must be a whole number from 1 to 65535"),
    ("port", 22.5, "must be a whole number from 1 to 65535"),
    ("plain", "yes", "must be true or false"),
    ("plain", 1, "must be true or false"),
    ("mode", "c", "must be one of a, b"),
    ("mode", ["a"], "must be one of a, b"),
    ("words", ["z"], "must be a list of x, y"),
    ("words", "x", "must be a list of x, y"),
    ("words", [], "must be a list of x, y"),
    ("words", ["x", "y", "x"], "must be a list of x, y"),
    ("mails", ["a@b.test", "nobody"], "must be a list of at least one mail address"),
    ("mails", [["a@b.test"]], "must be a list of at least one mail address"),
    ("mails", ["a@b.test"] * 201, "must be a list of at least one mail address, and of at most 200"),
    ("mail", "a@b.test\r\nX: y", "must be a mail address"),
    ("url", "ftp://x.test", "must be a URL of https, in ASCII"),
    ("url", "https://", "must be a URL of https, in ASCII"),
    ("url", "https://mairié.test", "must be a URL of https, in ASCII"),
    ("url", "https://u:p@x.test", "must carry no user, password or fragment"),
    ("url", "https://x.test#f", "must carry no user, password or fragment"),
    ("url", "https://x.test?t=1", "must carry no query: tokens stand there, and settings are shown"),
    ("url", "https://x.test:port", "must be a URL"),
    ("note", "", "must be a text, not empty"),
    ("note", " \n", "must be a text, not empty"),
    ("note", "12345678901", "must be a text, not empty, of at most 10 signs"),
    ("code", "abcd", "must be three small letters"),
    ("code", "abc\n", "must be three small letters"),
    ("certificate", "a\nb", "must be a text of one line, not empty"),
    ("certificate", {"a": 1}, "must be a text of one line, not empty"),
)


@pytest.mark.parametrize(
    ("name", "value", "sentence"), WRONG, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(WRONG)]
)
def test_a_value_that_cannot_be_is_told_by_its_field_and_what_it_should_be(
    name: str, value: object, sentence: str
) -> None:
    filled = _fill({name: value})
    assert f"{name} {sentence}" in filled.flaws
    assert name not in filled.values


def test_values_are_given_with_the_defaults_of_those_that_are_not() -> None:
    filled = _fill({"port": 2222, "mails": ["a@b.test"], "note": None})
    assert filled.flaws == ()
    assert filled.values == {
        "host": "sftp.mairie.test",
        "port": 2222,
        "plain": False,
        "mode": "a",
        "mails": ("a@b.test",),
    }
    assert filled.secrets == LOGIN
    assert "p" not in repr(filled).replace("plain", "").replace("port", "").replace("sftp", "")


@pytest.mark.parametrize(
    ("settings", "secrets", "flaws"),
    [
        ({}, {}, ["key or password is missing"]),
        ({}, {"key": "", "password": ""}, ["key or password is missing"]),
        ({"certificate": "c"}, LOGIN, ["certificate needs certificate_key"]),
        ({}, {**LOGIN, "certificate_key": "k"}, ["certificate_key needs certificate"]),
        ({"plain": True}, LOGIN, ["plain needs note"]),
        ({"plain": False}, LOGIN, []),
        ({"host": None}, LOGIN, ["host is missing"]),
        (
            {"password": SECRET},
            {},
            ["password is a secret: it belongs to the secrets"],
        ),
        ({}, {**LOGIN, "port": SECRET}, ["port is no secret: it belongs to the settings"]),
        ({"urgent": SECRET}, LOGIN, ["urgent is not a setting of this channel"]),
    ],
    ids=[
        "no login",
        "empty ones",
        "half",
        "other half",
        "true",
        "false",
        "null",
        "shown",
        "hidden",
        "unknown",
    ],
)
def test_fields_that_go_together_are_asked_together(
    settings: Mapping[str, object], secrets: Mapping[str, str], flaws: Sequence[str]
) -> None:
    found = _fill(settings, secrets).flaws
    assert sorted(found) == sorted(flaws)
    assert SECRET not in " ".join(found)


def test_a_name_that_may_be_a_secret_is_not_told() -> None:
    found = _fill({SECRET: "x", f"password:{SECRET}": None}, {**LOGIN, SECRET: "y"}).flaws
    assert len(found) == 3
    assert SECRET not in " ".join(found)


def test_what_is_shown_is_what_fields_call_no_secret() -> None:
    assert masked(SOME, {"host": "h", "password": SECRET, "unheard": SECRET}) == {"host": "h"}


# --- schemas ------------------------------------------------------------------------------------------


def _valid(channel: str, fields: Sequence[Field], settings: object, secrets: object) -> bool:
    told = {"channel": channel, "settings": settings, "secrets": secrets}
    return bool(Draft202012Validator(schema(channel, fields)).is_valid(told))


# What a schema cannot say, or this reader of schemas not: that a text is not blank, what stands in a URL besides its
# beginning, a line feed at the end.
BEYOND = {
    " \n",
    "abc\n",
    "https://",
    "https://u:p@x.test",
    "https://x.test#f",
    "https://x.test?t=1",
    "https://x.test:port",
}
VALUES: Mapping[str, Sequence[object]] = {
    "host": ["sftp.mairie.test", "192.0.2.1", "2001:db8::1", ""],
    "port": [1, 22, 65535],
    "plain": [True, False],
    "mode": ["a", "b"],
    "words": [["x"], ["x", "y"]],
    "mails": [["a@b.test"]],
    "mail": ["a@b.test"],
    "url": ["https://x.test/hook", "http://[::1]:8080"],
    "note": ["one\ntwo"],
    "code": ["abc"],
    "certificate": ["c"],
    "urgent": [1],
    "password": ["p"],
}


@st.composite
def _settings(draw: st.DrawFn) -> dict[str, object]:
    wrong = {
        name: [value for n, value, _ in WRONG if n == name and str(value) not in BEYOND] for name in VALUES
    }
    names = draw(st.sets(st.sampled_from(sorted(VALUES))))
    pool = {name: [*VALUES[name], *VALUES[name], *wrong[name]] for name in names}
    return {name: draw(st.sampled_from(values)) for name, values in sorted(pool.items())}


@given(settings=_settings(), secrets=st.sets(st.sampled_from(["key", "password", "certificate_key", "host"])))
def test_the_schema_and_the_check_find_the_same_right(settings: dict[str, object], secrets: set[str]) -> None:
    told = dict.fromkeys(secrets, "s")
    right = not fill(SOME, settings, told).flaws
    assert _valid("some", SOME, settings, told) == right


@pytest.mark.parametrize("channel", sorted(CHANNELS))
def test_every_channel_has_a_schema_that_is_one_and_a_form_with_help_in_both_languages(channel: str) -> None:
    told = schema(channel, CHANNELS[channel])
    Draft202012Validator.check_schema(told)
    for asked in form(CHANNELS[channel]):
        assert set(asked) <= {
            "name", "kind", "secret", "required", "help", "default", "choices", "pattern", "least", "most", "needs",
            "unless",
        }  # fmt: skip
        assert len(asked["help"]["fr"]) > 10
        assert asked["help"]["fr"].rstrip().endswith(".")
        assert asked["help"]["fr"] != asked["help"]["en"]
    hidden = told["properties"]["secrets"]["properties"].values()
    assert all(one["writeOnly"] for one in hidden)


# --- descriptions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (None, "does not describe its fields"),
        ("host", "does not describe its fields"),
        ([{"name": "host"}], "does not describe its fields"),
        ([_field("Host")], "small letters"),
        ([_field("host"), _field("host")], "two of this name"),
        ([Field("host", FieldKind.TEXT, fr="", en="Help.")], "French"),
        ([_field("port", FieldKind.NUMBER, secret=True)], "a secret is a text"),
        ([_field("key", secret=True, default="k")], "no default"),
        ([_field("mode", FieldKind.CHOICE)], "no choices"),
        ([_field("port", FieldKind.NUMBER, default=0, least=1)], "its own default"),
        ([_field("key", needs=("password",))], "that there is not"),
        ([_field("code", pattern="[a-z")], "its pattern"),
        ([_field("code", pattern="(?P<a>x)")], "its pattern"),
    ],
    ids=[
        "none",
        "text",
        "mapping",
        "name",
        "twice",
        "help",
        "kind",
        "default",
        "choices",
        "own default",
        "others",
        "pattern",
        "pattern of Python",
    ],
)
def test_a_connector_that_does_not_describe_its_fields_is_refused_with_a_sentence(
    fields: object, said: str
) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        check_fields("fax", fields)
    assert "fax" in str(caught.value)


def test_such_a_connector_of_another_distribution_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("fax", "tests.unit.test_fields:fax", "hub.connectors")
    monkeypatch.setattr("hub.assembly.files.entry_points", lambda group: [point])
    with pytest.raises(SettingsError, match="the connector of the channel fax does not describe its fields"):
        channel_fields()


def fax(surroundings: Surroundings) -> object:
    """As connectors were before they had to."""
    return object()


def test_the_readme_tells_the_fields_of_each_channel() -> None:
    told = (Path(connectors.__file__).parent / "README.md").read_text("utf-8")
    for channel, fields in CHANNELS.items():
        lines = "\n".join(table(fields))
        assert f"### `{channel}`\n\n{lines}\n" in told, (
            "hub partners fields --markdown says what is to stand there"
        )
