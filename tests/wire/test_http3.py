"""The HTTP/3 codec against aioquic's client, over a network of our own on a virtual clock: no socket, no waiting."""

import heapq
import random
import ssl
from collections.abc import Callable, Sequence
from functools import cache

import pytest
import trustme
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import ErrorCode, FrameType, H3Connection, encode_frame
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, QuicEvent, StopSendingReceived, StreamReset
from hypothesis import given, settings
from hypothesis import strategies as st

from meridian.core.snapshot import Certificate
from meridian.gateway.tls import TlsContexts
from meridian.wire import http3
from meridian.wire.aioquic_hooks import (
    CONNECTION_WINDOW_BYTES,
    STREAM_WINDOW_BYTES,
    UNIDIRECTIONAL_WINDOW_BYTES,
    ServerQuic,
    place_of,
    unsent_bytes,
)
from meridian.wire.events import ConnectionEnded, Data, End, Event, Headers, RequestHead, Reset, Trailers, Writable
from meridian.wire.http3 import UNSENT_BYTES_MAX, Http3Server

GET: Headers = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"Shop.Example.com"), (b":path", b"/a?b")]
POST: Headers = [(b":method", b"POST"), *GET[1:]]
CLIENT, SERVER = ("192.0.2.1", 50000), ("192.0.2.2", 443)


@cache
def authority() -> trustme.CA:
    return trustme.CA()


@cache
def certificates() -> TlsContexts:
    issued = authority().issue_cert("shop.example.com")
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    return TlsContexts([Certificate(("shop.example.com",), chain, issued.private_key_pem.bytes())])


class Pair:
    """A client and our server over a link with a delay and a loss. `run` lets virtual time pass."""

    def __init__(self, *, loss: float = 0.0, seed: int = 0, h3: type[H3Connection] = H3Connection) -> None:
        self.now = 1000.0
        self.chance = random.Random(seed)
        self.loss, self.delay = loss, 0.01
        self.wire: list[tuple[float, int, bool, bytes]] = []  # (arrival, order, to the server, datagram)
        self.order = 0
        trust = authority().cert_pem.bytes()
        configuration = QuicConfiguration(
            alpn_protocols=["h3"], server_name="shop.example.com", cadata=trust, verify_mode=ssl.CERT_REQUIRED
        )
        self.client = QuicConnection(configuration=configuration)
        self.client.connect(SERVER, self.now)
        self.h3 = h3(self.client)
        (chosen,) = certificates().quic_certificates(None)
        server_configuration = http3.configuration()
        server_configuration.certificate, server_configuration.private_key = chosen.leaf, chosen.key
        self.quic = ServerQuic(
            configuration=server_configuration,
            original_destination_connection_id=self.client.original_destination_connection_id,
            retry_source_connection_id=None,
            choose_certificates=certificates().quic_certificates,
            place=(7, 3),
            key=b"k" * 32,
        )
        self.server = Http3Server(self.quic)
        self.on_event: Callable[[Event], None] = lambda event: None
        self.events: list[Event] = []
        self.seen: list[H3Event] = []
        self.transport_seen: list[QuicEvent] = []
        self.run(until=lambda: self.server.handshake_complete)

    def run(self, *, until: Callable[[], object] = lambda: False, seconds: float = 60.0) -> None:
        """Carries datagrams and fires timers until the condition holds, nothing is left to happen, or time is up."""
        end = self.now + seconds
        self._send()
        while not until():
            times = [self.wire[0][0]] if self.wire else []
            times += [timer for timer in (self.client.get_timer(), self.server.deadline()) if timer is not None]
            if not times or min(times) > end or (not self.wire and min(times) > self.now + 10):
                return
            self.now = max(self.now, min(times))
            while self.wire and self.wire[0][0] <= self.now:
                _, _, to_server, datagram = heapq.heappop(self.wire)
                if to_server:
                    self._heard(self.server.receive_datagram(datagram, CLIENT, self.now))
                else:
                    self.client.receive_datagram(datagram, SERVER, self.now)
            if (timer := self.client.get_timer()) is not None and timer <= self.now:
                self.client.handle_timer(self.now)
            if (timer := self.server.deadline()) is not None and timer <= self.now:
                self._heard(self.server.handle_timer(self.now))
            while (event := self.client.next_event()) is not None:
                self.transport_seen.append(event)
                self.seen += self.h3.handle_event(event)
            self._send()

    def _heard(self, events: list[Event]) -> None:
        for event in events:
            self.events.append(event)
            self.on_event(event)

    def _send(self) -> None:
        for to_server, datagrams in (
            (True, self.client.datagrams_to_send(self.now)),
            (False, self.server.datagrams(self.now)),
        ):
            for datagram, _ in datagrams:
                self.order += 1
                if self.chance.random() >= self.loss:
                    heapq.heappush(self.wire, (self.now + self.delay, self.order, to_server, datagram))

    def request(self, fields: Headers = GET, *, end: bool = True) -> int:
        stream_id = self.client.get_next_available_stream_id()
        self.h3.send_headers(stream_id, fields, end_stream=end)
        return stream_id

    def heads(self, stream_id: int) -> list[Headers]:
        return [
            event.headers for event in self.seen if isinstance(event, HeadersReceived) and event.stream_id == stream_id
        ]

    def body(self, stream_id: int) -> bytes:
        return b"".join(
            event.data for event in self.seen if isinstance(event, DataReceived) and event.stream_id == stream_id
        )

    def ended(self, stream_id: int) -> bool:
        return any(
            isinstance(event, DataReceived | HeadersReceived) and event.stream_id == stream_id and event.stream_ended
            for event in self.seen
        )

    def resets(self, stream_id: int) -> list[int]:
        return [
            event.error_code
            for event in self.transport_seen
            if isinstance(event, StreamReset) and event.stream_id == stream_id
        ]

    def stops(self, stream_id: int) -> list[int]:
        return [
            event.error_code
            for event in self.transport_seen
            if isinstance(event, StopSendingReceived) and event.stream_id == stream_id
        ]

    def closed(self) -> list[int]:
        return [event.error_code for event in self.transport_seen if isinstance(event, ConnectionTerminated)]


