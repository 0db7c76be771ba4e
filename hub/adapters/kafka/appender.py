"""Appending to Kafka: batches of records, acknowledged by every copy that is in step.

Business of this file: one idempotent producer, and another one after a failure. Which partition a record
belongs to is decided before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]
from aiokafka import errors as kafka

from hub.adapters.kafka.cluster import REQUEST_TIME, KafkaCluster, served
from hub.adapters.kafka.framing import Framing
from hub.adapters.kafka.topics import LARGEST
from hub.domain.errors import SettingsError, Unavailable
from hub.ports.log import Record

# One request carries a batch for each partition: small enough for a request with many, large enough for speed.
_BATCH = 256 * 1024
_LAST_CHANCE = 5.0


class Appender:
    """Opened by the first append. An append that failed or that nobody waits for may still happen."""

    def __init__(self, cluster: KafkaCluster, patience: float, framing: Framing) -> None:
        self._cluster = cluster
        self._patience = patience
        self._framing = framing
        self._producer: Any = None
        self._opening = asyncio.Lock()

    async def close(self) -> None:
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await _end(producer, _LAST_CHANCE)

    async def append(self, topic: str, placed: Mapping[int, Sequence[Record]]) -> None:
        """Durable when it returns. Raises Unavailable after `patience` seconds; SettingsError, before
        anything is written, for a record that is larger than the topic takes."""
        producer = None
        try:
            async with asyncio.timeout(self._patience):
                await self._framing.prepare()
                with served():
                    producer = await self._opened()
                    batches = {one: self._batches(producer, several) for one, several in placed.items()}
                    answers = await asyncio.gather(
                        *(_send(producer, topic, one, several) for one, several in batches.items()),
                        return_exceptions=True,
                    )
                    for answer in answers:
                        if isinstance(answer, BaseException):
                            raise answer
        except TimeoutError:
            await self._replace(producer)
            raise Unavailable("the log's brokers did not acknowledge an append in time") from None
        except Unavailable:
            # Its numbering may have a gap now, which brokers would refuse for ever.
            await self._replace(producer)
            raise

    def _batches(self, producer: Any, records: Sequence[Record]) -> list[Any]:
        found = [producer.create_batch()]
        append, dress = found[0].append, self._framing.dress
        for record in records:
            value, headers = dress(record)
            if append(timestamp=None, key=record.key, value=value, headers=headers) is None:
                found.append(producer.create_batch())
                append = found[-1].append
                append(timestamp=None, key=record.key, value=value, headers=headers)
        # A batch that is larger than it should be is one that has a single record.
        if any(batch.size() > LARGEST for batch in found):
            raise SettingsError(f"a record of the log is larger than its topic takes ({LARGEST} bytes)")
        return found

    async def _opened(self) -> Any:
        async with self._opening:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **self._cluster.arguments(),
                    enable_idempotence=True,
                    acks="all",
                    max_batch_size=_BATCH,
                    request_timeout_ms=int(REQUEST_TIME * 1000),
                )
                try:
                    await producer.start()
                except BaseException:
                    await _end(producer, 0)
                    raise
                self._producer = producer
            return self._producer

    async def _replace(self, producer: Any) -> None:
        if producer is not None and producer is self._producer:
            self._producer = None
            await _end(producer, 0)


async def _send(producer: Any, topic: str, partition: int, batches: Sequence[Any]) -> None:
    answers = [await producer.send_batch(batch, topic, partition=partition) for batch in batches]
    for answer in answers:
        await answer


async def _end(producer: Any, patience: float) -> None:
    """Let it finish what it was given; after that long, give up what is left. The library has no way for
    the second: it would wait until the brokers are back."""
    stopping = asyncio.create_task(producer.stop())
    if patience:
        await asyncio.wait({stopping}, timeout=patience)
    if not stopping.done():
        producer._message_accumulator.fail_all(kafka.KafkaConnectionError())
        await producer.client.close()
    # What its sender waits for (an answer, the metadata) may never come now.
    sender = producer._sender.sender_task
    while not stopping.done():
        await asyncio.wait({stopping}, timeout=0.2)
        if sender is not None:
            sender.cancel()
    stopping.exception()
