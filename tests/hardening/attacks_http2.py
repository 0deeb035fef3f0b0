"""Attacks by HTTP/2, frame by frame."""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Iterable, Iterator

from tests.conformance.violations_http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    block,
    frame,
    get,
    integer,
    post,
    pseudo,
)
from tests.hardening.attack import Attack, Victim, h2_line, while_acting

Run = Callable[[Victim], Awaitable[str]]

FLOOD = 1200
"""Frames of a flood: several times what is allowed at once."""

WIDE = b"\x00\x04" + (2**31 - 1).to_bytes(4, "big")  # INITIAL_WINDOW_SIZE
SHUT = b"\x00\x04" + bytes(4)


def flood(pieces: Callable[[], Iterable[bytes]], settings: bytes = b"") -> Run:
    """Says all of it as fast as it is taken, and hears what is said to that."""

    async def run(victim: Victim) -> str:
        async with h2_line(victim, settings) as talk:
            with contextlib.suppress(ConnectionError, TimeoutError, ssl.SSLError):
                await talk.say(b"".join(pieces()))
            told = await talk.told()
            return "" if told == "GOAWAY 0" else told  # of one that is idle

    return run


def _ids() -> Iterator[int]:
    return iter(range(1, 2 * FLOOD, 2))


def rapid_reset() -> Iterator[bytes]:
    """CVE-2023-44487."""
    for stream_id in _ids():
        yield get(path=b"/wait", stream_id=stream_id) + frame(RST_STREAM, 0, stream_id, b"\0\0\0\x08")


def made_to_reset(breach: Callable[[int], bytes], *, opened: bool = True) -> Run:
    """CVE-2025-8671: requests that reach the service, and a breach after each that makes us reset it."""

    def pieces() -> Iterator[bytes]:
        for stream_id in _ids():
            yield (get(path=b"/wait", stream_id=stream_id) if opened else b"") + breach(stream_id)

    return flood(pieces)


def many_streams() -> Iterator[bytes]:
    """More and more, whatever is said to that."""
    for stream_id in _ids():
        yield get(path=b"/wait", stream_id=stream_id)


def endless_block() -> Iterator[bytes]:
    """CVE-2024-27316: a header block of 100 KiB that does not end."""
    yield frame(HEADERS, END_STREAM, 1, block(pseudo()))
    for _ in range(12):
        yield frame(CONTINUATION, 0, 1, block([(b"x", b"a" * 8180)]))


def empty_continuations() -> Iterator[bytes]:
    """A block that does not grow, and does not end."""
    yield frame(HEADERS, END_STREAM, 1, block(pseudo()))
    yield frame(CONTINUATION, 0, 1) * FLOOD


def hpack_bomb() -> Iterator[bytes]:
    """A field of 4 KB in the table, and 25 times a byte that stands for it."""
    value = b"a" * 3900
    yield frame(
        HEADERS, END_STREAM | END_HEADERS, 1,
        block(pseudo()) + b"\x40\x01x" + integer(len(value)) + value + b"\xbe" * 25,
    )  # fmt: skip


def repeated(piece: bytes, first: bytes = b"") -> Run:
    """The same over and over, in the hope that it costs."""
    return flood(lambda: [first, piece * FLOOD])


def empty_requests() -> Iterator[bytes]:
    """HEADERS without a field."""
    for stream_id in _ids():
        yield frame(HEADERS, END_STREAM | END_HEADERS, stream_id)


async def half_a_block(victim: Victim) -> str:
    """HEADERS whose end does not come."""
    async with h2_line(victim) as talk:
        await talk.say(frame(HEADERS, END_STREAM, 1, block(pseudo())))
        return await talk.told()


async def slow_body(victim: Victim) -> str:
    """A byte of DATA at a time."""
    async with h2_line(victim) as talk:
        await talk.say(post(path=b"/take"))
        return await while_acting(talk.repeat(frame(DATA, 0, 1, b"x")), talk.told(1))


async def shut_window(victim: Victim) -> str:
    """Asks for much and opens no window."""
    async with h2_line(victim, SHUT) as talk:
        await talk.say(get(path=b"/big"))
        return await talk.told(1)


async def shut_window_of_small_answers(victim: Victim) -> str:
    """The same with answers that have ended for the service already."""
    async with h2_line(victim, SHUT) as talk:
        await talk.say(b"".join(get(path=b"/take", stream_id=stream_id) for stream_id in range(1, 20, 2)))
        return await talk.told(19)