class Echo:
    """Answers each body with itself; takes at most `step` bytes at a time and only while the client takes them."""

    def __init__(self, pair: Pair, step: int = 1 << 20) -> None:
        self.pair, self.step = pair, step
        self.waiting: dict[int, bytearray] = {}
        self.complete: set[int] = set()
        self.held_max = 0
        pair.on_event = self

    def __call__(self, event: Event) -> None:
        server = self.pair.server
        if isinstance(event, RequestHead):
            self.waiting[event.stream_id] = bytearray()
            server.respond(event.stream_id, 200, [(b"content-type", b"x/y")], end=False)
        elif isinstance(event, Data):
            self.waiting[event.stream_id] += event.data
        elif isinstance(event, End):
            self.complete.add(event.stream_id)
        if isinstance(event, Data | End | Writable):
            self.pump(event.stream_id)
        self.held_max = max(self.held_max, sum(map(len, self.waiting.values())))

    def pump(self, stream_id: int) -> None:
        data, server = self.waiting[stream_id], self.pair.server
        while data and server.writable(stream_id):
            piece = bytes(data[: self.step])
            del data[: self.step]
            server.send_data(stream_id, piece, end=False)
            server.consumed(stream_id, len(piece))
        if not data and stream_id in self.complete:
            self.complete.discard(stream_id)
            server.send_data(stream_id, b"", end=True)


