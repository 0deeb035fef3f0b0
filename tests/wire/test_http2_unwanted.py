"""Requests that are answered before all of them has come: what their client still says, and when it is told to stop."""

from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, DataReceived, PingReceived, StreamEnded, StreamReset
from hyperframe.frame import PingFrame, RstStreamFrame
from tests.wire.test_http2 import POST, Pair

from meridian.wire.bounds import USUAL
from meridian.wire.events import Data, Refused
from meridian.wire.http2_streams import STREAM_WINDOW_BYTES


def answered_early(pair: Pair, *fields: tuple[bytes, bytes]) -> int:
    """A request whose body has not come, and its response on the way."""
    stream_id = pair.request([*POST, *fields], end=False)
    pair.server.receive(pair.client.data_to_send())
    pair.server.respond(stream_id, 413, [], end=True)
    return stream_id


def test_its_client_is_told_to_stop_once_it_has_read_the_answer() -> None:
    pair = Pair()
    stream_id = answered_early(pair)
    pair.seen += pair.client.receive_data(pair.server.take_output())
    assert len(pair.of(StreamEnded, stream_id)) == len(pair.of(PingReceived)) == 1
    assert not pair.of(StreamReset) and not pair.server.closing
    pair.exchange()  # the client answers the PING
    assert pair.codes(StreamReset, stream_id) == [ErrorCodes.NO_ERROR]


def test_what_is_wrong_behind_the_answer_is_said() -> None:
    pair = Pair()
    stream_id = answered_early(pair, (b"content-length", b"1"))
    pair.client.send_data(stream_id, b"more than one", end_stream=True)
    pair.server.receive(pair.client.data_to_send())
    reset = RstStreamFrame(stream_id, error_code=ErrorCodes.PROTOCOL_ERROR).serialize()
    assert pair.server.take_output().endswith(reset)


def test_its_end_needs_no_reset() -> None:
    pair = Pair()
    stream_id = answered_early(pair)
    pair.client.send_data(stream_id, b"all of it", end_stream=True)
    pair.exchange()
    assert not pair.of(StreamReset) and not pair.of(ConnectionTerminated)
    pair.server.shut_down()
    pair.server.receive(PingFrame(0, b"meridian", flags=("ACK",)).serialize())
    assert pair.server.closing, "nothing is left open"


def test_one_question_is_asked_at_a_time_and_none_is_forgotten() -> None:
    pair = Pair()
    streams = [answered_early(pair) for _ in range(3)]
    pair.exchange()
    assert len(pair.of(PingReceived)) == 2, "for the first, then for the others"
    assert [pair.codes(StreamReset, stream_id) for stream_id in streams] == [[ErrorCodes.NO_ERROR]] * 3


def test_a_client_that_does_not_hear_is_not_let_on() -> None:
    pair = Pair()
    stream_id = answered_early(pair)
    pair.server.take_output()  # it is lost
    taken = 0
    while room := min(pair.client.local_flow_control_window(stream_id), 16384):
        pair.client.send_data(stream_id, bytes(room))
        for event in pair.server.receive(pair.client.data_to_send()):
            assert isinstance(event, Data)
            pair.server.consumed(stream_id, len(event.data))
            taken += len(event.data)
        pair.seen += pair.client.receive_data(pair.server.take_output())
    assert taken == STREAM_WINDOW_BYTES, "its stream's window stays shut"
    other = pair.request()
    pair.exchange()
    pair.server.respond(other, 200, [], end=False)
    pair.server.send_data(other, b"ok", end=True)
    pair.exchange()
    assert len(pair.of(DataReceived, other)) == 1


def test_cancels_behind_answers_are_no_attack() -> None:
    pair = Pair()
    for _ in range(USUAL.resets_max + 10):
        stream_id = answered_early(pair)
        events = pair.server.receive(RstStreamFrame(stream_id, error_code=8).serialize())
        assert not any(isinstance(event, Refused) for event in events)
        pair.client.reset_stream(stream_id, ErrorCodes.CANCEL)
        pair.client.data_to_send()
        pair.client.receive_data(pair.server.take_output())
        pair.client.data_to_send()  # answers of PINGs are lost
    assert not pair.server.closing
