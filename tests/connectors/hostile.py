"""Servers that speak no protocol, or misuse it: what they say is given byte by byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hub.domain.partner import Endpoint
from tests.connectors.partners import HERE, WebhookTown


@asynccontextmanager
async def raw_server(
    answer: bytes, endless: bytes = b"", said: list[int] | None = None
) -> AsyncIterator[Endpoint]:
    """Says `answer` to each request, then `endless` again and again (how much, in `said`), or nothing more."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            while endless:
                writer.write(endless)
                await writer.drain()
                if said is not None:
                    said.append(len(endless))
            await asyncio.sleep(30)
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(converse, HERE, 0)
    yield WebhookTown(0).at(server.sockets[0].getsockname()[1])
    server.close()