def test_a_request_and_its_response() -> None:
    pair = Pair()
    stream_id = pair.request([*GET, (b"cookie", b"a=1"), (b"cookie", b"b=2"), (b"te", b"trailers")])
    pair.run()
    head, end = pair.events
    assert head == RequestHead(
        stream_id, b"GET", b"https", b"shop.example.com", b"/a?b", [(b"cookie", b"a=1; b=2")], False, 0, b"3"
    )
    assert end == End(stream_id)
    hop = [(name, b"x") for name in (b"connection", b"keep-alive", b"transfer-encoding", b"upgrade")]
    pair.server.inform(stream_id, 103, [(b"link", b"</a>"), *hop])
    pair.server.respond(stream_id, 200, [(b"content-type", b"text/plain"), (b"x-own", b"y" * 300), *hop], end=False)
    pair.server.send_data(stream_id, b"hello", end=False)
    pair.server.send_data(stream_id, b" world", end=True)
    pair.run()
    assert pair.heads(stream_id) == [
        [(b":status", b"103"), (b"link", b"</a>")],
        [(b":status", b"200"), (b"content-type", b"text/plain"), (b"x-own", b"y" * 300)],
    ]
    assert pair.body(stream_id) == b"hello world"
    assert pair.ended(stream_id)
    assert not pair.server._streams
    assert not pair.quic._streams.keys() & {stream_id}


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
def test_no_body_follows_where_none_may(method: bytes, status: int) -> None:
    pair = Pair()
    stream_id = pair.request([(b":method", method), *GET[1:]])
    pair.run()
    pair.server.respond(stream_id, status, [], end=False)
    pair.server.send_data(stream_id, b"nothing", end=True)
    pair.run()
    assert pair.body(stream_id) == b""
    assert pair.ended(stream_id)


def test_trailers_both_ways() -> None:
    pair = Pair()
    stream_id = pair.request(POST, end=False)
    pair.h3.send_data(stream_id, b"x", end_stream=False)
    pair.h3.send_headers(stream_id, [(b"x-sum", b"1")], end_stream=True)
    pair.run()
    assert pair.events[1:] == [Data(stream_id, b"x"), Trailers(stream_id, [(b"x-sum", b"1")]), End(stream_id)]
    pair.server.respond(stream_id, 200, [], end=False)
    pair.server.send_data(stream_id, b"y", end=False)
    pair.server.send_trailers(stream_id, [(b"grpc-status", b"0"), (b"connection", b"x")])
    pair.run()
    assert pair.heads(stream_id)[1:] == [[(b"grpc-status", b"0")]]
    assert pair.ended(stream_id)


@pytest.mark.parametrize(
    "fields",
    [
        [*GET, (b"connection", b"close")],
        [*GET, (b"te", b"gzip")],
        [*GET, (b"X-Upper", b"1")],
        [*GET, (b"x", b"a\r\nb: c")],
        [*GET, (b"host", b"other.example.com")],
        [*GET[:3], (b":path", b"relative")],
        [*GET[:2], (b":authority", b"user@shop.example.com"), GET[3]],
        [GET[0], *GET[2:]],
        [*GET, (b"content-length", b"1")],
        [*POST, (b"content-length", b"x")],
    ],
)
def test_a_malformed_request_costs_only_its_stream(fields: Headers) -> None:
    pair = Pair()
    stream_id = pair.request(fields)
    pair.run()
    assert pair.events == []
    assert pair.resets(stream_id) == [ErrorCode.H3_MESSAGE_ERROR]
    pair.request()
    pair.run()
    assert isinstance(pair.events[0], RequestHead)
    assert pair.closed() == []


