"""Attacks by HTTP/3, on aioquic's client with its own limits taken away."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import FrameType, H3Connection, StreamType, encode_frame
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, QuicEvent, StreamReset
from tests.hardening.attack import Attack, Victim, happens, while_acting

from meridian.wire.events import Headers

Act = Callable[["Attacker"], Coroutine[None, None, None]]

FLOOD = 1200


class Attacker(QuicConnectionProtocol):
    """A client that hears only how it is cut off."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.quic: QuicConnection = self._quic
        self.h3 = H3Connection(self._quic)
        self.resets: dict[int, int] = {}
        self.ended: ConnectionTerminated | None = None

    def quic_event_received(self, event: QuicEvent) -> None:
        """See QuicConnectionProtocol."""
        if isinstance(event, StreamReset):
            self.resets[event.stream_id] = event.error_code
        elif isinstance(event, ConnectionTerminated):
            self.ended = event

    def fields(self, path: bytes, method: bytes = b"GET") -> Headers:
        """Of a good request."""
        return [(b":method", method), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", path)]

    def ask(self, path: bytes, *, end: bool = True) -> int:
        """A request; its stream."""
        stream_id = self.quic.get_next_available_stream_id()
        self.h3.send_headers(stream_id, self.fields(path, b"GET" if end else b"POST"), end_stream=end)
        return stream_id

    def say(self, data: bytes, *, end: bool = False, uni: bool = False, stream_id: int | None = None) -> int:
        """Bytes on a stream, a new one by default."""
        if stream_id is None:
            stream_id = self.quic.get_next_available_stream_id(is_unidirectional=uni)
        self.quic.send_stream_data(stream_id, data, end)
        return stream_id

    async def pause(self, number: int = 0) -> None:
        """Lets out what was said, ten at a time."""
        if not number % 10:
            self.transmit()
            await asyncio.sleep(0.01)


class _Greedy(QuicConnection):
    """Gives no credit for what it receives."""

    def _write_connection_limits(self, builder: Any, space: Any) -> None:
        pass

    def _write_stream_limits(self, builder: Any, space: Any, stream: Any) -> None:
        pass


@contextlib.asynccontextmanager
async def attacker(victim: Victim, **options: Any) -> AsyncIterator[Attacker]:
    """Connects."""
    configuration = QuicConfiguration(
        alpn_protocols=["h3"], server_name="localhost", cafile=victim.ca, verify_mode=ssl.CERT_REQUIRED, **options
    )
    async with connect("127.0.0.1", victim.port, configuration=configuration, create_protocol=Attacker) as found:
        assert isinstance(found, Attacker)
        yield found


def cut(act: Act, **options: Any) -> Callable[[Victim], Awaitable[str]]:
    """Acts, and says how the connection was ended."""

    async def run(victim: Victim) -> str:
        async with attacker(victim, **options) as one:

            async def hear() -> str:
                await happens(victim, lambda: one.ended)
                return f"closed {one.ended.error_code:#x} {one.ended.reason_phrase}" if one.ended is not None else ""

            return await while_acting(act(one), hear())

    return run


def reset_by(act: Callable[[Attacker], int], **options: Any) -> Callable[[Victim], Awaitable[str]]:
    """Acts, and says how that stream was reset."""

    async def run(victim: Victim) -> str:
        async with attacker(victim, **options) as one:
            stream_id = act(one)
            one.transmit()
            found = await happens(victim, lambda: stream_id in one.resets)
            return f"reset {one.resets[stream_id]:#x}" if found else ""

    return run


async def streams(one: Attacker) -> None:
    """More than are allowed."""
    one.quic._remote_max_streams_bidi = 10_000
    for _ in range(200):
        one.ask(b"/wait")
    one.transmit()


async def resets(one: Attacker) -> None:
    """Rapid reset."""
    for number in range(FLOOD):
        stream_id = one.ask(b"/wait")
        one.quic.reset_stream(stream_id, 0x10C)
        await one.pause(number)


async def stops(one: Attacker) -> None:
    """The same by STOP_SENDING."""
    for _ in range(FLOOD // 10):
        while one.quic._remote_max_streams_bidi < one.quic.get_next_available_stream_id() // 4 + 10:
            await one.pause()
        several = [one.ask(b"/wait") for _ in range(10)]
        await one.pause()
        for stream_id in several:
            one.quic.stop_stream(stream_id, 0x10C)


async def malformed(one: Attacker) -> None:
    """Requests that we have to reset."""
    for number in range(FLOOD):
        stream_id = one.quic.get_next_available_stream_id()
        one.h3.send_headers(stream_id, [*one.fields(b"/wait"), (b"connection", b"x")], end_stream=True)
        await one.pause(number)


async def unidirectional(one: Attacker) -> None:
    """Streams of a type that nobody knows."""
    for number in range(FLOOD):
        one.say(encode_uint_var(0x21) + b"x", end=True, uni=True)
        await one.pause(number)


async def empty_data(one: Attacker) -> None:
    """Frames of nothing."""
    stream_id = one.ask(b"/take", end=False)
    for _ in range(FLOOD // 100):
        one.say(encode_frame(FrameType.DATA, b"") * 100, stream_id=stream_id)
        await one.pause()


async def unknown_frames(one: Attacker) -> None:
    """Frames that are passed over."""
    stream_id = one.ask(b"/take", end=False)
    for _ in range(FLOOD // 100):
        one.say(encode_frame(0x21, b"x") * 100, stream_id=stream_id)
        await one.pause()


async def control_frames(one: Attacker) -> None:
    """On the control stream."""
    for _ in range(FLOOD // 100):
        one.say(encode_frame(0x21, b"x") * 100, stream_id=one.h3._local_control_stream_id)
        await one.pause()


async def pings(one: Attacker) -> None:
    """Of QUIC."""
    for number in range(FLOOD):
        one.quic.send_ping(number)
        one.transmit()  # else they would leave as one
        await one.pause(number)


async def encoder(one: Attacker) -> None:
    """Instructions for a table that was not offered."""
    one.say(b"\x3f\xe1\x1f" + b"\x41x" + b"\x7f\x81\x1e" + b"a" * 4000, stream_id=one.h3._local_encoder_stream_id)
    one.transmit()


async def blocked(one: Attacker) -> None:
    """Requests that wait for entries of that table."""
    for _ in range(20):
        one.say(encode_frame(FrameType.HEADERS, b"\x20\x00\x80"))
        await one.pause()


async def slow_head(one: Attacker) -> None:
    """A head that does not end."""
    stream_id = one.say(encode_uint_var(FrameType.HEADERS) + encode_uint_var(1000))
    while True:
        one.say(b"x", stream_id=stream_id)
        one.transmit()
        await asyncio.sleep(0.1)


async def second_control(one: Attacker) -> None:
    """There is to be one."""
    one.say(encode_uint_var(StreamType.CONTROL), uni=True)
    one.transmit()


async def slow_body(victim: Victim) -> str:
    """A byte at a time."""
    async with attacker(victim) as one:
        stream_id = one.ask(b"/take", end=False)
        statuses: list[bytes] = []
        one.quic_event_received = lambda event: statuses.extend(  # type: ignore[method-assign] # hears answers alone
            value
            for got in one.h3.handle_event(event)
            for name, value in getattr(got, "headers", ())
            if name == b":status"
        )

        async def act() -> None:
            while True:
                one.say(encode_frame(FrameType.DATA, b"x"), stream_id=stream_id)
                one.transmit()
                await asyncio.sleep(0.05)

        async def hear() -> str:
            return statuses[0].decode() if await happens(victim, lambda: statuses) else ""

        return await while_acting(act(), hear())


def large_head(one: Attacker) -> int:
    """A header block of 100 KiB."""
    return one.say(encode_uint_var(FrameType.HEADERS) + encode_uint_var(100_000) + b"x" * 4000)


async def no_credit(victim: Victim) -> str:
    """Asks for much, and lets little come."""
    return await reset_by(_greedy, max_stream_data=5000, max_data=100_000)(victim)


def _greedy(one: Attacker) -> int:
    one.quic.__class__ = _Greedy
    return one.ask(b"/big")


ATTACKS = (
    Attack("h3: more streams than allowed", "streams_max", "", cut(streams)),
    Attack("h3: rapid reset", "resets_max", "resets", cut(resets)),
    Attack("h3: STOP_SENDING", "resets_max", "resets", cut(stops)),
    Attack("h3: made to reset", "resets_max", "resets", cut(malformed)),
    Attack("h3: unidirectional streams", "idle_frames_max", "idle_frames", cut(unidirectional)),
    Attack("h3: empty DATA", "idle_frames_max", "idle_frames", cut(empty_data)),
    Attack("h3: frames of an unknown type", "idle_frames_max", "idle_frames", cut(unknown_frames)),
    Attack("h3: frames of the control stream", "idle_frames_max", "idle_frames", cut(control_frames)),
    Attack("h3: PING", "idle_frames_max", "idle_frames", cut(pings)),
    Attack("h3: QPACK instructions", "", "", cut(encoder)),
    Attack("h3: blocked by QPACK", "", "", cut(blocked)),
    Attack("h3: a second control stream", "", "", cut(second_control)),
    Attack("h3: slow head", "header_seconds", "slow_header", cut(slow_head)),
    Attack("h3: slow body", "bytes_per_second_min", "body_timeout", slow_body),
    Attack("h3: header block of 100 KiB", "header_bytes_max", "", reset_by(large_head)),
    Attack("h3: no credit", "bytes_per_second_min", "slow_read", no_credit),
)
