"""DNS over TCP: length-prefixed queries, pipelined, answered in order (RFC 7766), a zone transfer by many messages.

Invariants: a connection holds at most one unfinished query and what one read brought, and at most 64 KiB of answers
that the client has not taken: above that its queries wait, and so does a transfer, which is made message by message.
One that completes no query and takes no message for the idle time is closed, so a slow sender and a client that reads
nothing end alike. One turn of the loop answers a bounded number of queries, or makes one message of a transfer.
"""

import asyncio
from typing import cast

from meridian_dns.desk import Desk, Stream
from meridian_dns.throttle import network_of

IN_FLIGHT_BYTES_MAX = 64 * 1024
QUERIES_PER_TURN = 64  # under 2 ms of one loop's time, so that UDP does not wait


class TcpConnection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._source, self._network = "", b""
        self._unread = bytearray()
        self._client_is_slow = False
        self._turn_is_due = False
        self._last_progress = self._loop.time()
        self._idle_timer: asyncio.TimerHandle | None = None
        self._stream: Stream | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        peer = transport.get_extra_info("peername")
        if not peer:  # it has left already
            self._desk.refused += 1
            transport.abort()
            return
        self._source, self._network = peer[0], network_of(peer[0])
        if not self._desk.admit(self, self._network):
            transport.abort()
            return
        self._transport = transport
        transport.set_write_buffer_limits(high=IN_FLIGHT_BYTES_MAX)
        self._idle_timer = self._loop.call_later(self._desk.idle_seconds, self._check_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._desk.leave(self, self._network)
        if self._stream is not None:
            self._stream.close()
        if self._idle_timer is not None:
            self._idle_timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._unread += data
        if not self._turn_is_due:
            self._answer()

    def pause_writing(self) -> None:
        self._client_is_slow = True

    def resume_writing(self) -> None:
        self._client_is_slow = False
        if not self._turn_is_due:
            self._answer()

    def close(self) -> None:
        """Closes after what was written is sent."""
        if self._transport is not None:
            self._transport.close()

    def _turn(self) -> None:
        self._turn_is_due = False
        self._answer()

    def _answer(self) -> None:
        """Answers what has arrived whole, until the client is slow or the turn is over."""
        for _ in range(QUERIES_PER_TURN):
            if self._transport is None or self._transport.is_closing():
                return
            if self._client_is_slow:
                self._transport.pause_reading()
                return
            if self._stream is not None:
                self._advance(self._stream)
                break
            end = 2 + int.from_bytes(self._unread[:2], "big")
            if len(self._unread) < max(2, end):
                self._transport.resume_reading()
                return
            query = bytes(self._unread[2:end])
            del self._unread[:end]
            self._last_progress = self._loop.time()
            response = self._desk.answerer(query, self._source)
            if response is None:
                self._transport.close()
                return
            if isinstance(response, bytes):
                self._transport.write(len(response).to_bytes(2, "big") + response)
            else:
                self._stream = response
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
            self._turn_is_due = True
            self._loop.call_soon(self._turn)

    def _advance(self, stream: Stream) -> None:
        """Sends the next message of a transfer. Other queries of this client wait for its end."""
        message = next(stream, None)
        if message is None:
            self._stream = None
        elif self._transport is not None:
            self._last_progress = self._loop.time()
            self._transport.write(len(message).to_bytes(2, "big") + message)

    def _check_idle(self) -> None:
        deadline = self._last_progress + self._desk.idle_seconds
        if self._loop.time() < deadline:
            self._idle_timer = self._loop.call_at(deadline, self._check_idle)
        elif self._transport is not None:
            self._transport.abort()
