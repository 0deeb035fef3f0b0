"""What strangers may say in HTTP: messages that are broken by chance, straight into the codecs, and good requests in
between, all of which are answered. Nothing raises, nothing grows, nothing takes long.

The seeds are fixed, so a failure repeats. `scripts/prove` multiplies the numbers (tests/scale.py): a million messages.
"""

import random
import time
from collections.abc import Callable
from functools import partial

import pylsqpack
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import FrameType, encode_frame
from tests.conformance.malformed_http1 import HARMLESS, REFUSED
from tests.conformance.violations_http2 import ACK, CASES, PREFACE, SETTINGS, frame, get
from tests.mutating import mutated
from tests.scale import TIMES
from tests.support import resident_bytes
from tests.wire.test_http3 import GET, POST, Pair

from meridian.wire.codec import ServerCodec
from meridian.wire.events import Data, Event, RequestHead
from meridian.wire.http1 import Http1Server
from meridian.wire.http2 import Http2Server
from meridian.wire.http3 import Http3Server

HTTP1, HTTP2, HTTP3 = 45_500 * TIMES, 4_250 * TIMES, 250 * TIMES
GOOD_EVERY = 50
GROWTH_BYTES_MAX = 16 << 20
SECONDS_MAX = 1.0
"""Of the processor, for one message: what else the machine does is no matter of ours."""

GREETING = PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0)


def answer(codec: ServerCodec | Http3Server, events: list[Event]) -> int:
    """Answers what is a request, credits what is a body; how many were answered."""
    heads = 0
    for event in events:
        if isinstance(event, RequestHead):
            heads += 1
            codec.respond(event.stream_id, 200, [(b"x", b"y")], end=False)
            codec.send_data(event.stream_id, b"ok", end=True)
        elif isinstance(event, Data):
            codec.consumed(event.stream_id, len(event.data))
    return heads


def say(codec: ServerCodec, data: bytes, chance: random.Random) -> int:
    """In two pieces."""
    cut = chance.randrange(len(data) + 1)
    heads = answer(codec, codec.receive(data[:cut])) + answer(codec, codec.receive(data[cut:]))
    codec.take_output()
    codec.receive_eof()
    return heads


def fuzz(count: int, seeds: list[bytes], play: Callable[[bytes, random.Random], int], good: Callable[[], None]) -> None:
    """Plays so many; `play` gives how many requests a message was taken for."""
    chance, taken, before = random.Random(2026), 0, 0
    for turn in range(count):
        began = time.process_time()
        data = mutated(chance, seeds)
        taken += play(data, chance)
        assert time.process_time() - began < SECONDS_MAX, data
        if turn % GOOD_EVERY == 0:
            good()
        if turn == count // 10:
            before = resident_bytes()
    assert count / 50 < taken, "some are still requests"
    assert resident_bytes() - before < GROWTH_BYTES_MAX


def test_http1() -> None:
    def good() -> None:
        codec = Http1Server(b"http")
        assert answer(codec, codec.receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")) == 1
        assert codec.take_output().startswith(b"HTTP/1.1 200 OK\r\n")

    seeds = [case.raw for case in (*REFUSED, *HARMLESS) if len(case.raw) < 2000]
    seeds += [case.raw for case in HARMLESS] * 10
    fuzz(HTTP1, seeds, lambda data, chance: say(Http1Server(b"http"), data, chance), good)


def test_http2() -> None:
    def good() -> None:
        codec = Http2Server(lambda: 0.0)
        assert answer(codec, codec.receive(GREETING + get())) == 1
        assert codec.take_output().endswith(b"ok")

    def play(data: bytes, chance: random.Random) -> int:
        return say(Http2Server(lambda: 0.0), GREETING + data, chance)

    fuzz(HTTP2, [case.raw for case in CASES if not case.bare and len(case.raw) < 2000], play, good)


def test_http3() -> None:
    """Streams of connections that go on while they are good; every datagram is carried, on a clock of its own."""
    encoder = pylsqpack.Encoder()
    blocks = [
        encode_frame(FrameType.HEADERS, encoder.encode(0, fields)[1])
        for fields in (GET, POST, [*GET, (b"x", b"y" * 50)], [*POST, (b"content-length", b"5")], GET[1:])
    ]
    body = encode_frame(FrameType.DATA, b"hello")
    seeds = [
        *blocks,
        *(block + body for block in blocks),
        blocks[1] + body + blocks[0],
        blocks[1] + encode_frame(0x21, b"x") + body,
    ]
    seeds += [
        blocks[1] + encode_uint_var(FrameType.DATA) + encode_uint_var(2**40),
        encode_frame(FrameType.SETTINGS, b"\6\0"),
    ]
    pairs: list[Pair] = []

    def answered(pair: Pair, event: Event) -> None:
        answer(pair.server, [event])

    def pair_of() -> Pair:
        if not pairs or pairs[0].quic.end_reason is not None or pairs[0].client.get_next_available_stream_id() > 2000:
            pair = Pair()
            pair.on_event = partial(answered, pair)
            pairs[:] = [pair]
        return pairs[0]

    def play(data: bytes, chance: random.Random) -> int:
        pair = pair_of()
        before = len(pair.events)
        client = pair.client
        client.send_stream_data(client.get_next_available_stream_id(), data, end_stream=chance.random() < 0.9)
        pair.run(seconds=0.05)
        found = sum(isinstance(event, RequestHead) for event in pair.events[before:])
        pair.events.clear()
        pair.seen.clear()
        pair.transport_seen.clear()
        return found

    def good() -> None:
        pair = pair_of()
        stream_id = pair.request()
        pair.run(until=lambda: pair.body(stream_id) == b"ok" or pair.quic.end_reason is not None, seconds=5)
        assert pair.body(stream_id) == b"ok" or pair.quic.end_reason is not None

    fuzz(HTTP3, seeds, play, good)