@pytest.mark.parametrize(("declared", "sent"), [(b"5", b"hell"), (b"3", b"hello")])
def test_a_body_that_belies_its_length_resets_its_stream(declared: bytes, sent: bytes) -> None:
    pair = Pair()
    stream_id = pair.request([*POST, (b"content-length", declared)], end=False)
    pair.run()
    pair.h3.send_data(stream_id, sent, end_stream=True)
    pair.run()
    assert isinstance(pair.events[-1], Reset)
    assert not any(isinstance(event, End) for event in pair.events)
    assert pair.resets(stream_id) == [ErrorCode.H3_MESSAGE_ERROR]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([(b":method", b"CONNECT"), GET[2]], b"501"),
        ([*GET, *((b"x-%d" % n, b"1") for n in range(101))], b"431"),
        ([*GET, *((b"x-%d" % n, b"y" * 700) for n in range(90))], b"431"),
    ],
)
def test_unwanted_requests_are_answered(fields: Headers, status: bytes) -> None:
    pair = Pair()
    stream_id = pair.request(fields)
    pair.run()
    assert pair.events == []
    assert (b":status", status) in pair.heads(stream_id)[0]
    assert pair.ended(stream_id)


def test_a_header_block_is_bounded_before_it_is_buffered() -> None:
    pair = Pair()
    stream_id = pair.client.get_next_available_stream_id()
    pair.client.send_stream_data(stream_id, encode_uint_var(FrameType.HEADERS) + encode_uint_var(70_000) + b"x" * 100)
    pair.run()
    assert pair.resets(stream_id) == [ErrorCode.H3_MESSAGE_ERROR]


def test_credit_comes_only_from_consumed() -> None:
    pair = Pair()
    streams = [pair.request(POST, end=False) for _ in range(6)]
    for stream_id in streams:
        pair.h3.send_data(stream_id, b"x" * (2 * STREAM_WINDOW_BYTES), end_stream=True)
    pair.run(seconds=5)
    got = dict.fromkeys(streams, 0)
    for event in pair.events:
        if isinstance(event, Data):
            got[event.stream_id] += len(event.data)
    assert max(got.values()) <= STREAM_WINDOW_BYTES
    assert CONNECTION_WINDOW_BYTES - 4000 < sum(got.values()) <= CONNECTION_WINDOW_BYTES
    seen = len(pair.events)
    first = streams[0]
    pair.server.consumed(first, got[first])
    pair.run(seconds=5)
    more = sum(len(event.data) for event in pair.events[seen:] if isinstance(event, Data))
    assert 0 < more <= got[first] + 1000  # frame headers are not body
    for _ in range(40):
        for event in pair.events[seen:]:
            if isinstance(event, Data):
                got[event.stream_id] += len(event.data)
        seen = len(pair.events)
        for stream_id, count in got.items():
            if stream_id != first or _:
                pair.server.consumed(stream_id, count)
            got[stream_id] = 0
        pair.run(seconds=1)
    assert sum(isinstance(event, End) for event in pair.events) == 6


def test_streams_that_end_early_give_their_credit_back_and_lose_no_response() -> None:
    pair = Pair()
    pair.on_event = lambda event: (
        pair.server.respond(event.stream_id, 413, [(b"content-length", b"0")], end=True)
        if isinstance(event, RequestHead)
        else None
    )
    for _ in range(20):
        stream_id = pair.request(POST, end=False)
        pair.h3.send_data(stream_id, b"x" * 200_000, end_stream=False)
        pair.run(seconds=5)
        assert pair.ended(stream_id)
        assert pair.stops(stream_id) == [ErrorCode.H3_NO_ERROR]
        assert pair.resets(stream_id) == []
        pair.client.reset_stream(stream_id, ErrorCode.H3_NO_ERROR)  # what a client does when it is told to stop
        pair.run(seconds=5)
    assert pair.quic.unconsumed == 0
    assert not pair.server._streams
    assert pair.client._remote_max_data - pair.client._remote_max_data_used > CONNECTION_WINDOW_BYTES // 4


@pytest.mark.parametrize(("loss", "seed"), [(0.0, 0), (0.05, 1), (0.05, 2), (0.2, 3)])
def test_everything_arrives_whatever_is_lost(loss: float, seed: int) -> None:
    pair = Pair(loss=loss, seed=seed)
    echo = Echo(pair, step=5000)
    bodies = {pair.request(POST, end=False): bytes([number]) * (number * 3000) for number in range(1, 15)}
    for stream_id, body in bodies.items():
        pair.h3.send_data(stream_id, body, end_stream=True)
    pair.run(until=lambda: all(pair.ended(stream_id) for stream_id in bodies), seconds=600)
    for stream_id, body in bodies.items():
        assert pair.body(stream_id) == body
    assert echo.held_max <= CONNECTION_WINDOW_BYTES


