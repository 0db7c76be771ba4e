"""Bento beside the routers: one process for each turn, watched from the broker's side.

Business of this file: its configuration, in its best form (franz-go on both sides, batches, a look-up in a map by what
the brief says), and the conversation that `routers` has too. `make peers` builds it; where it was not built, its rows
say so. It tells nobody when it holds its partitions, and never ends: time begins with the first records it wrote, and
these are not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition  # type: ignore[import-untyped]

from benchmarks.register import register
from benchmarks.routers import PARTITIONS, Order, peak_of, territory

_LOOK = 0.01
_PATIENCE = 120
_PLACE = 4
"""The line of a brief in which the submissions of these benchmarks say their place."""


def binary() -> Path | None:
    """Where `make peers` has put it."""
    found = Path(sys.prefix) / "peers" / "bento"
    return found if found.exists() else None


def configuration(bootstrap: str, order: Order, subscribed: dict[str, str]) -> dict[str, Any]:
    """`subscribed`: what is written for a place; for any other, what is written for ""."""
    mapping = "\n".join(
        (
            f'let place = @brief.split("\\n").index({_PLACE})',
            'meta schema = "decision.v3"',
            f"root = {json.dumps(subscribed)}.get($place).or({json.dumps(subscribed[''])})",
        )
    )
    return {
        "http": {"enabled": False},
        "logger": {"level": "ERROR"},
        "input": {
            "kafka_franz": {
                "seed_brokers": [bootstrap],
                "topics": [order.source],
                "consumer_group": order.target,
                "start_from_oldest": True,
                "commit_period": "1s",
                "checkpoint_limit": 40_000,
                "batching": {"count": 2000, "period": "10ms"},
            }
        },
        "pipeline": {"processors": [{"mapping": mapping}]},
        "output": {
            "kafka_franz": {
                "seed_brokers": [bootstrap],
                "topic": order.target,
                "key": "${! @kafka_key }",
                "partitioner": "manual",
                "partition": "${! @kafka_partition }",
                "metadata": {"include_patterns": ["^schema$"]},
                "idempotent_write": True,
                "max_in_flight": 64,
                "compression": "none",
            }
        },
    }


async def turn(bootstrap: str, order: Order, subscribed: dict[str, str]) -> dict[str, float]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    places = [TopicPartition(order.target, one) for one in range(PARTITIONS)]

    async def written() -> int:
        return sum((await consumer.end_offsets(places)).values())

    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump(configuration(bootstrap, order, subscribed), file)
        file.flush()
        process = subprocess.Popen([str(binary()), "-c", file.name], stdout=sys.stderr)  # noqa: ASYNC220
        try:
            async with asyncio.timeout(_PATIENCE):
                while not (before := await written()):
                    await asyncio.sleep(_LOOK)
                begun, used = time.perf_counter(), cpu_of(process.pid)
                while await written() < order.count:
                    await asyncio.sleep(_LOOK)
            share = order.count / (order.count - before)
            return {
                "seconds": (time.perf_counter() - begun) * share,
                "cpu": (cpu_of(process.pid) - used) * share,
                "peak": peak_of(process.pid),
            }
        finally:
            process.kill()
            process.wait()
            await consumer.stop()


def fields_of(process: int) -> list[str]:
    """What the system tells of a process, from its state on. Raises OSError when it is gone."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()


def cpu_of(process: int) -> float:
    """Seconds that a process took so far."""
    fields = fields_of(process)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("contender")
    arguments.add_argument("bootstrap")
    arguments.add_argument("values", type=Path, help="a pickled list of the values that others write")
    chosen = arguments.parse_args()
    values: list[bytes] = pickle.loads(chosen.values.read_bytes())  # noqa: S301
    length = sum(map(len, values)) // len(values)
    # Who answers for a place, in as many bytes as a decision has.
    subscribed = {
        one.place.code: str(one.subscriber).ljust(length, "-") for one in register(territory()).subscriptions
    } | {"": "nobody".ljust(length, "-")}
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        order = Order(**json.loads(line))
        print(json.dumps({"joined": True}), flush=True)
        sys.stdin.readline()
        print(json.dumps(asyncio.run(turn(chosen.bootstrap, order, subscribed))), flush=True)


if __name__ == "__main__":
    main()
