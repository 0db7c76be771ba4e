"""Who may write where, for clusters whose brokers ask (an authorizer): rules that let a principal do something.

Business of this file: what a sender must be allowed, giving it that, and saying who else may write into a topic that
has one writer. It takes nothing away from anybody. Where brokers ask nobody, there are no rules to look at.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from aiokafka import errors as kafka  # type: ignore[import-untyped]
from aiokafka.protocol.admin import (  # type: ignore[import-untyped]
    CreateAclsRequest,
    DescribeAclsRequest_v1,
)
from aiokafka.protocol.api import Request  # type: ignore[import-untyped]

from hub.adapters.kafka.brokers import Brokers, expect
from hub.domain.errors import SettingsError


class _Resource(IntEnum):
    TOPIC = 2
    GROUP = 3


class _Operation(IntEnum):
    ALL = 2
    READ = 3
    WRITE = 4


_ALLOW = 3
_ANY = 1
_MATCH, _LITERAL = 2, 3
_ANY_HOST = "*"
_WRITES = {_Operation.ALL, _Operation.WRITE}


@dataclass(frozen=True, slots=True)
class Right:
    """`principal`, as Kafka names it: `User:site`."""

    principal: str
    kind: _Resource
    name: str
    operation: _Operation

    def __str__(self) -> str:
        return f"{self.principal} may {self.operation.name.lower()} {self.kind.name.lower()} {self.name}"


def writes(principal: str, topic: str) -> Right:
    return Right(principal, _Resource.TOPIC, topic, _Operation.WRITE)


def reads(principal: str, topic: str) -> tuple[Right, Right]:
    """The topic, and as the group of its name."""
    return (
        Right(principal, _Resource.TOPIC, topic, _Operation.READ),
        Right(principal, _Resource.GROUP, topic, _Operation.READ),
    )


async def give(brokers: Brokers, rights: Iterable[Right]) -> list[Right]:
    """Those that were missing; none where brokers ask nobody. Raises Unavailable, SettingsError when the hub may
    not."""
    given = []
    for right in rights:
        rules = await _rules(brokers, right.kind, right.name)
        if rules is _UNKNOWN:
            raise _may_not(right)
        if rules is not None and (right.principal, right.operation) not in rules:
            await _give(brokers, right)
            given.append(right)
    return given


async def writers(brokers: Brokers, topic: str) -> set[str]:
    """Who may write into this topic by some rule: those that brokers never ask (super users) are not among them,
    and nobody is where this hub may not know. Raises Unavailable."""
    rules = await _rules(brokers, _Resource.TOPIC, topic) or _UNKNOWN
    return {principal for principal, operation in rules if operation in _WRITES}


class _RulesRequest(Request[DescribeAclsRequest_v1]):  # type: ignore[misc]
    """Which rules match a name. The library's own takes a newer form of it, and misreads the answer."""

    API_KEY = DescribeAclsRequest_v1.API_KEY

    def __init__(self, kind: _Resource, name: str) -> None:
        self._asked = (kind, name, _MATCH, None, None, _ANY, _ANY)

    def build(self, form: type[DescribeAclsRequest_v1]) -> object:
        return form(*self._asked)


_Rules = frozenset[tuple[str, int]]
_UNKNOWN: _Rules = frozenset({("", 0)})
_NOT_OURS = {kafka.ClusterAuthorizationFailedError.errno, kafka.TopicAuthorizationFailedError.errno}


async def _rules(brokers: Brokers, kind: _Resource, name: str) -> _Rules | None:
    """Principals and what they are allowed by the rules that match this name. None: nobody is asked for any."""
    request = _RulesRequest(kind, name)

    async def question() -> _Rules | None:
        answer = await brokers.ask(request)
        if answer.error_code == kafka.SecurityDisabled.errno:
            return None
        if answer.error_code in _NOT_OURS:
            return _UNKNOWN
        expect(answer.error_code)
        return frozenset(
            (principal, operation)
            for _, _, _, rules in answer.resources
            for principal, _, operation, permission in rules
            if permission == _ALLOW
        )

    return await brokers.until_answered(question)


async def _give(brokers: Brokers, right: Right) -> None:
    request = CreateAclsRequest(
        right.kind, right.name, _LITERAL, right.principal, _ANY_HOST, right.operation, _ALLOW
    )

    async def question() -> None:
        answer = await brokers.ask_controller(request)
        for error, _ in answer.creation_responses:
            if error in _NOT_OURS:
                raise _may_not(right)
            expect(error)

    await brokers.until_answered(question)


def _may_not(right: Right) -> SettingsError:
    return SettingsError(
        f"this hub may not give rights in the cluster: give them with the cluster's own tools ({right})"
    )
