"""One connection to an endpoint that speaks HTTP/1.1: transport, codec, and the exchange that uses it now; and the seam
between an exchange and its upstream, whatever the protocol. HTTP/2: gateway/upstream_h2.

Invariant: it serves one exchange at a time and goes back to its pool only if the codec calls it reusable. What comes
while nobody asked ends it.
"""

import asyncio
from ssl import SSLError
from typing import Protocol, cast

from meridian.gateway.answers import Failure
from meridian.gateway.upstream_tls import tls_failure
from meridian.wire.events import Event, Headers, RequestHead, Reset
from meridian.wire.http1_client import Http1Client

WRITE_BUFFER_BYTES = 256 * 1024
"""Above this a request body waits at its client. As much as one read or one HTTP/2 window: less would stop and start
for every piece."""


CLOSE_SECONDS = 5.0
"""What was still to be written when an upgraded connection ended may take so long."""


class User(Protocol):
    """An exchange, as its upstream connection sees it."""

    def on_events(self, events: list[Event]) -> None:
        """What the upstream sent in one batch; a `Reset` is always the last."""

    def on_upstream_writable(self) -> None:
        """The upstream takes request body again."""


class UpstreamStream(Protocol):
    """What an exchange may do to its upstream: one request, one response."""

    @property
    def writable(self) -> bool:
        """False: stop the client until `User.on_upstream_writable`."""

    @property
    def silent(self) -> bool:
        """Whether nothing has come for this request."""

    @property
    def malformed(self) -> bool:
        """Whether something came that is no HTTP."""

    @property
    def unprocessed(self) -> bool:
        """Whether the upstream said that it has done nothing for this request: any may be repeated."""

    @property
    def fault(self) -> Failure | None:
        """Why the connection ended, where TLS says so."""

    @property
    def reused(self) -> bool:
        """Whether the connection had served before this request, so that it may have been dead without our knowing."""

    def begin(self, user: User, head: RequestHead, authority: bytes, target: bytes, headers: Headers,
              lines: bytes) -> None:  # fmt: skip
        """Takes a request: `head` with another authority, target and fields; `lines` are fields that are lines already.

        Raises MalformedError if it cannot be written as HTTP/1.1; nothing is sent then.
        """

    def hand_to(self, user: User) -> None:
        """What comes from now on is for `user`."""

    def send_data(self, data: bytes, *, end: bool) -> None:
        """Sends a piece of the request body."""

    def send_trailers(self, headers: Headers) -> None:
        """Sends trailers and ends the request."""

    def flush(self) -> None:
        """What was sent goes out."""

    def pause_reading(self) -> None:
        """The client does not take the response."""

    def resume_reading(self) -> None:
        """It does again."""

    def release(self) -> None:
        """The exchange is done with it: back to the pool, or closed."""

    def abort(self) -> None:
        """Gives it up at once, whatever is under way."""


class Owner(Protocol):
    """A pool, as its connections see it."""

    def give_back(self, connection: "UpstreamConnection") -> None:
        """Takes a reusable connection."""

    def lost(self, connection: "UpstreamConnection") -> None:
        """The connection is closed."""


class UpstreamConnection:
    """See the module's head; it is its own one UpstreamStream, and an asyncio.Protocol as DownstreamConnection is one.
    `outdated`: it was made as the document no longer wants it, so this exchange is its last."""

    unprocessed = False  # HTTP/1.1 has no word for it

    __slots__ = (
        "_codec", "_owner", "_read_paused", "_transport", "_user", "fault", "idle_since", "outdated", "reused",
        "writable",
    )  # fmt: skip

    def __init__(self, owner: Owner) -> None:
        """Made by a pool for one attempt to connect."""
        self._owner = owner
        self._codec = Http1Client()
        self._transport: asyncio.Transport
        self._user: User | None = None
        self._read_paused = False
        self.idle_since = 0.0
        self.reused = False
        self.outdated = False
        self.fault: Failure | None = None
        self.writable = True

    # The transport's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport. asyncio and uvloop set TCP_NODELAY."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)

    def data_received(self, data: bytes) -> None:
        """Hands on what it means."""
        user = self._user
        if user is None:
            self._transport.abort()
        else:
            user.on_events(self._codec.receive(data))

    def eof_received(self) -> bool:
        """The end of a body without length, or of the connection."""
        events = self._codec.receive_eof()
        if self._user is not None and events:
            self._user.on_events(events)
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Tells pool and exchange. An endpoint that wants a certificate of ours may say so here (RFC 8446 section
        4.4.2.4)."""
        if isinstance(error, SSLError):
            self.fault = tls_failure(error)
        self._owner.lost(self)
        user, self._user = self._user, None
        if user is not None:
            user.on_events([Reset(0, "the upstream reset the connection" if error else "the upstream is gone")])

    def pause_writing(self) -> None:
        """The socket is full."""
        self.writable = False

    def resume_writing(self) -> None:
        """The socket takes data again."""
        self.writable = True
        if self._user is not None:
            self._user.on_upstream_writable()

    # The exchange's calls

    def usable(self) -> bool:
        """Whether it looks alive: a close that has reached us is known here before `connection_lost`."""
        return not self._transport.is_closing()

    @property
    def silent(self) -> bool:
        """See UpstreamStream."""
        return self._codec.silent

    @property
    def malformed(self) -> bool:
        """See UpstreamStream."""
        return self._codec.malformed

    def begin(self, user: User, head: RequestHead, authority: bytes, target: bytes, headers: Headers,
              lines: bytes) -> None:  # fmt: skip
        """See UpstreamStream."""
        self._codec.request(
            1,
            head.method,
            authority,
            target,
            headers,
            body_length=head.body_length,
            has_body=head.has_body and not head.protocol,
            protocol=head.protocol,
            lines=lines,
        )
        self._user = user

    def hand_to(self, user: User) -> None:
        """See UpstreamStream."""
        self._user = user

    def send_data(self, data: bytes, *, end: bool) -> None:
        """See UpstreamStream."""
        self._codec.send_data(1, data, end=end)
        if end and self._codec.upgraded:
            self.flush()
            if not self._transport.is_closing() and self._transport.can_write_eof():
                self._transport.write_eof()

    def send_trailers(self, headers: Headers) -> None:
        """See UpstreamStream."""
        self._codec.send_trailers(1, headers)

    def flush(self) -> None:
        """See UpstreamStream."""
        output = self._codec.take_output()
        if output and not self._transport.is_closing():  # uvloop raises; `connection_lost` is on its way
            self._transport.write(output)

    def pause_reading(self) -> None:
        """See UpstreamStream."""
        if not self._read_paused and not self._transport.is_closing():
            self._read_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """See UpstreamStream."""
        if self._read_paused and not self._transport.is_closing():
            self._read_paused = False
            self._transport.resume_reading()

    def release(self) -> None:
        """See UpstreamStream."""
        self._user = None
        if self._codec.is_reusable() and self.writable and not (self.outdated or self._transport.is_closing()):
            if self._read_paused:
                self.resume_reading()
            self.reused = True
            self._owner.give_back(self)
        else:
            self._transport.abort()

    def abort(self) -> None:
        """See UpstreamStream. What was said in another protocol than HTTP still reaches it: a close frame, perhaps."""
        self._user = None
        if self._codec.upgraded and not self._transport.is_closing():
            self._transport.close()
            asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._transport.abort)
        else:
            self._transport.abort()
