"""The HTTP/2 codec of upstreams against the h2 library as the server, with no socket in between."""

from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived, StreamReset, TrailersReceived
from h2.settings import SettingCodes, Settings
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, PingFrame, PushPromiseFrame, RstStreamFrame

from meridian.wire.events import (
    ConnectionEnded,
    Data,
    End,
    Event,
    Headers,
    Informational,
    Reset,
    ResponseHead,
    Trailers,
    Writable,
)
from meridian.wire.http2_client import CONNECTION_WINDOW_BYTES, STREAM_ID_MAX, Http2Client
from meridian.wire.http2_streams import STREAM_WINDOW_BYTES

OK: Headers = [(b":status", b"200")]


class Pair:
    """Our client and a server, joined by `exchange`."""

    def __init__(self, settings: dict[SettingCodes, int] | None = None) -> None:
        self.now = 0.0
        self.client = Http2Client(lambda: self.now, b"http")
        assert self.client.streams_max == 0, "nothing may be asked before the server's SETTINGS"
        self.server = H2Connection(
            H2Configuration(client_side=False, validate_outbound_headers=False, normalize_outbound_headers=False)
        )
        self.server.local_settings = Settings(client=False, initial_values=settings or {})
        self.server.initiate_connection()
        self.seen: list[Any] = []
        self.exchange()

    def exchange(self) -> list[Event]:
        """Carries bytes both ways until nothing moves; returns the client's events."""
        events: list[Event] = []
        while True:
            to_server, to_client = self.client.take_output(), self.server.data_to_send()
            if not to_server and not to_client:
                return events
            if to_server:
                self.seen += self.server.receive_data(to_server)
            if to_client:
                events += self.client.receive(to_client)

    def ask(self, method: bytes = b"GET", headers: Headers | None = None, length: int | None = None,
            *, has_body: bool = False) -> int:  # fmt: skip
        """A request."""
        stream_id = self.client.new_stream_id()
        self.client.request(
            stream_id, method, b"shop", b"/a?b", headers or [], body_length=length, has_body=has_body
        )  # fmt: skip
        return stream_id

    def say(self, *frames: Frame) -> list[Event]:
        """What the client makes of frames that h2 itself would not send."""
        return self.client.receive(b"".join(frame.serialize() for frame in frames))

    def of(self, kind: type) -> list[Any]:
        """What the server has seen."""
        return [event for event in self.seen if isinstance(event, kind)]

    def head(self, stream_id: int, fields: Headers = OK, flags: tuple[str, ...] = ("END_HEADERS",)) -> HeadersFrame:
        """A frame with these fields."""
        return HeadersFrame(stream_id, self.server.encoder.encode(fields), flags=flags)


def test_a_request_and_its_response() -> None:
    pair = Pair()
    stream_id = pair.ask(b"POST", [(b"x-own", b"1"), (b"te", b"gzip"), (b"connection", b"te")], 5, has_body=True)
    pair.client.send_data(stream_id, b"he", end=False)
    pair.client.send_data(stream_id, b"llo", end=True)
    pair.exchange()
    (request,) = pair.of(RequestReceived)
    assert request.headers == [
        (b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"shop"), (b":path", b"/a?b"), (b"x-own", b"1"),
        (b"content-length", b"5"), (b"te", b"trailers"),
    ]  # fmt: skip
    assert b"".join(event.data for event in pair.of(DataReceived)) == b"hello"
    pair.server.send_headers(stream_id, [(b":status", b"103"), (b"link", b"x")])
    pair.server.send_headers(stream_id, [*OK, (b"content-length", b"2")])
    pair.server.send_data(stream_id, b"ok")
    pair.server.send_headers(stream_id, [(b"x-sum", b"7")], end_stream=True)
    assert pair.exchange() == [
        Informational(stream_id, 103, [(b"link", b"x")]),
        ResponseHead(stream_id, 200, [(b"content-length", b"2")], True, 2, True),
        Data(stream_id, b"ok"), Trailers(stream_id, [(b"x-sum", b"7")]), End(stream_id),
    ]  # fmt: skip
    assert not pair.client._streams and not pair.client._h2.streams


