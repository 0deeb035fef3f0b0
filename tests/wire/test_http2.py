"""The HTTP/2 codec against the h2 library as the client, with no socket in between."""

from collections.abc import Iterable

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.events import Event as ClientEvent
from h2.settings import SettingCodes
from hyperframe.frame import HeadersFrame, PingFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from meridian.wire.events import (
    ConnectionEnded,
    Data,
    End,
    Event,
    Headers,
    RequestHead,
    Reset,
    Trailers,
    Writable,
)
from meridian.wire.http2 import CONNECTION_WINDOW_BYTES, Http2Server
from meridian.wire.http2_streams import STREAM_WINDOW_BYTES

GET: Headers = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"Shop.Example.com"), (b":path", b"/a?b")]
POST: Headers = [(b":method", b"POST"), *GET[1:]]


class Pair:
    """A client and our server, joined by `exchange`; the clock stands still unless a test moves it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.server = Http2Server(lambda: self.now)
        self.client = H2Connection(
            H2Configuration(client_side=True, validate_outbound_headers=False, normalize_outbound_headers=False)
        )
        self.client.initiate_connection()
        self.seen: list[ClientEvent] = []
        assert self.exchange() == []

    def exchange(self) -> list[Event]:
        """Carries bytes both ways until nothing moves; returns the server's events."""
        events: list[Event] = []
        while True:
            to_server, to_client = self.client.data_to_send(), self.server.take_output()
            if not to_server and not to_client:
                return events
            if to_client:
                self.seen += self.client.receive_data(to_client)
            if to_server:
                events += self.server.receive(to_server)

    def request(self, fields: Headers = GET, *, end: bool = True) -> int:
        stream_id = self.client.get_next_available_stream_id()
        self.client.send_headers(stream_id, fields, end_stream=end)
        return stream_id

    def of(self, kind: type[ClientEvent], stream_id: int | None = None) -> list[ClientEvent]:
        return [
            event
            for event in self.seen
            if isinstance(event, kind) and stream_id in (None, getattr(event, "stream_id", None))
        ]

    def body(self, stream_id: int) -> bytes:
        return b"".join(event.data or b"" for event in self.of(DataReceived, stream_id))  # type: ignore[attr-defined] # filtered above

    def codes(self, kind: type[ClientEvent], stream_id: int | None = None) -> list[int]:
        return [event.error_code for event in self.of(kind, stream_id)]  # type: ignore[attr-defined] # both kinds used have one


def test_a_request_and_its_response() -> None:
    pair = Pair()
    stream_id = pair.request([*GET, (b"accept", b"*/*"), (b"te", b"trailers")])
    head, end = pair.exchange()
    assert head == RequestHead(
        stream_id, b"GET", b"https", b"shop.example.com", b"/a?b", [(b"accept", b"*/*")], False, 0, b"2"
    )
    assert end == End(stream_id)
    pair.server.respond(stream_id, 200, [(b"content-type", b"text/plain"), (b"x-long", b"y" * 300)], end=False)
    pair.server.send_data(stream_id, b"hello", end=False)
    pair.server.send_data(stream_id, b" world", end=True)
    pair.exchange()
    (response,) = pair.of(ResponseReceived)
    assert response.headers == [(b":status", b"200"), (b"content-type", b"text/plain"), (b"x-long", b"y" * 300)]  # type: ignore[attr-defined] # a ResponseReceived
    assert pair.body(stream_id) == b"hello world"
    assert len(pair.of(StreamEnded)) == 1