async def window_by_the_byte(victim: Victim) -> str:
    """Opens the window by one byte at a time."""
    async with h2_line(victim, SHUT) as talk:
        await talk.say(get(path=b"/big"))
        return await while_acting(talk.repeat(frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1")), talk.told(1))


async def unread(victim: Victim) -> str:
    """Opens all windows and does not read its socket."""
    async with h2_line(victim, WIDE) as talk:
        await talk.say(frame(WINDOW_UPDATE, 0, 0, (2**31 - 1 - 65535).to_bytes(4, "big")) + get(path=b"/big"))
        while talk.lasts:
            await asyncio.sleep(0.1)
            if talk.writer.is_closing():
                return "ended"
        return await talk.is_over()


async def idle_with_pings(victim: Victim) -> str:
    """Asks for nothing, and says so from time to time."""
    async with h2_line(victim) as talk:
        return await while_acting(talk.repeat(frame(PING, 0, 0, bytes(8))), talk.told())


_WINDOW_1 = (1).to_bytes(4, "big")

ATTACKS = (
    Attack("h2: rapid reset", "resets_max", "resets", flood(rapid_reset)),
    Attack("h2: made to reset, window of 0", "resets_max", "resets",
           made_to_reset(lambda one: frame(WINDOW_UPDATE, 0, one, bytes(4)))),
    Attack("h2: made to reset, window that overflows", "resets_max", "resets",
           made_to_reset(lambda one: frame(WINDOW_UPDATE, 0, one, (2**31 - 1).to_bytes(4, "big")))),
    Attack("h2: made to reset, PRIORITY of 4 bytes", "resets_max", "resets",
           made_to_reset(lambda one: frame(PRIORITY, 0, one, bytes(4)))),
    Attack("h2: made to reset, DATA after the end", "resets_max", "resets",
           made_to_reset(lambda one: frame(DATA, END_STREAM, one, b"x"))),
    Attack("h2: made to reset, HEADERS after the end", "resets_max", "resets",
           made_to_reset(lambda one: get(path=b"/wait", stream_id=one))),
    Attack("h2: made to reset, a false length", "resets_max", "resets", made_to_reset(
        lambda one: post((b"content-length", b"9"), path=b"/wait", stream_id=one) + frame(DATA, END_STREAM, one, b"x"),
        opened=False,
    )),
    Attack("h2: requests without a field", "resets_max", "resets", flood(empty_requests)),
    Attack("h2: streams without end", "resets_max", "streams", flood(many_streams)),
    Attack("h2: CONTINUATION without end", "header_bytes_max", "header", flood(endless_block)),
    Attack("h2: CONTINUATION of nothing", "", "malformed", flood(empty_continuations)),
    Attack("h2: half a header block", "header_seconds", "slow_header", half_a_block),
    Attack("h2: HPACK bomb", "header_bytes_max", "header", flood(hpack_bomb)),
    Attack("h2: SETTINGS", "idle_frames_max", "idle_frames", repeated(frame(SETTINGS, 0, 0))),
    Attack("h2: acknowledged SETTINGS", "idle_frames_max", "idle_frames", repeated(frame(SETTINGS, ACK, 0))),
    Attack("h2: PING", "idle_frames_max", "idle_frames", repeated(frame(PING, 0, 0, bytes(8)))),
    Attack("h2: acknowledged PING", "idle_frames_max", "idle_frames", repeated(frame(PING, ACK, 0, bytes(8)))),
    Attack("h2: PRIORITY", "idle_frames_max", "idle_frames", repeated(frame(PRIORITY, 0, 1, bytes(5)))),
    Attack("h2: empty DATA", "idle_frames_max", "idle_frames",
           repeated(frame(DATA, 0, 1), post(path=b"/take"))),
    Attack("h2: padding alone", "idle_frames_max", "idle_frames",
           repeated(frame(DATA, 8, 1, b"\x03" + bytes(3)), post(path=b"/take"))),
    Attack("h2: DATA of a closed stream", "idle_frames_max", "idle_frames", repeated(
        frame(DATA, 0, 1, b"x"), get(path=b"/wait") + frame(RST_STREAM, 0, 1, bytes(4)))),
    Attack("h2: RST_STREAM of a closed stream", "idle_frames_max", "idle_frames", repeated(
        frame(RST_STREAM, 0, 1, bytes(4)), get(path=b"/wait") + frame(RST_STREAM, 0, 1, bytes(4)))),
    Attack("h2: WINDOW_UPDATE of the connection", "idle_frames_max", "idle_frames",
           repeated(frame(WINDOW_UPDATE, 0, 0, _WINDOW_1))),
    Attack("h2: WINDOW_UPDATE of a stream", "idle_frames_max", "idle_frames",
           repeated(frame(WINDOW_UPDATE, 0, 1, _WINDOW_1), get(path=b"/wait"))),
    Attack("h2: frames of an unknown type", "idle_frames_max", "idle_frames", repeated(frame(0xFE, 0, 0, b"x"))),
    Attack("h2: slow body", "bytes_per_second_min", "body_timeout", slow_body),
    Attack("h2: no window", "bytes_per_second_min", "slow_read", shut_window),
    Attack("h2: no window for small answers", "bytes_per_second_min", "slow_read", shut_window_of_small_answers),
    Attack("h2: windows of a byte", "bytes_per_second_min", "slow_read", window_by_the_byte),
    Attack("h2: unread", "bytes_per_second_min", "slow_read", unread),
    Attack("h2: idle with PINGs", "idle_seconds", "", idle_with_pings),
)  # fmt: skip
