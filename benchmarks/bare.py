"""What posting costs without a hub: `python -m benchmarks.bare FILE AT_ONCE`.

Business of this file: one aiohttp session on uvloop that posts what lies in the file (a pickled list of address,
headers and body) in its order, so many at once, over kept connections, with the session's settings of the webhook
channel. It says that it is ready, begins at a line on its standard input, and says what it took.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import pickle
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import aiohttp
import uvloop
from yarl import URL

from benchmarks.country import Post
from benchmarks.routers import Stopwatch


async def post_all(posts: Sequence[Post], at_once: int) -> Stopwatch:
    watch = Stopwatch()
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=4)
    async with aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, auto_decompress=False
    ) as session:
        waiting = iter(posts)
        watch.begin()
        await asyncio.gather(*(_clerk(session, waiting) for _ in range(at_once)))
        watch.lap()
    return watch


async def _clerk(session: aiohttp.ClientSession, waiting: Iterator[Post]) -> None:
    limit = aiohttp.ClientTimeout(total=30)
    for address, headers, body in waiting:
        async with session.post(
            URL(address), data=body, headers=headers, allow_redirects=False, timeout=limit
        ) as answer:
            if answer.status != 204:
                raise RuntimeError(f"a post was answered {answer.status}")
            await answer.read()


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("posts", type=Path)
    arguments.add_argument("at_once", type=int)
    chosen = arguments.parse_args()
    posts: Sequence[Post] = pickle.loads(chosen.posts.read_bytes())  # noqa: S301
    print(json.dumps({"ready": True}), flush=True)
    sys.stdin.readline()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(post_all(posts, chosen.at_once)).told()), flush=True)


if __name__ == "__main__":
    main()