def test_every_split_of_the_bytes_gives_the_same_events() -> None:
    pair = Pair()
    pair.request([*POST, (b"content-length", b"5")], end=False)
    pair.client.send_data(1, b"hello", end_stream=True)
    pair.request()
    raw = pair.client.data_to_send()

    def joined(events: Iterable[Event]) -> list[object]:
        return [event for event in events if not isinstance(event, Data)] + [
            b"".join(event.data for event in events if isinstance(event, Data))
        ]

    preface = H2Connection(H2Configuration(client_side=True))
    preface.initiate_connection()
    raw = preface.data_to_send() + raw
    whole = joined(Http2Server(lambda: 0.0).receive(raw))
    assert len(whole) == 5
    for cut in range(1, len(raw)):
        server = Http2Server(lambda: 0.0)
        assert joined([*server.receive(raw[:cut]), *server.receive(raw[cut:])]) == whole
    server = Http2Server(lambda: 0.0)
    assert joined([event for byte in raw for event in server.receive(bytes([byte]))]) == whole


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([*GET, (b"cookie", b"a=1"), (b"cookie", b"b=2")], [(b"cookie", b"a=1; b=2")]),
        ([*GET, (b"host", b"shop.example.COM")], []),
        ([*GET[:2], GET[3], (b"host", b"Shop.example.com")], []),
        ([*GET, (b"expect", b"100-continue")], []),
    ],
)
def test_fields_are_brought_into_one_form(fields: Headers, expected: Headers) -> None:
    pair = Pair()
    pair.request(fields)
    head = pair.exchange()[0]
    assert isinstance(head, RequestHead)
    assert head.headers == expected
    assert head.authority == b"shop.example.com"


@pytest.mark.parametrize(
    "fields",
    [
        [*GET, (b"connection", b"close")],
        [*GET, (b"transfer-encoding", b"chunked")],
        [*GET, (b"te", b"gzip")],
        [*GET, (b"X-Upper", b"1")],
        [*GET, (b"x y", b"1")],
        [*GET, (b"x", b"a\r\nb: c")],
        [*GET, (b"x", b"a\0b")],
        [*GET, (b"x", b" padded")],
        [*GET, (b"x", b"padded\t")],
        [*GET, (b":path", b"/again")],
        [*GET, (b"x", b"1"), (b":late", b"1")],
        [*GET, (b":protocol", b"websocket")],
        [*GET, (b"host", b"other.example.com")],
        [*GET[:3], (b":path", b"")],
        [*GET[:3], (b":path", b"relative")],
        [*GET[:3], (b":path", b"/a b")],
        [*GET[:3], (b":path", b"*")],
        [*GET[:2], (b":authority", b"user@shop.example.com"), GET[3]],
        [*GET[:2], GET[3]],
        [GET[0], *GET[2:]],
        [(b":method", b"G T"), *GET[1:]],
        [*GET, (b"content-length", b"1")],
        [*POST, (b"content-length", b"1"), (b"content-length", b"1")],
        [*POST, (b"content-length", b"+1")],
    ],
)
def test_a_malformed_request_costs_only_its_stream(fields: Headers) -> None:
    pair = Pair()
    stream_id = pair.request(fields)
    assert pair.exchange() == []
    assert pair.codes(StreamReset, stream_id) == [ErrorCodes.PROTOCOL_ERROR]
    pair.request()
    assert isinstance(pair.exchange()[0], RequestHead)


@pytest.mark.parametrize(
    ("fields", "status"),
    [([(b":method", b"CONNECT"), GET[2]], b"501"), ([*GET, *((b"x-%d" % n, b"1") for n in range(101))], b"431")],
)
def test_unwanted_requests_are_answered(fields: Headers, status: bytes) -> None:
    pair = Pair()
    pair.request(fields)
    assert pair.exchange() == []
    (response,) = pair.of(ResponseReceived)
    assert (b":status", status) in response.headers  # type: ignore[attr-defined] # a ResponseReceived
    assert pair.server.receive_eof() == [ConnectionEnded("the client closed the connection")]


@pytest.mark.parametrize(("declared", "sent"), [(b"5", b"hell"), (b"3", b"hello")])
def test_a_body_that_belies_its_length_resets_its_stream(declared: bytes, sent: bytes) -> None:
    pair = Pair()
    stream_id = pair.request([*POST, (b"content-length", declared)], end=False)
    pair.client.send_data(stream_id, sent, end_stream=True)
    events = pair.exchange()
    assert isinstance(events[-1], Reset)
    assert End(stream_id) not in events
    assert pair.codes(StreamReset, stream_id) == [ErrorCodes.PROTOCOL_ERROR]
    pair.request()
    assert isinstance(pair.exchange()[0], RequestHead)


