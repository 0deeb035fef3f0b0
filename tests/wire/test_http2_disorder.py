"""HTTP/2 with a client that changes its mind: cancels, uploads, big answers, and bytes that arrive in any pieces.

What one stream does must never cost the connection: h2 reads all bytes that it is given before the first event of them
is handled, so that an event may speak of a stream that a later one has closed already.
"""

import random

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, DataReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError
from tests.scale import seeds

from meridian.wire.events import Data, Refused, RequestHead, Reset
from meridian.wire.http2 import Http2Server

STEPS = 1500
OPEN_MAX = 100
STEP_SECONDS = 0.01  # slow enough that cancelling is no attack
GET = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"shop"), (b":path", b"/")]
POST = [(b":method", b"POST"), *GET[1:]]


class Disorder:
    """One conversation, decided by its seed."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.now = 0.0
        self.server = Http2Server(lambda: self.now)
        self.client = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self.client.initiate_connection()
        self.asked: set[int] = set()  # open at the client
        self.unanswered: set[int] = set()  # open at the server
        self.upward, self.downward = bytearray(), bytearray()
        self.answered = 0

    def play(self) -> None:
        for _ in range(STEPS):
            self.now += STEP_SECONDS
            chance = self.draw.random()
            if chance < 0.25 and len(self.asked) < OPEN_MAX:
                self._ask()
            elif chance < 0.27 and self.asked:
                self._cancel()
            elif chance < 0.5 and self.unanswered:
                self._answer()
            elif chance < 0.55 and self.unanswered:
                self.server.reset(self._one_of(self.unanswered), "the upstream failed")
            self.upward += self.client.data_to_send()
            self.downward += self.server.take_output()
            if self.draw.random() < 0.4:
                self._hear_client(self._piece(self.upward))
            if self.draw.random() < 0.4:
                self._hear_server(self._piece(self.downward))

    def _one_of(self, streams: set[int]) -> int:
        chosen = self.draw.choice(sorted(streams))
        streams.discard(chosen)
        return chosen

    def _piece(self, wire: bytearray) -> bytes:
        count = self.draw.randrange(len(wire) + 1)
        piece = bytes(wire[:count])
        del wire[:count]
        return piece

    def _ask(self) -> None:
        stream_id = self.client.get_next_available_stream_id()
        uploads = self.draw.random() < 0.3
        self.client.send_headers(stream_id, POST if uploads else GET, end_stream=not uploads)
        if uploads and self.client.local_flow_control_window(stream_id) > 3000:
            body = b"x" * self.draw.randrange(1, 3000)
            self.client.send_data(stream_id, body, end_stream=self.draw.random() < 0.7)
        self.asked.add(stream_id)

    def _cancel(self) -> None:
        try:
            self.client.reset_stream(self._one_of(self.asked), ErrorCodes.CANCEL)
        except ProtocolError:
            pass  # the answer was just read to its end

    def _answer(self) -> None:
        stream_id = self._one_of(self.unanswered)
        self.server.respond(stream_id, 200, [(b"content-type", b"text/plain")], end=False)
        self.server.send_data(stream_id, b"y" * self.draw.randrange(30_000), end=True)

    def _hear_client(self, data: bytes) -> None:
        for event in self.server.receive(data):
            assert not isinstance(event, Refused), event.reason
            if isinstance(event, RequestHead):
                self.unanswered.add(event.stream_id)
            elif isinstance(event, Data):
                self.server.consumed(event.stream_id, len(event.data))
            elif isinstance(event, Reset):
                self.unanswered.discard(event.stream_id)

    def _hear_server(self, data: bytes) -> None:
        for event in self.client.receive_data(data):
            assert not isinstance(event, ConnectionTerminated)
            if isinstance(event, DataReceived) and event.flow_controlled_length:
                self.client.acknowledge_received_data(event.flow_controlled_length, event.stream_id or 0)
            elif isinstance(event, StreamEnded | StreamReset):
                self.asked.discard(event.stream_id or 0)
                self.answered += isinstance(event, StreamEnded)


@pytest.mark.parametrize("seed", seeds(20))
def test_cancelled_streams_never_cost_the_connection(seed: int) -> None:
    disorder = Disorder(seed)
    disorder.play()
    assert disorder.answered > 50
