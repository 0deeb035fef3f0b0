"""The two doors of every codec. HTTP/1.1, HTTP/2 and HTTP/3 stand behind the same one, so that a compiled codec
can take over from a Python one without touching anything else.

Rules that all codecs keep:
- Output is only collected; `take_output` hands it over. (HTTP/3 hands over datagrams instead, see wire/http3.)
- `send_data` never blocks: what flow control does not let out yet is kept, and `writable` turns False until a
  `Writable` event. Whoever sends on regardless breaks the bound on memory; the gateway pauses the upstream instead.
- Request bodies are credited only by `consumed`: a slow upstream closes the client's window and no buffer grows.
- Sending on a stream that is already gone is a no-op: the `Reset` was or will be delivered.
"""

from typing import Protocol

from meridian.wire.events import Event, Headers


class ServerCodec(Protocol):
    """Downstream: requests in, responses out."""

    @property
    def closing(self) -> bool:
        """No further request will be accepted; close once output is flushed and no stream is open."""

    def receive(self, data: bytes) -> list[Event]:
        """Takes bytes from the client, returns what they mean. Never raises for bad input: see `Refused`."""

    def receive_eof(self) -> list[Event]:
        """The client closed its sending side."""

    def respond(self, stream_id: int, status: int, headers: Headers, *, end: bool) -> None:
        """Sends a final response head. Framing fields (content-length kept, transfer-encoding made) are the codec's."""

    def inform(self, stream_id: int, status: int, headers: Headers) -> None:
        """Sends a 1xx head."""

    def upgrade(self, stream_id: int, headers: Headers) -> None:
        """Agrees to the `protocol` that the request asked for: from here on the bodies are that, both ways."""

    def send_data(self, stream_id: int, data: bytes, *, end: bool) -> None:
        """Sends a piece of the response body."""

    def send_trailers(self, stream_id: int, headers: Headers) -> None:
        """Sends trailers and ends the response. Dropped where the protocol or the client cannot take them."""

    def reset(self, stream_id: int, reason: str) -> None:
        """Gives a stream up so that the client sees that its response is incomplete."""

    def consumed(self, stream_id: int, count: int) -> None:
        """`count` bytes of request body were handed on: the client may send as many more."""

    def writable(self, stream_id: int) -> bool:
        """Whether `send_data` would let its data out at once."""

    def shut_down(self) -> None:
        """Drain: GOAWAY, or `connection: close` on the next response. Open streams go on."""

    def take_output(self) -> bytes:
        """Returns and forgets what has to be written to the client; b"" if nothing."""


class ClientCodec(Protocol):
    """Upstream: requests out, responses in. One stream at a time on HTTP/1.1; `http2_client` numbers its streams."""

    def receive(self, data: bytes) -> list[Event]:
        """Takes bytes from the upstream. A malformed response is a `Reset` with the reason."""

    def receive_eof(self) -> list[Event]:
        """The upstream closed: `End` for a body delimited by the close, else `Reset` of what was open."""

    def request(self, stream_id: int, method: bytes, authority: bytes, target: bytes, headers: Headers,
                *, body_length: int | None, has_body: bool, protocol: bytes = b"") -> None:  # fmt: skip
        """Sends a request head; a body of unknown length is chunked. `protocol` asks to speak another one: then nothing
        may be sent before a head with 101."""

    def send_data(self, stream_id: int, data: bytes, *, end: bool) -> None:
        """Sends a piece of the request body."""

    def send_trailers(self, stream_id: int, headers: Headers) -> None:
        """Sends trailers and ends the request."""

    def take_output(self) -> bytes:
        """Returns and forgets what has to be written to the upstream."""