def test_a_large_echo_is_bounded_on_both_sides() -> None:
    pair = Pair()
    echo = Echo(pair, step=16384)
    body = random.Random(5).randbytes(4 << 20)
    stream_id = pair.request(POST, end=False)
    unsent_max = 0
    for start in range(0, len(body), 1 << 16):
        pair.h3.send_data(stream_id, body[start : start + (1 << 16)], end_stream=start + (1 << 16) >= len(body))
        pair.run(seconds=0.02)
        if stream_id in pair.server._streams:
            unsent_max = max(unsent_max, unsent_bytes(pair.server._streams[stream_id].quic))
    pair.run(until=lambda: pair.ended(stream_id), seconds=600)
    assert pair.body(stream_id) == body
    assert echo.held_max <= STREAM_WINDOW_BYTES
    assert unsent_max <= UNSENT_BYTES_MAX + 16384 + 16


def test_writable_follows_what_the_client_acknowledges() -> None:
    pair = Pair()
    stream_id = pair.request()
    pair.run()
    pair.events.clear()
    pair.server.respond(stream_id, 200, [], end=False)
    assert pair.server.writable(stream_id)
    pair.server.send_data(stream_id, b"x" * UNSENT_BYTES_MAX, end=False)
    assert not pair.server.writable(stream_id)
    pair.run()
    assert pair.events == [Writable(stream_id)]
    assert pair.server.writable(stream_id)


def test_resets_both_ways() -> None:
    pair = Pair()
    ours, theirs, stopped, early = (pair.request(POST, end=False) for _ in range(4))
    pair.run()
    pair.events.clear()
    for stream_id in (ours, theirs, stopped):
        pair.server.respond(stream_id, 200, [], end=False)
        pair.server.send_data(stream_id, b"x" * 100, end=False)
    pair.run()
    pair.server.reset(ours, "the upstream failed")
    pair.client.reset_stream(theirs, ErrorCode.H3_REQUEST_CANCELLED)
    pair.client.stop_stream(stopped, ErrorCode.H3_REQUEST_CANCELLED)
    pair.client.stop_stream(early, ErrorCode.H3_REQUEST_CANCELLED)
    pair.client.reset_stream(early, ErrorCode.H3_REQUEST_CANCELLED)
    never = pair.client.get_next_available_stream_id()
    pair.client.send_stream_data(never, b"")
    pair.client.reset_stream(never, ErrorCode.H3_REQUEST_CANCELLED)
    pair.run()
    assert sorted(event.stream_id for event in pair.events if isinstance(event, Reset)) == [theirs, stopped, early]
    assert pair.resets(ours) == [ErrorCode.H3_INTERNAL_ERROR]
    assert pair.closed() == []
    for stream_id in (ours, theirs, stopped, early, never, 4000):  # all no-ops now
        pair.server.respond(stream_id, 200, [], end=False)
        pair.server.send_data(stream_id, b"x", end=True)
        pair.server.send_trailers(stream_id, [(b"a", b"b")])
        pair.server.consumed(stream_id, 1)
        pair.server.reset(stream_id, "again")
        assert not pair.server.writable(stream_id)
    for stream_id in (ours, stopped):
        pair.client.reset_stream(stream_id, ErrorCode.H3_NO_ERROR)
    pair.run()
    assert not pair.server._streams