def test_every_split_of_the_bytes_gives_the_same_events() -> None:
    pair = Pair()
    stream_id = pair.ask()
    pair.exchange()
    pair.server.send_headers(stream_id, OK)
    pair.server.send_data(stream_id, b"hello", end_stream=True)
    raw = pair.server.data_to_send()
    expected = [ResponseHead(stream_id, 200, [], True, None, True), Data(stream_id, b"hello"), End(stream_id)]
    for cut in range(len(raw)):
        other = Pair()
        other.ask()
        assert other.client.receive(raw[:cut]) + other.client.receive(raw[cut:]) == expected


def test_trailers_of_a_request_and_a_request_that_goes_on_after_its_response() -> None:
    pair = Pair()
    first, second = pair.ask(has_body=True), pair.ask(has_body=True)
    pair.client.send_data(first, b"x", end=False)
    pair.client.send_trailers(first, [(b"x-up", b"1")])
    pair.exchange()
    assert pair.of(TrailersReceived)[0].headers == [(b"x-up", b"1")]
    pair.server.send_headers(second, OK, end_stream=True)
    assert pair.exchange() == [ResponseHead(second, 200, [], False, None, True), End(second)]
    pair.client.send_data(second, b"more", end=False)
    pair.client.cancel(second)
    pair.exchange()
    assert [event.error_code for event in pair.of(StreamReset)] == [ErrorCodes.NO_ERROR]
    assert list(pair.client._streams) == [first]


def test_streams_are_as_many_as_the_server_says_and_ids_run_out() -> None:
    pair = Pair({SettingCodes.MAX_CONCURRENT_STREAMS: 7})
    assert pair.client.streams_max == 7
    pair.server.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 3})
    pair.exchange()
    assert pair.client.streams_max == 3
    pair.client._next_stream_id = STREAM_ID_MAX
    pair.ask()
    assert pair.client.streams_max == 0


