"""A TCP proxy on loopback that cuts connections after so many bytes, or lets them through slowly."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class Line:
    """A line to a server. Sizes in bytes, counted from the server to us."""

    host: str
    """Where to connect: `127.0.0.1:port`."""
    cut_after: int | None = None
    """Of one connection; None: never."""
    pause: float = 0.0
    """Seconds before each 16 KiB."""
    connections: int = 0
    carried: int = 0


@asynccontextmanager
async def line(target: str, *, cut_after: int | None = None, pause: float = 0.0) -> AsyncIterator[Line]:
    """Open a line to `host:port`."""
    host, port = target.split(":")
    state = Line("", cut_after, pause)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        state.connections += 1
        up_reader, up_writer = await asyncio.open_connection(host, int(port))
        back = asyncio.create_task(_pump(reader, up_writer))
        left = state.cut_after
        try:
            while data := await up_reader.read(1 << 14):
                if state.pause:
                    await asyncio.sleep(state.pause)
                if left is not None:
                    data = data[:left]
                    left -= len(data)
                state.carried += len(data)
                writer.write(data)
                await writer.drain()
                if left == 0:
                    break
        except ConnectionError:
            pass  # the other side gave up first
        finally:
            back.cancel()
            up_writer.close()
            writer.transport.abort() if left == 0 else writer.close()

    server = await asyncio.start_server(carry, "127.0.0.1", 0)
    state.host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield state
    finally:
        server.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 14):
            writer.write(data)
            await writer.drain()
