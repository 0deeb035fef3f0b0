"""The one event vocabulary of HTTP/1.1, HTTP/2 and HTTP/3.

A codec turns bytes into these; the gateway never learns which protocol spoke. Header names are lower-case bytes
in all protocols; pseudo headers never appear among `headers`. The head of a request that is malformed never becomes
an event: the codec answers it itself (RFC 9112 section 3, RFC 9113 section 8.1.1) and says so by `Refused`.
"""

from dataclasses import dataclass

Headers = list[tuple[bytes, bytes]]

TUNNEL = b"tunnel"
"""The protocol that CONNECT asks for (RFC 9110 section 9.3.6): any, which is passed on unread."""


@dataclass(slots=True)
class RequestHead:
    """A request line and its fields. `body_length` is None when unknown (chunked, or h2/h3 without content-length).

    One that asks for another `protocol` is a GET in all versions (a TUNNEL a CONNECT), and has a body in all: what the
    client says in that protocol once the codec has been told to `upgrade`.
    """

    stream_id: int
    method: bytes
    scheme: bytes
    authority: bytes  # without userinfo, lower-case, with the port if the client sent one; b"" if absent (HTTP/1.0)
    target: bytes  # origin form: path and query, always beginning with b"/", or b"*" for OPTIONS
    headers: Headers  # without host, pseudo headers and hop-by-hop fields of the downstream connection
    has_body: bool
    body_length: int | None
    version: bytes  # b"1.0", b"1.1", b"2", b"3"
    expects_continue: bool = False
    protocol: bytes = b""  # that it asks to speak from here on: b"websocket" (Upgrade, or :protocol), TUNNEL, or none
    early: bool = False  # it came as early data, and may be a replay (RFC 8470)


@dataclass(slots=True)
class ResponseHead:
    """A status and its fields, from an upstream. 1xx are `Informational`, but 101: the protocol that was asked for is
    spoken from here on, whatever the upstream's HTTP calls that; what it says in it is the body."""

    stream_id: int
    status: int
    headers: Headers
    has_body: bool
    body_length: int | None
    keep_alive: bool


@dataclass(slots=True)
class Informational:
    """A 1xx answer from an upstream other than 101."""

    stream_id: int
    status: int
    headers: Headers


@dataclass(slots=True)
class Data:
    """A piece of a body, unjoined, as it came."""

    stream_id: int
    data: bytes


@dataclass(slots=True)
class Trailers:
    """Fields after the body. `End` follows."""

    stream_id: int
    headers: Headers


@dataclass(slots=True)
class End:
    """The message is complete. Without it a body is cut, whatever else was seen."""

    stream_id: int


@dataclass(slots=True)
class Reset:
    """The other side gave this stream up (RST_STREAM, STOP_SENDING, or its connection closed in mid-message).

    `unprocessed`: it says that it has done nothing for this request, so that any may be repeated (RFC 9113 section
    8.7). `malformed`: it broke the protocol.
    """

    stream_id: int
    reason: str
    unprocessed: bool = False
    malformed: bool = False


@dataclass(slots=True)
class Writable:
    """What was buffered for this stream has gone out: it takes data again."""

    stream_id: int


@dataclass(slots=True)
class Refused:
    """The codec has answered bad input itself. The connection ends after its output is flushed. `why` is one word, for
    metrics: malformed, or what there was too much of."""

    status: int
    reason: str
    why: str = "malformed"


@dataclass(slots=True)
class ConnectionEnded:
    """The other side closed the connection; every open stream has already had its `Reset`."""

    reason: str


Event = (
    RequestHead | ResponseHead | Informational | Data | Trailers | End | Reset | Writable | Refused | ConnectionEnded
)
