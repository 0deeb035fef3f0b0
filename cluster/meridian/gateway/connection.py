"""One downstream connection over TCP or TLS: it binds a transport, a codec of any protocol, and one exchange a stream.

Invariant: what a client can make us hold is bounded. Reading stops while a request waits behind an open response
(HTTP/1.1 pipelining) or its body is not taken; an exchange hears of `writable` turning False as soon as the socket
does not take more; and every wait has a deadline that the worker's sweep enforces.

All calls come from the loop and none awaits. Output is collected by the codec and written once at the end of a batch.
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Protocol, cast

from meridian.core.guards import USUAL, Guards
from meridian.gateway.answers import CUT
from meridian.gateway.client_certificate import ClientCertificate, client_certificate
from meridian.gateway.guarding import bounds_of
from meridian.gateway.stream import DownstreamStream, Exchange, Peer
from meridian.wire.codec import ServerCodec
from meridian.wire.events import (
    ConnectionEnded,
    Data,
    End,
    Event,
    Headers,
    Refused,
    RequestHead,
    Reset,
    Trailers,
    Writable,
)
from meridian.wire.http1 import Http1Server
from meridian.wire.http2 import Http2Server

LINGER_SECONDS = 2.0
"""After the last answer to a client that is still sending: what it sends is read and dropped so long, because closing
with unread input makes the kernel send RST, which can destroy that answer at the client (RFC 9112 section 9.6)."""

CLOSE_SECONDS = 10.0
"""A closed connection may take so long to hand over what is still to be written; then it is cut. Without it a client
that does not read would keep its last answer in our memory for ever."""

GOAWAY_SECONDS = 2.0
"""An idle HTTP/2 connection that is told to go has so long to say that it has heard: a request that was on its way is
served, or the last GOAWAY says that it was not and may be repeated (RFC 9113 section 6.8)."""

CUT_CLIENT = CUT + "_client"
"""Why an exchange ended whose client does not read."""

ACKED = struct.Struct("=120xQ")
"""tcpi_bytes_acked in struct tcp_info (linux/tcp.h, since 4.1)."""

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""How clients begin HTTP/2 (RFC 9113 section 3.4)."""

NEVER = float("inf")


class Host(Protocol):
    """What a connection needs from the worker that has accepted it."""

    clock: Callable[[], float]
    coarse_now: float  # the time of the last sweep: good enough for timeouts of seconds, and free

    def begin(self, head: RequestHead, stream: DownstreamStream, peer: Peer) -> Exchange:
        """See stream.Begin."""

    def opened(self, connection: "DownstreamConnection") -> bool:
        """Counts the connection in; False if there are too many."""

    def closed(self, connection: "DownstreamConnection") -> None:
        """Counts it out."""

    def handshaken(self, connection: ssl.SSLObject) -> None:
        """A client has taken the certificate that it was shown."""

    def refused(self, status: int, why: str) -> None:
        """A client wanted too much, or what cannot be: see events.Refused."""

    def watch(self, connection: "DownstreamConnection") -> None:
        """Calls its `look` at each sweep, until that says that it need not."""

    def failed(self, error: Exception) -> None:
        """`begin` has raised, which is a fault of ours."""


def shown_by(connection: ssl.SSLObject | None) -> ClientCertificate | None:
    """The certificate of a client, if it was asked for one and has one; the handshake took it."""
    der = connection.getpeercert(binary_form=True) if connection is not None else None
    return client_certificate(der) if der is not None else None


