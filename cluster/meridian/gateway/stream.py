"""The seam between a downstream connection (any protocol) and an exchange.

The connection owns transport and codec; for each `RequestHead` it asks `Begin` for an exchange and from then on
passes the stream's events to it. The exchange answers through `DownstreamStream`. All calls are synchronous and on
the worker's loop; nobody awaits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from meridian.gateway.client_certificate import ClientCertificate
from meridian.wire.events import Headers, RequestHead


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a downstream connection."""

    address: str  # the client's IP address
    port: int
    local_port: int  # the listener's port, as the client dialled it
    listener: str  # name of the listener
    tls: bool
    protocol: str  # "h1", "h2", "h3"
    certificate: ClientCertificate | None = None  # that it has shown, and that was taken
    forwards: bool = True  # whether upstreams are told of that
    lines: bytes = field(init=False, repr=False, compare=False)  # what upstreams are told of it, ready to be sent

    def __post_init__(self) -> None:
        """Once a connection, so that it costs its requests nothing."""
        told = (self.address.encode(), b"https" if self.tls else b"http", self.local_port)
        lines = b"x-forwarded-for: %b\r\nx-forwarded-proto: %b\r\nx-forwarded-port: %d\r\n" % told
        object.__setattr__(self, "lines", lines + self.certificate_line)

    @property
    def certificate_line(self) -> bytes:
        """Client-Cert, ready to be sent; empty if there is nothing to be told."""
        return self.certificate.line if self.certificate is not None and self.forwards else b""

    @property
    def names(self) -> Sequence[str]:
        """Of the certificate, as authenticators know them."""
        return self.certificate.names if self.certificate is not None else ()


class DownstreamStream(Protocol):
    """What an exchange may do to its client."""

    @property
    def writable(self) -> bool:
        """False: stop the upstream until `Exchange.on_writable`."""

    def respond(self, status: int, headers: Headers, *, end: bool) -> None:
        """Sends the final head."""

    def upgrade(self, headers: Headers) -> None:
        """Agrees to the protocol that the request asked for."""

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Sends a whole response that has a body: `respond` and `send_data` in one step, for most are so small."""

    def inform(self, status: int, headers: Headers) -> None:
        """Sends a 1xx head (100, 103)."""

    def send_data(self, data: bytes, *, end: bool) -> None:
        """Sends a piece of the body."""

    def send_trailers(self, headers: Headers) -> None:
        """Sends trailers and ends the response."""

    def reset(self, reason: str) -> None:
        """Gives the stream up; the client sees an incomplete response."""

    def consumed(self, count: int) -> None:
        """`count` bytes of the request body went on to the upstream (or were dropped): credit them."""

    def pause_body(self) -> None:
        """Stop reading the request body (h1: stop reading the socket; h2, h3: give no credit)."""

    def resume_body(self) -> None:
        """Read on."""

    def flush(self) -> None:
        """What was sent goes out now. Called once after a batch of sends; inside a call of the connection's (such as
        `Begin` or `on_body`) it may do nothing, because the connection flushes at the end of its own batch."""


class Exchange(Protocol):
    """What a connection tells the exchange of one stream. After `on_reset` nothing more is said."""

    def on_body(self, data: bytes) -> None:
        """A piece of the request body."""

    def on_trailers(self, headers: Headers) -> None:
        """Trailers of the request; `on_body_end` follows."""

    def on_body_end(self) -> None:
        """The request is complete."""

    def on_blocked(self) -> None:
        """The client takes no more data; `on_writable` follows. What is under way may still be sent."""

    def on_writable(self) -> None:
        """The client takes data again."""

    def on_reset(self, reason: str, why: str = "client_gone") -> None:
        """The client is gone, or has been told to go; `why` is for the log."""


class Answered:
    """The exchange of a request that was answered when it came: whatever else it brings is dropped."""

    def on_body(self, data: bytes) -> None:
        """See Exchange."""

    def on_trailers(self, headers: Headers) -> None:
        """See Exchange."""

    def on_body_end(self) -> None:
        """See Exchange."""

    def on_blocked(self) -> None:
        """See Exchange."""

    def on_writable(self) -> None:
        """See Exchange."""

    def on_reset(self, reason: str, why: str = "client_gone") -> None:
        """See Exchange."""


ANSWERED = Answered()

Begin = Callable[[RequestHead, DownstreamStream, Peer], Exchange]