def test_trailers_both_ways() -> None:
    pair = Pair()
    stream_id = pair.request(POST, end=False)
    pair.client.send_data(stream_id, b"x")
    pair.client.send_headers(stream_id, [(b"x-sum", b"1")], end_stream=True)
    assert pair.exchange()[1:] == [Data(stream_id, b"x"), Trailers(stream_id, [(b"x-sum", b"1")]), End(stream_id)]
    pair.server.respond(stream_id, 200, [], end=False)
    pair.server.send_data(stream_id, b"y", end=False)
    pair.server.send_trailers(stream_id, [(b"grpc-status", b"0"), (b"connection", b"x")])
    pair.exchange()
    (trailers,) = pair.of(TrailersReceived)
    assert trailers.headers == [(b"grpc-status", b"0")]  # type: ignore[attr-defined] # a TrailersReceived
    assert len(pair.of(StreamEnded)) == 1


def test_empty_trailers_and_trailers_behind_held_data_end_the_response() -> None:
    pair = Pair()
    first, second = pair.request(), pair.request()
    pair.exchange()
    pair.server.respond(first, 200, [], end=False)
    pair.server.send_trailers(first, [])
    pair.server.respond(second, 200, [], end=False)
    pair.server.send_data(second, b"x" * 100_000, end=False)
    pair.server.send_trailers(second, [(b"x-sum", b"1")])
    pair.exchange()
    assert [event.stream_id for event in pair.of(StreamEnded)] == [first]  # type: ignore[attr-defined] # a StreamEnded
    open_windows(pair, [second])
    assert len(pair.body(second)) == 100_000
    assert len(pair.of(TrailersReceived, second)) == 1


def test_malformed_trailers_reset_the_stream() -> None:
    pair = Pair()
    stream_id = pair.request(POST, end=False)
    pair.client.send_headers(stream_id, [(b":status", b"200")], end_stream=True)
    events = pair.exchange()
    assert isinstance(events[0], RequestHead)
    assert isinstance(events[1], Reset)
    assert len(events) == 2


def test_fields_of_the_upstream_connection_do_not_go_on() -> None:
    pair = Pair()
    stream_id = pair.request()
    pair.exchange()
    hop: Headers = [
        (b"connection", b"x"),
        (b"keep-alive", b"x"),
        (b"transfer-encoding", b"chunked"),
        (b"upgrade", b"h2c"),
    ]
    pair.server.inform(stream_id, 103, [(b"link", b"</a>"), *hop])
    pair.server.inform(stream_id, 101, hop)
    pair.server.respond(stream_id, 200, [*hop, (b"x", b"1")], end=True)
    pair.exchange()
    (early,) = pair.of(InformationalResponseReceived)
    (response,) = pair.of(ResponseReceived)
    assert early.headers == [(b":status", b"103"), (b"link", b"</a>")]  # type: ignore[attr-defined] # as filtered
    assert response.headers == [(b":status", b"200"), (b"x", b"1")]  # type: ignore[attr-defined] # as filtered


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
def test_no_body_follows_where_none_may(method: bytes, status: int) -> None:
    pair = Pair()
    stream_id = pair.request([(b":method", method), *GET[1:]])
    pair.exchange()
    pair.server.respond(stream_id, status, [(b"content-length", b"7")], end=False)
    pair.server.send_data(stream_id, b"nothing", end=True)
    pair.exchange()
    assert pair.body(stream_id) == b""
    assert len(pair.of(StreamEnded)) == 1


