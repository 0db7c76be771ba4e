"""Two partners that would meet in a folder of a server, by their settings alone."""

from __future__ import annotations

import pytest

from hub.domain.identity import Subscriber
from hub.domain.partner import Endpoint
from hub.services.partner_flaws import crowded, crowded_by

ONE, OTHER, THIRD = (Subscriber("21740042390019", branch) for branch in ("74042", "74164", "74003"))


def sftp(**settings: object) -> Endpoint:
    return Endpoint("sftp", {"host": "sftp.example", "username": "hub", "directory": "depot", **settings})


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ({}, {}, True),
        ({}, {"directory": "./depot/", "host": "SFTP.example.", "port": 22}, True),
        ({}, {"port": 2222}, False),
        ({}, {"username": "another"}, False),
        ({"directory": "{procedure}/x"}, {"directory": "{procedure}/./x"}, True),
        ({"directory": "{partner}"}, {"directory": "{partner}"}, False),
        ({"directory": "{partner}"}, {"directory": str(ONE)}, True),
        (
            {"directory": "a", "return_directory": "retour"},
            {"directory": "b", "return_directory": "retour/"},
            True,
        ),
        ({"directory": "a", "return_directory": "b"}, {"directory": "b"}, True),
        # A name behind a server that is jumped through is that network's.
        ({"jump_host": "rebond.a"}, {}, False),
        ({"jump_host": "rebond.a"}, {"jump_host": "rebond.b"}, False),
        ({"jump_host": "rebond.a"}, {"jump_host": "Rebond.A.", "jump_port": 22}, True),
        ({"jump_host": "rebond.a"}, {"jump_host": "rebond.a", "jump_port": 2222}, False),
        ({"jump_host": "rebond.a"}, {"jump_host": "rebond.a", "jump_username": "another"}, True),
    ],
    ids=str,
)
def test_partners_meet_where_one_folder_of_one_account_is_meant(
    one: dict[str, object], other: dict[str, object], meet: bool
) -> None:
    found = crowded({ONE: sftp(**one), OTHER: sftp(**other)}, {})
    assert found == ({ONE: [OTHER], OTHER: [ONE]} if meet else {})


def test_who_was_there_first_stays_and_is_named() -> None:
    found = crowded({OTHER: sftp(), THIRD: sftp(directory="autre")}, {ONE: sftp(), THIRD: sftp()})
    assert found == {OTHER: [ONE]}
    assert crowded_by([ONE]) == f"another partner is served in this folder of this server: {ONE}"


def test_a_partner_is_in_nobody_s_way_with_two_folders_of_its_own() -> None:
    assert crowded({ONE: sftp(return_directory="depot")}, {ONE: sftp()}) == {}


def test_of_many_that_meet_a_few_are_named() -> None:
    others = [Subscriber("21740042390019", str(number)) for number in range(5)]
    assert crowded_by(others).endswith("21740042390019-2 and 2 others")