def test_a_response_holds_one_window_and_stops_no_other() -> None:
    pair = Pair()
    slow, quick = pair.ask(), pair.ask()
    pair.exchange()
    for stream_id in (slow, quick):
        pair.server.send_headers(stream_id, OK)
    sent = {slow: 0, quick: 0}
    for _ in range(4 * CONNECTION_WINDOW_BYTES // 16384):
        for stream_id in (slow, quick):
            room = min(16384, pair.server.local_flow_control_window(stream_id))
            if room:
                pair.server.send_data(stream_id, bytes(room))
                sent[stream_id] += room
        for event in pair.exchange():
            if isinstance(event, Data) and event.stream_id == quick:
                pair.client.consumed(quick, len(event.data))
    assert sent == {slow: STREAM_WINDOW_BYTES, quick: 4 * CONNECTION_WINDOW_BYTES}
    pair.client.consumed(slow, STREAM_WINDOW_BYTES)
    pair.exchange()
    assert pair.server.local_flow_control_window(slow) == STREAM_WINDOW_BYTES


def test_a_request_body_waits_for_the_servers_window() -> None:
    pair = Pair()
    stream_id = pair.ask(has_body=True)
    pair.client.send_data(stream_id, bytes(100_000), end=False)
    assert not pair.client.writable(stream_id)
    pair.client.send_trailers(stream_id, [(b"x-up", b"1")])
    pair.exchange()
    assert sum(len(event.data) for event in pair.of(DataReceived)) == 65535
    pair.server.increment_flow_control_window(100_000)
    pair.server.increment_flow_control_window(100_000, stream_id)
    assert pair.exchange() == [], "it has ended: nothing waits to go on"
    assert sum(len(event.data) for event in pair.of(DataReceived)) == 100_000 and pair.of(TrailersReceived)
    other = pair.ask(has_body=True)
    pair.client.send_data(other, bytes(70_000), end=False)
    pair.exchange()
    pair.server.increment_flow_control_window(100_000)
    pair.server.increment_flow_control_window(100_000, other)
    assert pair.exchange() == [Writable(other)]


def test_goaway_gives_up_what_was_not_seen_and_lets_the_rest_end() -> None:
    pair = Pair()
    first, second = pair.ask(), pair.ask()
    pair.exchange()
    assert pair.say(GoAwayFrame(0, last_stream_id=STREAM_ID_MAX)) == [] and pair.client.streams_max == 0
    assert pair.say(GoAwayFrame(0, last_stream_id=first)) == [Reset(second, "GOAWAY, code 0", unprocessed=True)]
    assert not pair.client.take_output(), "of what it has not seen nothing is said to it"
    assert not pair.client.ended
    assert pair.say(pair.head(second)) == [], "what comes of it all the same"
    assert pair.say(pair.head(first, flags=("END_HEADERS", "END_STREAM")))[-1] == End(first)
    assert pair.client.ended


def test_resets_say_whether_the_request_was_touched() -> None:
    pair = Pair()
    for code, unprocessed in ((ErrorCodes.REFUSED_STREAM, True), (ErrorCodes.INTERNAL_ERROR, False)):
        stream_id = pair.ask()
        (reset,) = pair.say(RstStreamFrame(stream_id, error_code=code))
        assert isinstance(reset, Reset) and reset.unprocessed is unprocessed and not reset.malformed
    assert not pair.client.ended


def test_frames_of_a_stream_that_was_given_up_are_dropped() -> None:
    pair = Pair()
    stream_id = pair.ask()
    pair.exchange()
    pair.client.cancel(stream_id)
    data = DataFrame(stream_id, bytes(1000))
    assert pair.say(pair.head(stream_id), *[data] * 100, pair.head(stream_id, [(b"x", b"1")])) == []
    assert not pair.client.ended
    following = pair.ask()
    assert pair.say(pair.head(following))[0] == ResponseHead(following, 200, [], True, None, True)


@pytest.mark.parametrize(
    "frames",
    [
        lambda pair: [PushPromiseFrame(1, 2, pair.server.encoder.encode(OK), flags=["END_HEADERS"])],
        lambda pair: [DataFrame(1, b"x")],
        lambda pair: [DataFrame(99, b"x")],
        lambda pair: [pair.head(99)],
        lambda pair: [pair.head(2)],
        lambda pair: [HeadersFrame(1, b"\xff\xff\xff\xff\xff", flags=["END_HEADERS"])],
        lambda pair: [PingFrame(0, b"12345678")] * 10_100,
    ],
    ids=["push", "data before its head", "data of no stream", "head of no stream", "a stream of its own", "no HPACK",
         "pings without end"],
)  # fmt: skip
def test_what_breaks_the_connection_ends_it(frames: Any) -> None:
    pair = Pair()
    stream_id = pair.ask()
    reset, ended = pair.say(*frames(pair))
    assert isinstance(reset, Reset) and reset.stream_id == stream_id and reset.malformed
    assert isinstance(ended, ConnectionEnded) and pair.client.ended
    assert pair.client.receive(b"more") == [] and pair.client.streams_max == 0
    pair.client.send_data(stream_id, b"x", end=True)
    pair.client.cancel(stream_id)


@pytest.mark.parametrize(
    "frames",
    [
        lambda pair: [pair.head(1, [(b"x", b"1")])],
        lambda pair: [pair.head(1, [*OK, (b"X", b"1")])],
        lambda pair: [pair.head(1, [*OK, (b"content-length", b"3")]), DataFrame(1, b"ok", flags=["END_STREAM"])],
        lambda pair: [pair.head(1, [*OK, (b"content-length", b"1")]), DataFrame(1, b"ok")],
        lambda pair: [
            pair.head(1, [*OK, (b"content-length", b"3")]), DataFrame(1, b"ok"),
            pair.head(1, [(b"x", b"1")], ("END_HEADERS", "END_STREAM")),
        ],
        lambda pair: [pair.head(1), pair.head(1, [(b":x", b"1")], ("END_HEADERS", "END_STREAM"))],
        lambda pair: [pair.head(1), pair.head(1, [(b"x", b"1")])],
        lambda pair: [pair.head(1, [(b":status", b"102")])] * 17,
    ],
    ids=["no status", "capitals", "too short", "too long", "too short before trailers", "pseudo field in trailers",
         "trailers that do not end", "heads without end"],
)  # fmt: skip
def test_what_breaks_a_response_costs_its_stream_only(frames: Any) -> None:
    pair = Pair()
    stream_id, other = pair.ask(), pair.ask()
    events = pair.say(*frames(pair))
    assert isinstance(events[-1], Reset) and events[-1].stream_id == stream_id and events[-1].malformed
    assert End(stream_id) not in events
    assert pair.say(pair.head(other))[0] == ResponseHead(other, 200, [], True, None, True)
