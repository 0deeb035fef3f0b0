"""What a gateway worker that retires leaves to its successor, over a stream between the two that the launcher made.

First the estate, whole; afterwards, while the old one finishes, what its exchanges give back or ask for:

    old -> new   Estate                      limits as they stand, exchanges under way, flows of UDP
                 Released(limit, key)        an exchange that a concurrency limit had admitted is over
                 Asked(number, limits)       an exchange wants to be admitted
    new -> old   Told(number, ...)           whether it is

Invariant: the two never spend the same part of a limit. The old one gives all it has before it says the estate, and the
new one has none before it has read it. If the estate does not come, or cannot be read (another version wrote it), the
new one begins as after a crash: empty, and later.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from meridian.core.granting.spender import Handover

ESTATE_SECONDS = 10.0  # for it to come
FRAME_BYTES_MAX = 1024 * 1024 * 1024  # a million keys of each of a few limits
LENGTH_BYTES = 4


class Estate(msgspec.Struct, frozen=True, tag=True):
    """See the module's head. `generation` is of who leaves it, `told` what the agent said last (spending.proto),
    `started` when this worker's slot was last begun with nothing, `left` as in gateway/limits."""

    generation: int = 0
    started: float = 0.0
    told: bytes = b""
    spenders: tuple[Handover, ...] = ()
    left: dict[str, float] = {}
    under_way: tuple[tuple[str, str, int], ...] = ()  # limit, key, exchanges
    flows: Mapping[str, Sequence[tuple[Any, ...]]] = {}  # clients by socket, see gateway/handing


class Released(msgspec.Struct, frozen=True, tag=True):
    """See the module's head."""

    limit: str
    key: str


class Asked(msgspec.Struct, frozen=True, tag=True):
    """See the module's head."""

    number: int
    limits: tuple[tuple[str, str], ...]  # name and key


class Told(msgspec.Struct, frozen=True, tag=True):
    """`refused_by` is a limit's name, or empty; `fields` are for the answer."""

    number: int
    refused_by: str
    fields: tuple[tuple[bytes, bytes], ...]
    held: tuple[tuple[str, str], ...]


Said = Estate | Released | Asked | Told


class Line:
    """One end of the stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, sock: socket.socket) -> "Line":
        """Takes the socket. Raises OSError."""
        return cls(*await asyncio.open_unix_connection(sock=sock))

    def say(self, what: Said) -> None:
        """Never waits; what the other end does not read any more is lost."""
        if not self._writer.is_closing():
            data = msgspec.msgpack.encode(what)
            self._writer.write(len(data).to_bytes(LENGTH_BYTES, "big") + data)

    async def hear(self) -> Said | None:
        """What was said next; None at the end, and when it cannot be read."""
        try:
            size = int.from_bytes(await self._reader.readexactly(LENGTH_BYTES), "big")
            if size > FRAME_BYTES_MAX:
                return None
            said: Said = msgspec.msgpack.decode(await self._reader.readexactly(size), type=Said)
        except (asyncio.IncompleteReadError, OSError, msgspec.MsgspecError):
            return None
        return said

    def close(self) -> None:
        """Ends it."""
        with contextlib.suppress(OSError):
            self._writer.close()


async def inherit(line: Line) -> Estate | None:
    """The estate, which is said first; None if it does not come or is of another version."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ESTATE_SECONDS):
            said = await line.hear()
            return said if isinstance(said, Estate) else None
    return None


async def listen(line: Line, take: Callable[[Said], None]) -> None:
    """Gives everything that comes to `take`, until the other end is gone."""
    while (said := await line.hear()) is not None:
        take(said)
