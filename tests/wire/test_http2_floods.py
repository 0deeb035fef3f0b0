"""What a client may repeat over HTTP/2, how often, and what is too large: it then ends the connection."""

from collections.abc import Callable

import pytest
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated
from hyperframe.frame import ContinuationFrame, DataFrame, HeadersFrame, SettingsFrame
from tests.wire.test_http2 import GET, POST, Pair

from meridian.wire.events import Event, Refused


def rapid_reset(pair: Pair) -> None:
    pair.client.reset_stream(pair.request(POST, end=False), ErrorCodes.CANCEL)


def malformed(pair: Pair) -> None:
    pair.request([*GET, (b"connection", b"x")])


def window_overflow(pair: Pair) -> None:
    stream_id = pair.request(POST, end=False)
    raw = b"\x00\x00\x04\x08\x00" + stream_id.to_bytes(4, "big") + b"\x7f\xff\xff\xff"
    pair.client._data_to_send += raw  # h2's client would not send it


def settings_flood(pair: Pair) -> None:
    pair.client._data_to_send += SettingsFrame(0, settings={3: 100}).serialize()


def empty_data(pair: Pair) -> None:
    stream_id = pair.client.highest_outbound_stream_id if pair.client.streams else pair.request(POST, end=False)
    pair.client._data_to_send += DataFrame(stream_id).serialize()


@pytest.mark.parametrize(
    ("attack", "allowed"),
    [
        (rapid_reset, 256),
        (malformed, 256),
        (window_overflow, 256),
        (lambda pair: pair.client.ping(b"12345678"), 1000),
        (settings_flood, 1000),
        (empty_data, 1000),
    ],
)
def test_floods_end_the_connection_but_only_beyond_their_budget(attack: Callable[[Pair], None], allowed: int) -> None:
    pair = Pair()
    events: list[Event] = []
    for _ in range(allowed - 2):  # SETTINGS and their acknowledgement took two of the idle frames
        attack(pair)
        events += pair.exchange()
    assert not any(isinstance(event, Refused) for event in events)
    pair.now = 1.0  # the budget comes back with time
    for _ in range(50):
        attack(pair)
        events += pair.exchange()
    assert not any(isinstance(event, Refused) for event in events)
    for _ in range(600):
        attack(pair)
        events += pair.server.receive(pair.client.data_to_send())
        if pair.server.closing:
            break
        pair.client.receive_data(pair.server.take_output())
    assert isinstance(events[-1], Refused)
    assert pair.server.take_output()[-4:] == ErrorCodes.ENHANCE_YOUR_CALM.to_bytes(4, "big")
    assert pair.server.receive(b"more") == []


def test_header_bombs_end_the_connection() -> None:
    pair = Pair()
    pair.request([*GET, *((b"x-big", b"y" * 4000) for _ in range(20))])  # 4 KiB in the table, then a byte each
    events = pair.exchange()
    assert isinstance(events[-1], Refused)
    assert pair.codes(ConnectionTerminated) == [ErrorCodes.ENHANCE_YOUR_CALM]


def test_a_continuation_flood_ends_the_connection() -> None:
    pair = Pair()
    head = HeadersFrame(1)
    head.data = b"\x82\x84\x87"
    raw = head.serialize()
    for _ in range(70):
        more = ContinuationFrame(1)
        more.data = b"\x00\x01x\x01y"
        raw += more.serialize()
    events = pair.server.receive(raw)
    assert isinstance(events[-1], Refused)
    assert pair.server.closing