def test_credit_comes_only_from_consumed() -> None:
    pair = Pair()
    stream_id = pair.request(POST, end=False)
    pair.exchange()
    sent = 0
    while (room := pair.client.local_flow_control_window(stream_id)) > 0:
        size = min(room, 16384)
        pair.client.send_data(stream_id, b"x" * size)
        sent += size
        pair.exchange()
    assert sent == STREAM_WINDOW_BYTES
    pair.server.consumed(stream_id, STREAM_WINDOW_BYTES // 2)
    pair.exchange()
    assert pair.client.local_flow_control_window(stream_id) == STREAM_WINDOW_BYTES // 2


def test_a_stream_that_ends_early_gives_its_credit_back() -> None:
    pair = Pair()
    for _ in range(40):  # 40 times the stream's window is ten times the connection's
        stream_id = pair.request(POST, end=False)
        pair.exchange()
        while (room := min(pair.client.local_flow_control_window(stream_id), 16384)) > 0:
            pair.client.send_data(stream_id, b"x" * room)
        pair.exchange()
        pair.server.respond(stream_id, 413, [], end=True)  # before the request is complete
        pair.exchange()
        assert pair.codes(StreamReset, stream_id) == [ErrorCodes.NO_ERROR]
    assert pair.client.outbound_flow_control_window > CONNECTION_WINDOW_BYTES // 2


def open_windows(pair: Pair, stream_ids: Iterable[int], count: int = 1 << 20) -> None:
    for stream_id in stream_ids:
        pair.client.increment_flow_control_window(count, stream_id)
    pair.client.increment_flow_control_window(count)
    pair.exchange()


def test_held_data_goes_out_in_turns() -> None:
    pair = Pair()
    streams = [pair.request() for _ in range(4)]
    pair.exchange()
    for stream_id in streams:
        pair.server.respond(stream_id, 200, [], end=False)
        pair.server.send_data(stream_id, b"x" * 200_000, end=True)
        assert not pair.server.writable(stream_id)
    pair.exchange()
    assert sum(len(pair.body(stream_id)) for stream_id in streams) == 65535
    for stream_id in streams:
        pair.client.increment_flow_control_window(1 << 20, stream_id)
    pair.seen.clear()
    pair.client.increment_flow_control_window(160_000)
    pair.exchange()
    shares = [len(pair.body(stream_id)) for stream_id in streams]
    assert sum(shares) == 160_000
    assert max(shares) - min(shares) <= 2 * 16384


def test_writable_is_said_when_the_window_opens_again() -> None:
    pair = Pair()
    stream_id = pair.request()
    pair.exchange()
    pair.server.respond(stream_id, 200, [], end=False)
    pair.server.send_data(stream_id, b"x" * 65535, end=False)  # exactly the window: nothing is held, no room is left
    assert not pair.server.writable(stream_id)
    pair.exchange()
    pair.client.increment_flow_control_window(10, stream_id)
    assert pair.exchange() == []
    pair.client.increment_flow_control_window(10)
    assert pair.exchange() == [Writable(stream_id)]
    assert pair.server.writable(stream_id)
    pair.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1})  # windows may become negative
    pair.exchange()
    pair.server.send_data(stream_id, b"y", end=True)
    pair.exchange()
    assert len(pair.body(stream_id)) == 65535
    open_windows(pair, [stream_id])
    assert len(pair.body(stream_id)) == 65536


def test_resets_both_ways() -> None:
    pair = Pair()
    ours, theirs = pair.request(POST, end=False), pair.request(POST, end=False)
    pair.exchange()
    pair.server.respond(ours, 200, [], end=False)
    pair.server.send_data(ours, b"x" * 70_000, end=False)
    pair.server.reset(ours, "the upstream failed")
    pair.client.reset_stream(theirs, ErrorCodes.CANCEL)
    events = pair.exchange()
    assert [type(event) for event in events] == [Reset]
    assert pair.codes(StreamReset, ours) == [ErrorCodes.INTERNAL_ERROR]
    for stream_id in (ours, theirs):  # all no-ops now
        pair.server.respond(stream_id, 200, [], end=False)
        pair.server.send_data(stream_id, b"x", end=True)
        pair.server.consumed(stream_id, 1)
        pair.server.reset(stream_id, "again")
        assert not pair.server.writable(stream_id)
    assert pair.exchange() == []