class DownstreamConnection:
    """See the module's head; an asyncio.Protocol in all but its class, because attributes of classes that derive from
    others' are slow when compiled (scripts/compile). `deadline` is in the worker's seconds; the sweep calls `expire`
    once it has passed."""

    __slots__ = (
        "_acked", "_busy", "_closing", "_forwards", "_guards", "_h1", "_h2", "_heading", "_host", "_is_proxy",
        "_leaving", "_lingering", "_listener", "_local_port", "_look_at", "_opening", "_protocols", "_read_paused",
        "_requests", "_settled", "_source", "_tls", "_transport", "_write_paused", "codec", "deadline", "peer",
        "streams",
    )  # fmt: skip

    def __init__(
        self, host: Host, listener: str, local_port: int, *, tls: bool, source: tuple[str, int] | None = None,
        forwards_certificate: bool = True, is_proxy: bool = False, guards: Guards = USUAL,
        protocols: Collection[str] = ("h1",),
    ) -> None:  # fmt: skip
        """`local_port` is the listener's port as clients know it. `source`: the client, where a proxy before us has
        said it (gateway/proxy_door). `forwards_certificate`: upstreams are told of the one that the client shows, if
        any is asked for. `is_proxy`: see Http1Server. `guards` hold as long as it lives. `protocols`: of the listener;
        without TLS the first bytes say which it is, if there are both h1 and h2 (RFC 9113 section 3.3)."""
        self._source = source
        self._guards = guards
        self._requests = 0
        self._settled = -1  # so many requests when the connection last became idle
        self._look_at = NEVER  # whether the client reads; the sweep calls `look`
        self._acked = 0  # bytes, when it was looked at last
        self._host = host
        self._listener = listener
        self._tls = tls
        self._forwards = forwards_certificate
        self._is_proxy = is_proxy
        self._local_port = local_port
        self._transport: asyncio.Transport
        self._busy = False  # inside a batch: the flush at its end writes for all
        self._closing = False
        self._heading = False  # the deadline stands for a head that has begun
        self._write_paused = False
        self._read_paused = False
        self._lingering = False
        self._leaving = False  # HTTP/2: GOAWAY was said because nothing came
        self._h1: Http1Server | None = None
        self._h2: Http2Server | None = None
        self._protocols = protocols
        self._opening: bytes | None = None  # what has come, while it may be the beginning of HTTP/2 or of HTTP/1.1
        self.codec: ServerCodec
        self.deadline = NEVER
        self.peer: Peer
        self.streams: dict[int, Stream] = {}

    # The transport's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Chooses the codec by ALPN, or by what a listener without TLS has. The handshake is over."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        tls_object = transport.get_extra_info("ssl_object") if self._tls else None
        if tls_object is not None:
            self._host.handshaken(tls_object)
            h2 = tls_object.selected_alpn_protocol() == "h2"
        else:
            h2 = "h1" not in self._protocols
            self._opening = None if h2 or "h2" not in self._protocols else b""
        self._speak(h2=h2)
        name = self._source or transport.get_extra_info("peername") or ("", 0)
        self.peer = Peer(
            name[0], name[1], self._local_port, self._listener, self._tls, "h2" if h2 else "h1",
            shown_by(tls_object), self._forwards,
        )  # fmt: skip
        if self._host.opened(self):
            self.flush()  # HTTP/2 speaks first: its SETTINGS
            self.deadline = self._host.coarse_now + self._guards.header_seconds
        else:
            self._turn_away()

    def _speak(self, *, h2: bool) -> None:
        if h2:
            self._h1 = None
            self.codec = self._h2 = Http2Server(self._host.clock, bounds_of(self._guards), is_proxy=self._is_proxy)
        else:
            scheme = b"https" if self._tls else b"http"
            self.codec = self._h1 = Http1Server(scheme, bounds_of(self._guards), is_proxy=self._is_proxy)

    def data_received(self, data: bytes) -> None:
        """Runs one batch: bytes to events, events to exchanges, one write at the end."""
        if self._opening is not None:
            data = self._recognised(self._opening + data)
        if data and not self._lingering:
            self._run(data)

    def _recognised(self, opening: bytes) -> bytes:
        """All that has come, once it is clear whether it begins as HTTP/2 does; nothing before."""
        is_h2 = PREFACE.startswith(opening[: len(PREFACE)])
        if is_h2 and len(opening) < len(PREFACE):
            self._opening = opening
            return b""
        self._opening = None
        if is_h2:
            self._speak(h2=True)
            self.peer = replace(self.peer, protocol="h2")
        return opening

    def eof_received(self) -> bool:
        """The client has closed its side. Like other proxies we take it for gone, although TCP knows half-closing:
        there is no other sign of a client that no longer waits."""
        if not self._lingering:
            self._busy = True
            self._dispatch(self.codec.receive_eof())
            self._busy = False
            self.flush()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Tells the exchanges that their client is gone."""
        self.deadline = NEVER
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            stream.exchange.on_reset("the client closed the connection")
        self._host.closed(self)

    def pause_writing(self) -> None:
        """The socket is full: exchanges see `writable` False, and stop their upstreams at once, because each could
        otherwise add what it has just read. Over HTTP/2 nothing is read either: every request is answered somehow, so
        a client that asks on and never reads would make the socket's queue grow."""
        self._write_paused = True
        self._watch()
        if self._h1 is None and not self._read_paused:
            self._read_pause()
        for stream in list(self.streams.values()):
            stream.blocked = True
            stream.exchange.on_blocked()

    def resume_writing(self) -> None:
        """The socket takes data again."""
        self._write_paused = False
        if self._h1 is None and self._read_paused:
            self._read_on()
        for stream in list(self.streams.values()):
            if stream.blocked and stream.writable:
                stream.blocked = False
                stream.exchange.on_writable()
        self.flush()

    # The worker's calls

    def expire(self, now: float) -> None:
        """The deadline has passed: no head came in time, or nothing at all, or the client does not take the end."""
        self.deadline = NEVER
        if self._closing:
            self.cut()
        elif self._heading:
            self._refuse(408, "the request head did not come in time", "slow_header")
            self.flush()
        elif self._h1 is None and not self._leaving:
            self._leaving = True
            self.codec.shut_down()
            self.flush()
            self.deadline = now + GOAWAY_SECONDS
        else:
            self.close()

    def shut_down(self) -> None:
        """Drain: the client is told to go elsewhere; streams that are open end in their own time."""
        self.codec.shut_down()
        self.flush()

    def close(self) -> None:
        """Ends the connection; output that is waiting is still written."""
        if not self._closing:
            self._closing = True
            self.deadline = self._host.coarse_now + CLOSE_SECONDS
            self._transport.close()

    def flush(self) -> None:
        """Writes what the codec has collected, then does what the end of a response allows."""
        if self._busy:
            return
        output = self.codec.take_output()
        if output and not self._transport.is_closing():
            self._transport.write(output)
        if not self.streams:
            h1 = self._h1
            if h1 is not None and h1.held and h1.ready and not self._write_paused:
                self._run(b"")
            elif h1 is None or h1.held or h1.closing or self._read_paused:
                self._settle()
            else:  # the common end of an exchange: nothing is left to be settled
                self._heading = False
                self.deadline = self._host.coarse_now + self._guards.idle_seconds
        if self._h2 is not None and self._h2.holds:
            self._watch()

    # The walk of a batch

    def _run(self, data: bytes) -> None:
        """Bytes to events, events to exchanges; again while pipelined requests are answered at once."""
        h1 = self._h1
        while True:
            self._busy = True
            self._dispatch(self.codec.receive(data))
            self._busy = False
            output = self.codec.take_output()
            if output and not self._transport.is_closing():
                self._transport.write(output)
            if self.streams or h1 is None or not h1.held or not h1.ready or self._write_paused:
                break
            data = b""
        if not self.streams or (h1 is not None and h1.held):
            self._settle()
        if self._h2 is not None and self._h2.holds:
            self._watch()

    def read_upgraded(self) -> None:
        """What has come behind the request is of the new protocol, and waits no longer."""
        if self._read_paused and not self._write_paused:
            self._read_on()
        self._run(b"")

    def _settle(self) -> None:
        """After a batch: whether to close, whether to read on, and until when."""
        h1 = self._h1
        mid_head = waits = False
        if h1 is not None and h1.held:
            mid_head = h1.mid_head
            waits = h1.behind or h1.ready  # pipelined: it is this client's turn to wait
        elif self._h2 is not None:
            mid_head = self._h2.mid_head
        if not self.streams:
            if self.codec.closing:
                self._close_gently()
                return
            if mid_head:
                self._wait_for_head()
            elif self._leaving:
                self.deadline = self._host.coarse_now + GOAWAY_SECONDS
            elif self._heading or self._settled != self._requests:  # frames without a request make nobody less idle
                self._heading = False
                self._settled = self._requests
                self.deadline = self._host.coarse_now + self._guards.idle_seconds
            if self._read_paused and not self._write_paused and not waits:
                self._read_on()
        if waits and not self._read_paused:
            self._read_pause()

    def _read_pause(self) -> None:
        self._read_paused = True
        if not self._transport.is_closing():  # uvloop raises
            self._transport.pause_reading()

    def _read_on(self) -> None:
        self._read_paused = False
        if not self._transport.is_closing():  # uvloop raises
            self._transport.resume_reading()

    def _wait_for_head(self) -> None:
        if not self._heading:
            self._heading = True
            self.deadline = self._host.coarse_now + self._guards.header_seconds

    def _dispatch(self, events: list[Event]) -> None:
        streams = self.streams
        for event in events:
            kind = type(event)
            if kind is RequestHead:
                self._begin(event)  # type: ignore[arg-type] # mypy does not narrow by `kind is`, isinstance costs more
            elif kind is Data:
                if (stream := streams.get(event.stream_id)) is not None:  # type: ignore[union-attr] # as above
                    stream.exchange.on_body(event.data)  # type: ignore[union-attr] # as above
                else:  # answered already: the rest is read and dropped
                    self.codec.consumed(event.stream_id, len(event.data))  # type: ignore[union-attr] # as above
            elif kind is End:
                if (stream := streams.get(event.stream_id)) is not None:  # type: ignore[union-attr] # as above
                    stream.exchange.on_body_end()
            else:
                self._dispatch_rare(event)

    def _dispatch_rare(self, event: Event) -> None:
        if isinstance(event, Refused):
            self._host.refused(event.status, event.why)
        elif isinstance(event, ConnectionEnded):
            self.close()
        elif (stream := self.streams.get(event.stream_id)) is None:
            return
        elif isinstance(event, Writable):
            if stream.blocked and not self._write_paused:
                stream.blocked = False
                stream.exchange.on_writable()
        elif isinstance(event, Trailers):
            stream.exchange.on_trailers(event.headers)
        elif isinstance(event, Reset):
            del self.streams[event.stream_id]
            stream.exchange.on_reset(event.reason)

    def _begin(self, head: RequestHead) -> None:
        self.deadline = NEVER  # from here on the exchange keeps the time
        self._heading = False
        self._requests += 1
        if self._requests >= self._guards.requests_per_connection_max:
            self.codec.shut_down()
        stream = self.streams[head.stream_id] = Stream(self, head.stream_id)
        try:
            exchange = self._host.begin(head, stream, self.peer)
        except Exception as error:
            self.streams.pop(head.stream_id, None)
            self.codec.respond(head.stream_id, 500, [(b"content-length", b"0")], end=True)
            self.codec.reset(head.stream_id, "a fault of the gateway")  # if a response had begun
            self._host.failed(error)
            return
        if head.stream_id in self.streams:  # else it is over already, and a cycle would be garbage
            stream.exchange = exchange

    # Who does not read

    def _watch(self) -> None:
        if self._look_at == NEVER and self._guards.bytes_per_second_min:
            self._look_at = self._host.coarse_now + self._guards.slow_seconds
            self._acked = self._acknowledged()
            if self._h2 is not None:
                self._h2.stalled(0)
            self._host.watch(self)

    def look(self, now: float) -> bool:
        """Whether to look again: at a socket that takes no more, or at streams that HTTP/2's windows stop. Of both it
        counts what has left us: buffers of ours and of the kernel's hold much, and empty by jumps."""
        h2 = self._h2
        if self._transport.is_closing() or not (self._write_paused or (h2 is not None and h2.holds)):
            self._look_at = NEVER
            return False
        if now < self._look_at:
            return True
        self._look_at = now + self._guards.slow_seconds
        bytes_min = self._guards.bytes_per_second_min * self._guards.slow_seconds
        acked, before = self._acknowledged(), self._acked
        self._acked = acked
        if self._write_paused and acked - before < bytes_min:
            self._host.refused(400, "slow_read")
            for stream_id in list(self.streams):
                self._stop_slow(stream_id)
            self.cut()
            return False
        for stream_id in h2.stalled(bytes_min) if h2 is not None else ():
            self._host.refused(400, "slow_read")
            self._stop_slow(stream_id)
            self.codec.reset(stream_id, "the client does not read")
        self.flush()
        return True

    def _stop_slow(self, stream_id: int) -> None:
        stream = self.streams.pop(stream_id, None)
        if stream is not None:
            stream.exchange.on_reset("the client does not read", CUT_CLIENT)

    def _acknowledged(self) -> int:
        """Bytes that the client's kernel has taken, since the connection began (Linux's tcpi_bytes_acked)."""
        sock: socket.socket | None = self._transport.get_extra_info("socket")
        if sock is None:
            return 0
        try:
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, ACKED.size)
        except OSError:  # it is gone
            return 0
        return int(ACKED.unpack(info)[0])

    # Endings

    def _refuse(self, status: int, reason: str, why: str) -> None:
        if self._h1 is not None:
            self._dispatch(self._h1.refuse(status, reason))
        elif self._h2 is not None:
            self._dispatch(self._h2.refuse(reason, why))

    def _close_gently(self) -> None:
        if self._lingering or self._closing:
            return
        h1 = self._h1
        if h1 is not None and h1.unread and self._transport.can_write_eof():
            self._lingering = True
            self.deadline = self._host.coarse_now + LINGER_SECONDS
            self._transport.write_eof()
        else:
            self.close()

    def _turn_away(self) -> None:
        self._refuse(503, "too many connections", "connections")
        self._lingering = True
        self._transport.write(self.codec.take_output())
        self.close()

    def cut(self) -> None:
        """Ends the connection so that a body without a length (HTTP/1.0) is seen to be cut: by RST, not FIN."""
        sock: socket.socket | None = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