def test_rapid_reset_ends_the_connection_but_only_beyond_its_budget() -> None:
    pair = Pair()

    def burst(count: int) -> None:
        for _ in range(count):
            pair.client.reset_stream(pair.request(POST, end=False), ErrorCode.H3_REQUEST_CANCELLED)
        pair.run(seconds=0.1)

    for _ in range(40):  # 90 a second for four seconds, and then all at once
        burst(9)
    assert pair.quic.end_reason is None
    for _ in range(6):
        burst(60)
    pair.run(seconds=2)
    assert pair.closed() == [ErrorCode.H3_EXCESSIVE_LOAD]


def test_a_broken_connection_resets_its_streams_at_once() -> None:
    pair = Pair()
    stream_id = pair.request(POST, end=False)
    pair.run()
    pair.events.clear()
    pair.client.send_stream_data(2, encode_frame(FrameType.DATA, b"x"))  # never allowed on the control stream
    pair.run(until=lambda: pair.events, seconds=1)
    assert [type(event) for event in pair.events] == [Reset]
    pair.run()
    assert isinstance(pair.events[-1], ConnectionEnded)
    assert pair.closed() == [ErrorCode.H3_FRAME_UNEXPECTED]
    assert pair.server.ended
    assert pair.server.deadline() is None
    pair.server.respond(stream_id, 200, [], end=True)


def test_a_giant_settings_frame_is_not_buffered() -> None:
    class Mute(H3Connection):
        def _init_connection(self) -> None:
            """Opens no streams: the test does."""

        def handle_event(self, event: QuicEvent) -> list[H3Event]:
            return []

    pair = Pair(h3=Mute)
    pair.client.send_stream_data(2, b"\x00\x04" + encode_uint_var(1 << 20) + bytes(100_000))
    pair.run(seconds=2)
    assert pair.closed() == [ErrorCode.H3_EXCESSIVE_LOAD]


def test_a_gap_in_a_unidirectional_stream_does_not_open_its_window() -> None:
    pair = Pair()
    stream_id = pair.client.get_next_available_stream_id(is_unidirectional=True)
    pair.client.send_stream_data(stream_id, b"\x21" + bytes(16_000))  # a reserved type: dropped as it comes
    stream = pair.client._streams[stream_id]
    stream.sender._pending.subtract(0, 10_000)  # the beginning never leaves
    pair.run(seconds=1)
    assert stream.max_stream_data_remote == UNIDIRECTIONAL_WINDOW_BYTES
    stream.sender._pending.add(0, 10_000)
    stream.sender.buffer_is_empty = False
    pair.run(seconds=1)
    assert stream.max_stream_data_remote > UNIDIRECTIONAL_WINDOW_BYTES


def test_a_connection_with_an_open_request_is_kept_while_its_client_lives() -> None:
    pair = Pair()
    stream_id = pair.request()
    pair.run()
    began = pair.now
    while pair.now < began + 5 * http3.IDLE_SECONDS:
        deadline = pair.server.deadline()
        assert deadline is not None and not pair.server.ended, "nothing is said, and it is kept"
        pair.now = deadline
        pair.run(seconds=1)
    pair.server.respond(stream_id, 204, [], end=True)
    pair.run()
    assert pair.heads(stream_id) == [[(b":status", b"204")]]
    pair.request()
    pair.run()
    pair.loss, began = 1.0, pair.now  # it vanishes
    while (deadline := pair.server.deadline()) is not None and not pair.server.ended:
        pair.now = deadline
        pair._heard(pair.server.handle_timer(pair.now))
        pair.server.datagrams(pair.now)
    assert pair.now < began + 2 * http3.IDLE_SECONDS


def test_idle_connections_end() -> None:
    pair = Pair()
    pair.run()
    pair.wire.clear()
    pair.client.close()  # the client vanishes without a word
    deadline = pair.server.deadline()
    assert deadline is not None
    assert deadline <= pair.now + http3.IDLE_SECONDS
    events = pair.server.handle_timer(deadline)
    assert [type(event) for event in events] == [ConnectionEnded]
    assert pair.server.datagrams(deadline) == []