def test_a_cancel_behind_credit_costs_only_its_stream() -> None:
    pair = Pair()
    cancelled, other = pair.request(), pair.request()
    pair.exchange()
    for stream_id in (cancelled, other):
        pair.server.respond(stream_id, 200, [], end=False)
        pair.server.send_data(stream_id, b"x" * 50_000, end=True)  # together more than the connection's window
    pair.exchange()
    pair.client.increment_flow_control_window(1 << 20)
    pair.client.reset_stream(other, ErrorCodes.CANCEL)
    assert [type(event) for event in pair.exchange()] == [Reset]  # and no Refused: both frames came in one piece
    assert len(pair.body(cancelled)) == 50_000


def test_a_request_that_is_refused_and_cancelled_at_once_costs_nothing() -> None:
    pair = Pair()
    refused = pair.request([(b":method", b"CONNECT"), (b":authority", b"shop.example.com:443")], end=False)
    pair.client.reset_stream(refused, ErrorCodes.CANCEL)
    assert pair.exchange() == []
    assert not pair.of(ConnectionTerminated)


def test_a_hundred_streams_interleaved() -> None:
    pair = Pair()
    streams = [pair.request(POST, end=False) for _ in range(100)]
    for turn in range(5):
        for stream_id in streams:
            pair.client.send_data(stream_id, b"%d," % (stream_id * turn), end_stream=turn == 4)
    bodies: dict[int, bytes] = dict.fromkeys(streams, b"")
    for event in pair.exchange():
        if isinstance(event, Data):
            bodies[event.stream_id] += event.data
            pair.server.consumed(event.stream_id, len(event.data))
        elif isinstance(event, End):
            pair.server.respond(event.stream_id, 200, [], end=False)
            pair.server.send_data(event.stream_id, bodies[event.stream_id], end=True)
    pair.exchange()
    for stream_id in streams:
        assert pair.body(stream_id) == b"".join(b"%d," % (stream_id * turn) for turn in range(5))


def test_drain_says_goaway_twice_and_loses_no_request() -> None:
    pair = Pair()
    first = pair.request()
    pair.exchange()
    pair.server.shut_down()
    pair.server.shut_down()  # a drain and a close: the second changes nothing
    second = pair.request()  # on its way while the first GOAWAY is
    early = pair.server.receive(pair.client.data_to_send())
    assert [type(event) for event in early] == [RequestHead, End]
    assert not pair.server.closing
    frames = [pair.server.take_output()]  # h2's client takes any GOAWAY for the end: from here on by hand
    ping = PingFrame(0, flags=["ACK"], opaque_data=b"meridian")
    assert pair.server.receive(ping.serialize()) == []
    frames.append(pair.server.take_output())
    assert frames[0].count(b"\x07\x00\x00\x00\x00\x00\x7f\xff\xff\xff") == 1
    assert frames[1][9:17] == second.to_bytes(4, "big") + b"\0\0\0\0"
    late = HeadersFrame(second + 2, flags=["END_HEADERS", "END_STREAM"])
    late.data = b"\x82\x84\x87\x41\x01a"
    assert pair.server.receive(late.serialize()) == []
    assert pair.server.take_output()[3:] == b"\x03\x00" + (second + 2).to_bytes(4, "big") + (7).to_bytes(4, "big")
    assert not pair.server.closing
    for stream_id in (first, second):
        pair.server.respond(stream_id, 200, [], end=False)
        pair.server.send_data(stream_id, b"done", end=True)
    assert pair.server.closing
    assert pair.server.take_output().count(b"done") == 2


def test_streams_go_on_after_the_clients_goaway() -> None:
    pair = Pair()
    stream_id = pair.request()
    pair.exchange()
    pair.client.close_connection()
    assert pair.server.receive(pair.client.data_to_send()) == []
    assert not pair.server.closing
    pair.server.respond(stream_id, 200, [], end=False)
    pair.server.send_data(stream_id, b"still here", end=True)
    assert b"still here" in pair.server.take_output()
    assert pair.server.closing