class Stream:
    """See stream.DownstreamStream: one exchange's door to its client."""

    __slots__ = ("_connection", "_id", "blocked", "exchange")

    exchange: Exchange

    def __init__(self, connection: DownstreamConnection, stream_id: int) -> None:
        self._connection = connection
        self._id = stream_id
        self.blocked = False  # `writable` was asked for and was False: `on_writable` is owed

    @property
    def writable(self) -> bool:
        """See DownstreamStream."""
        connection = self._connection
        if not connection._write_paused and connection.codec.writable(self._id):
            return True
        self.blocked = True
        return False

    def respond(self, status: int, headers: Headers, *, end: bool) -> None:
        """See DownstreamStream."""
        connection = self._connection
        connection.codec.respond(self._id, status, headers, end=end)
        if end:
            connection.streams.pop(self._id, None)

    def upgrade(self, headers: Headers) -> None:
        """See DownstreamStream."""
        connection = self._connection
        connection.codec.upgrade(self._id, headers)
        if connection._h1 is not None:
            connection.read_upgraded()

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """See DownstreamStream."""
        connection = self._connection
        h1 = connection._h1
        if h1 is not None:
            h1.answer(self._id, status, headers, body)
        else:
            connection.codec.respond(self._id, status, headers, end=False)
            connection.codec.send_data(self._id, body, end=True)
        connection.streams.pop(self._id, None)

    def inform(self, status: int, headers: Headers) -> None:
        """See DownstreamStream."""
        self._connection.codec.inform(self._id, status, headers)

    def send_data(self, data: bytes, *, end: bool) -> None:
        """See DownstreamStream."""
        connection = self._connection
        connection.codec.send_data(self._id, data, end=end)
        if end:
            connection.streams.pop(self._id, None)

    def send_trailers(self, headers: Headers) -> None:
        """See DownstreamStream."""
        connection = self._connection
        connection.codec.send_trailers(self._id, headers)
        connection.streams.pop(self._id, None)

    def reset(self, reason: str) -> None:
        """See DownstreamStream."""
        connection = self._connection
        connection.streams.pop(self._id, None)
        connection.codec.reset(self._id, reason)
        if connection._h1 is not None and connection._h1.body_ends_by_close:
            connection.cut()
        else:
            connection.flush()

    def consumed(self, count: int) -> None:
        """See DownstreamStream."""
        self._connection.codec.consumed(self._id, count)

    def pause_body(self) -> None:
        """See DownstreamStream. HTTP/2 pauses by credit: `consumed` is not called."""
        connection = self._connection
        if connection._h1 is not None and not connection._read_paused:
            connection._read_pause()

    def resume_body(self) -> None:
        """See DownstreamStream."""
        connection = self._connection
        if connection._h1 is not None and connection._read_paused and not connection._h1.behind:
            connection._read_on()

    def flush(self) -> None:
        """See DownstreamStream."""
        self._connection.flush()