def goaways(pair: Pair) -> list[int]:
    """The ids that our control stream has said GOAWAY with; aioquic's client skips them."""
    raw = b"".join(
        event.data for event in pair.transport_seen if getattr(event, "stream_id", None) == 3 and hasattr(event, "data")
    )
    ids = []
    position = raw.index(b"\x07")
    while position < len(raw):
        length = raw[position + 1]
        value = raw[position + 2 : position + 2 + length]
        ids.append(int.from_bytes(value, "big") & ((1 << (8 * length - 2)) - 1))
        position += 2 + length
    return ids


def test_drain_says_goaway_twice_and_loses_no_request() -> None:
    pair = Pair()
    first = pair.request()
    pair.run()
    pair.transport_seen = [event for event in pair.transport_seen if getattr(event, "stream_id", None) != 3]
    pair.server.shut_down()
    pair.server.shut_down()  # a drain and a close: the second changes nothing
    assert not pair.server.closing
    second = pair.request()  # on its way while the first GOAWAY is
    pair.run()
    assert [event.stream_id for event in pair.events if isinstance(event, RequestHead)] == [first, second]
    assert goaways(pair) == [2**62 - 4, second + 4]
    late = pair.request()
    pair.run()
    assert pair.resets(late) == [ErrorCode.H3_REQUEST_REJECTED]
    assert not pair.server.closing
    for stream_id in (first, second):
        pair.server.respond(stream_id, 200, [], end=False)
        pair.server.send_data(stream_id, b"done", end=True)
    assert not pair.server.closing  # nothing has arrived yet
    pair.run()
    assert pair.body(first) == pair.body(second) == b"done"
    assert pair.server.closing
    pair.server.close()
    pair.run()
    assert pair.closed() == [ErrorCode.H3_NO_ERROR]


def test_connection_ids_carry_slot_and_generation() -> None:
    pair = Pair()
    pair.run()
    issued = [connection_id for connection_id, is_new in pair.server.connection_ids if is_new]
    assert len(issued) >= 7
    assert {place_of(connection_id) for connection_id in (*issued, pair.quic.host_cid)} == {(7, 3)}
    assert len(set(issued)) == len(issued)
    stream_id = pair.request()
    Echo(pair)
    pair.client.change_connection_id()
    pair.run()
    assert pair.ended(stream_id)
    assert any(not is_new for _, is_new in pair.server.connection_ids)


@given(st.lists(st.binary(min_size=1, max_size=60), max_size=8))
@settings(max_examples=100, deadline=None)
def test_garbage_in_a_request_stream_never_raises(pieces: Sequence[bytes]) -> None:
    pair = Pair()
    for number, piece in enumerate(pieces):
        pair.client.send_stream_data(4 * (number % 3), piece, end_stream=False)
    pair.run(seconds=1)
    pair.server.respond(0, 200, [], end=True)
    pair.run(seconds=1)


@given(
    sizes=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 120_000)), min_size=1, max_size=12),
    loss=st.sampled_from([0.0, 0.03]),
    step=st.sampled_from([700, 30_000, 1 << 20]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=25, deadline=None)
def test_flow_control_never_deadlocks_and_never_reorders(
    sizes: list[tuple[int, int]], loss: float, step: int, seed: int
) -> None:
    pair = Pair(loss=loss, seed=seed)
    Echo(pair, step)
    streams = [pair.request(POST, end=False) for _ in range(4)]
    wanted = dict.fromkeys(streams, b"")
    for number, (which, size) in enumerate(sizes):
        data = bytes([number]) * size
        wanted[streams[which]] += data
        pair.h3.send_data(streams[which], data, end_stream=False)
        pair.run(seconds=0.005)
    for stream_id in streams:
        pair.h3.send_data(stream_id, b"", end_stream=True)
    pair.run(until=lambda: all(pair.ended(stream_id) for stream_id in streams), seconds=600)
    for stream_id in streams:
        assert pair.body(stream_id) == wanted[stream_id]