def test_a_table_size_of_the_clients_choice_does_not_make_us_keep_one() -> None:
    pair = Pair()
    pair.client.update_settings({SettingCodes.HEADER_TABLE_SIZE: 0})
    pair.exchange()
    for _ in range(3):
        stream_id = pair.request()
        pair.exchange()
        pair.server.respond(stream_id, 200, [(b"etag", b'"1"'), (b"x-own", b"1")], end=True)
        pair.exchange()
    assert [event.headers for event in pair.of(ResponseReceived)] == [  # type: ignore[attr-defined] # a ResponseReceived
        [(b":status", b"200"), (b"etag", b'"1"'), (b"x-own", b"1")]
    ] * 3


def test_end_of_input_resets_what_is_open() -> None:
    pair = Pair()
    stream_id = pair.request(POST, end=False)
    pair.exchange()
    events = pair.server.receive_eof()
    assert [type(event) for event in events] == [Reset, ConnectionEnded]
    assert events[0].stream_id == stream_id  # type: ignore[union-attr] # a Reset
    assert pair.server.closing
    assert pair.server.receive_eof() == []


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_garbage_never_raises(garbage: bytes) -> None:
    client = H2Connection(H2Configuration(client_side=True))
    client.initiate_connection()
    client.send_headers(1, POST)
    server = Http2Server(lambda: 0.0)
    server.receive(client.data_to_send())
    server.receive(garbage)
    server.respond(1, 200, [], end=False)
    server.send_data(1, b"x" * 100_000, end=True)
    server.receive_eof()
    server.take_output()


@given(
    chunks=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 90_000)), max_size=30),
    window=st.sampled_from([1, 1000, 65535, 1 << 20]),
    updates=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 50_000)), max_size=30),
)
@settings(max_examples=150, deadline=None)
def test_flow_control_never_deadlocks_and_never_reorders(
    chunks: list[tuple[int, int]], window: int, updates: list[tuple[int, int]]
) -> None:
    """Four echo streams: what goes in comes out, whatever the sizes of pieces, windows and updates."""
    pair = Pair()
    pair.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
    streams = [pair.request(POST, end=False) for _ in range(4)]
    pair.exchange()
    for stream_id in streams:
        pair.server.respond(stream_id, 200, [], end=False)
    wanted: dict[int, bytearray] = {stream_id: bytearray() for stream_id in streams}
    waiting: dict[int, bytearray] = {stream_id: bytearray() for stream_id in streams}
    unsent: dict[int, list[bytes]] = {stream_id: [] for stream_id in streams}

    def carry() -> None:
        for event in pair.exchange():
            if isinstance(event, Data):
                waiting[event.stream_id] += event.data
        for (
            stream_id,
            data,
        ) in waiting.items():  # as the gateway does: sends only while writable, credits what it sent
            while data and pair.server.writable(stream_id):
                piece = bytes(data[:30_000])
                del data[:30_000]
                pair.server.send_data(stream_id, piece, end=False)
                pair.server.consumed(stream_id, len(piece))
        pair.exchange()

    def push(stream_id: int) -> None:
        queue = unsent[stream_id]
        while queue and (room := min(pair.client.local_flow_control_window(stream_id), 16384)) > 0:
            pair.client.send_data(stream_id, queue[0][:room])
            queue[0] = queue[0][room:]
            if not queue[0]:
                queue.pop(0)

    for number, (which, size) in enumerate(chunks):
        data = bytes([number % 251]) * size
        wanted[streams[which]] += data
        if data:
            unsent[streams[which]].append(data)
        push(streams[which])
        carry()
    for which, count in updates:
        pair.client.increment_flow_control_window(count, streams[which] if which < 4 else None)
        carry()
    for _ in range(400):
        for stream_id in streams:
            push(stream_id)
            if pair.client.streams[stream_id].inbound_flow_control_window < 1 << 20:
                pair.client.increment_flow_control_window(1 << 18, stream_id)
        if pair.client.inbound_flow_control_window < 1 << 22:
            pair.client.increment_flow_control_window(1 << 20)
        carry()
        if all(pair.body(stream_id) == wanted[stream_id] for stream_id in streams):
            break
    for stream_id in streams:
        assert pair.body(stream_id) == wanted[stream_id]
