"""DNS over QUIC (RFC 9250): one query on each stream, answered on it; a zone transfer by many messages.

Invariants: what a client can make us keep is bounded, as over TCP: handshakes under way (beyond a number of them each
client must first prove its address by Retry), connections, streams (aioquic lets a client have 128 open), bytes of
queries that are not complete and of answers that are not taken. A connection that completes no query for the idle time
is closed, whatever else it sends. What RFC 9250 section 4.3.3 calls a protocol error ends the connection so.

The connections are aioquic's; of its private parts those are touched that choose a certificate by host and keep the
window for what clients send from growing (`_ServerQuic`), that ask for Retry by need (`QuicDoor._lets_in`), and that
know what has left (`QuicConnection._has_taken`). No session tickets are given, so there is no early data to replay.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, Protocol

from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import QuicServer
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import NetworkAddress
from aioquic.quic.connection import QuicConnection as _Quic
from aioquic.quic.packet import QuicPacketType, pull_quic_header
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.retry import QuicRetryTokenHandler

from meridian_dns.desk import Desk, Stream
from meridian_dns.message import parse
from meridian_dns.throttle import network_of

ALPN = "doq"
NO_ERROR, INTERNAL_ERROR, PROTOCOL_ERROR, REQUEST_CANCELLED, EXCESSIVE_LOAD = range(5)  # RFC 9250 section 4.3

HANDSHAKES_MAX = 128  # as over TLS: about 3 ms of processor time each
HANDSHAKES_BEFORE_RETRY = 32  # a tenth of a second's work; a round trip more is then the least harm
HANDSHAKE_SECONDS = 5.0
WINDOW_BYTES = 128 * 1024  # of queries that are not complete: two of the longest
IN_FLIGHT_BYTES_MAX = 256 * 1024  # answers that a client has not acknowledged: four of the longest
MESSAGE_BYTES_MAX = 2 + 65535  # a length and a message
CONNECTION_ID_BYTES = 8

# Clients can provoke aioquic's warnings at will.
logging.getLogger("quic").setLevel(logging.ERROR)


class HostCertificate(Protocol):
    """A certificate, its chain and key, as cryptography's types."""

    @property
    def leaf(self) -> Any:
        """The certificate of the host."""

    @property
    def chain(self) -> tuple[Any, ...]:
        """What leads from it to a root."""

    @property
    def key(self) -> Any:
        """Its private key."""


ChooseCertificate = Callable[[str | None], HostCertificate | None]


class _ServerTls(tls.Context):
    """Chooses the certificate when the client has said which host it wants."""

    choose_certificate: ChooseCertificate

    def _server_handle_hello(self, input_buf: Buffer, initial_buf: Buffer, handshake_buf: Buffer) -> None:
        start = input_buf.tell()
        host = tls.pull_client_hello(input_buf).server_name
        input_buf.seek(start)
        certificate = self.choose_certificate(host)
        if certificate is None:
            raise tls.AlertHandshakeFailure("there is no certificate")
        self.certificate, self.certificate_chain = certificate.leaf, list(certificate.chain)
        self.certificate_private_key = certificate.key
        super()._server_handle_hello(input_buf, initial_buf, handshake_buf)


class _ServerQuic(_Quic):
    """`unread_bytes`: those of queries that are not complete, which the one who holds them keeps count of."""

    choose_certificate: ChooseCertificate
    unread_bytes = 0

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        self.tls.__class__ = _ServerTls
        assert isinstance(self.tls, _ServerTls)
        self.tls.choose_certificate = self.choose_certificate

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        """aioquic doubles the window when half of it has arrived; with `used` at 0 it does not."""
        limit = self._local_max_data
        used = limit.used
        receivers = [stream.receiver for stream in self._streams.values() if not stream.receiver.is_finished]
        held = self.unread_bytes + sum(one.highest_offset - one.starting_offset() for one in receivers)
        if (value := used - held + WINDOW_BYTES) - limit.value >= WINDOW_BYTES // 4:
            limit.value = value
        limit.used = 0
        try:
            super()._write_connection_limits(builder, space)
        finally:
            limit.used = used


class QuicDoor(QuicServer):
    """One socket's connections: give it to `create_datagram_endpoint`. They come to the desk after their handshake."""

    def __init__(self, desk: Desk, choose_certificate: ChooseCertificate) -> None:
        """`choose_certificate` by the host that a client names; None: nobody is let in."""
        configuration = QuicConfiguration(
            is_client=False,
            alpn_protocols=[ALPN],
            connection_id_length=CONNECTION_ID_BYTES,
            idle_timeout=desk.idle_seconds,
            max_data=WINDOW_BYTES,
            max_stream_data=MESSAGE_BYTES_MAX + 1,
        )
        super().__init__(configuration=configuration, create_protocol=self._welcome)
        self.desk = desk
        self.handshakes = 0
        self._choose_certificate = choose_certificate
        self._tokens = QuicRetryTokenHandler()

    def datagram_received(self, data: bytes | str, addr: NetworkAddress) -> None:
        """Hands a datagram to its connection, an old one or a new."""
        assert isinstance(data, bytes)
        if data and (not data[0] & 0x80 or self._lets_in(data)):  # a short header is of a connection that stands
            super().datagram_received(data, addr)

    def error_received(self, exc: Exception) -> None:
        """The kernel says here that an earlier datagram did not arrive; QUIC finds that out by itself."""

    def forget(self, connection: "QuicConnection") -> None:
        """Knows a connection no more: one that only sent garbage is never told to be over."""
        self._connection_terminated(connection)

    def _lets_in(self, data: bytes) -> bool:
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=CONNECTION_ID_BYTES)
        except ValueError:
            return False
        if header.packet_type is not QuicPacketType.INITIAL or header.destination_cid in self._protocols:
            return True
        certificate = self._choose_certificate(None)
        if (
            certificate is None
            or self.handshakes >= HANDSHAKES_MAX
            or len(self.desk.connections) >= self.desk.connections_max
        ):
            self.desk.refused += 1
            return False
        # aioquic wants one to begin with; which it is, is chosen when the client has named a host.
        self._configuration.certificate, self._configuration.private_key = certificate.leaf, certificate.key
        must_prove = self.handshakes >= HANDSHAKES_BEFORE_RETRY or bool(header.token)
        self._retry = self._tokens if must_prove else None  # type: ignore[assignment]  # so does aioquic
        return True

    def _welcome(self, quic: _Quic, stream_handler: object = None) -> "QuicConnection":
        quic.__class__ = _ServerQuic  # aioquic makes them itself
        assert isinstance(quic, _ServerQuic)
        quic.choose_certificate = self._choose_certificate
        return QuicConnection(quic, self)


class QuicConnection(QuicConnectionProtocol):
    """One client's connection."""

    _quic: _ServerQuic

    def __init__(self, quic: _ServerQuic, door: QuicDoor) -> None:
        super().__init__(quic)
        self._door, self._desk = door, door.desk
        self._source, self._network = "", b""
        self._unread: dict[int, bytearray] = {}
        self._cancelled: set[int] = set()  # streams whose rest is not looked at
        self._transfers: dict[int, Stream] = {}
        self._unacknowledged: dict[int, int] = {}  # bytes of answers by stream; some may be acknowledged already
        self._unacknowledged_bytes = 0
        self._turn_is_due = self._is_over = False
        self._last_progress = self._loop.time()
        self._is_shaking = True
        door.handshakes += 1
        self._watch: asyncio.TimerHandle | None = self._loop.call_later(HANDSHAKE_SECONDS, self._check_handshake)

    def datagram_received(self, data: bytes | str, addr: NetworkAddress) -> None:
        """Takes a datagram; answers go to where the connection began from, and later to where QUIC finds the client."""
        self._source = self._source or addr[0]
        super().datagram_received(data, addr)

    def quic_event_received(self, event: events.QuicEvent) -> None:
        """What aioquic found in a datagram."""
        match event:
            case events.HandshakeCompleted():
                self._enter()
            case events.StreamDataReceived():
                self._take(event.stream_id, event.data, is_end=event.end_stream)
            case events.StreamReset():
                self._cancel(event.stream_id)
                self._cancelled.discard(event.stream_id)
            case events.StopSendingReceived():
                self._cancel(event.stream_id)
            case events.ConnectionTerminated():
                self._leave()

    def transmit(self) -> None:
        """Sends what can be sent, and goes on with transfers whose last message has left."""
        super().transmit()
        if self._transfers and not self._turn_is_due and any(map(self._has_taken, self._transfers)):
            self._turn_is_due = True
            self._loop.call_soon(self._advance)

    # Its life

    def _enter(self) -> None:
        self._end_handshake()
        self._network = network_of(self._source)
        if not self._desk.admit(self, self._network):
            self._end(EXCESSIVE_LOAD, "too many connections")
            return
        self._last_progress = self._loop.time()
        self._watch = self._loop.call_later(self._desk.idle_seconds, self._check_idle)

    def _end(self, code: int, reason: str) -> None:
        """Says why, and takes no more; the place is free when the client has had time to hear it."""
        self._is_over = True
        for stream in self._transfers.values():
            stream.close()
        self._transfers.clear()
        self._unread.clear()
        self.close(code, reason)

    def _leave(self) -> None:
        if self._is_shaking:
            self._end_handshake()
        if self._watch is not None:
            self._watch.cancel()
        self._desk.leave(self, self._network)
        self._end(NO_ERROR, "")

    def _end_handshake(self) -> None:
        self._is_shaking = False
        self._door.handshakes -= 1
        if self._watch is not None:
            self._watch.cancel()

    def _check_handshake(self) -> None:
        self._end(EXCESSIVE_LOAD, "the handshake took too long")
        self._door.forget(self)
        self._leave()

    def _check_idle(self) -> None:
        deadline = self._last_progress + self._desk.idle_seconds
        if self._loop.time() < deadline:
            self._watch = self._loop.call_at(deadline, self._check_idle)
        else:
            self._end(NO_ERROR, "idle")

    # Queries

    def _take(self, stream_id: int, data: bytes, *, is_end: bool) -> None:
        if self._is_over:
            return
        if stream_id & 3:
            self._end(PROTOCOL_ERROR, "only the client's bidirectional streams carry queries")
            return
        if stream_id in self._cancelled:
            if is_end:
                self._cancelled.remove(stream_id)
            return
        unread = self._unread.setdefault(stream_id, bytearray())
        unread += data
        self._quic.unread_bytes += len(data)
        if len(unread) > MESSAGE_BYTES_MAX:
            self._end(PROTOCOL_ERROR, "more than one message on a stream")
        elif is_end:
            self._forget(stream_id)
            self._answer(stream_id, bytes(unread))

    def _forget(self, stream_id: int) -> None:
        self._quic.unread_bytes -= len(self._unread.pop(stream_id, b""))

    def _answer(self, stream_id: int, data: bytes) -> None:
        query = data[2:]
        if len(data) < 2 or len(query) != int.from_bytes(data[:2], "big"):
            self._end(PROTOCOL_ERROR, "a stream holds one message behind its length, whole")
            return
        parsed = parse(query)
        asked = parsed.edns.asked if parsed is not None and parsed.edns is not None else None
        if parsed is None or parsed.id or (asked is not None and asked.keepalive):
            self._end(
                PROTOCOL_ERROR, "no query, or one with a message id or keepalive (RFC 9250 sections 4.2.1, 5.5.2)"
            )
            return
        self._last_progress = self._loop.time()
        response = self._desk.answerer(query, self._source)
        if response is None:
            self._quic.reset_stream(stream_id, INTERNAL_ERROR)
        elif isinstance(response, bytes):
            self._write(stream_id, _framed(response), is_end=True)
            self._count(stream_id, len(response))
        else:
            self._transfers[stream_id] = response

    def _write(self, stream_id: int, data: bytes, *, is_end: bool) -> None:
        # aioquic raises for a stream that the client has asked not to be written to, or that is over.
        with contextlib.suppress(RuntimeError, ValueError):
            self._quic.send_stream_data(stream_id, data, end_stream=is_end)

    def _count(self, stream_id: int, size: int) -> None:
        """Ends the connection of a client that asks on and on and takes nothing."""
        self._unacknowledged[stream_id] = size
        self._unacknowledged_bytes += size
        if self._unacknowledged_bytes > IN_FLIGHT_BYTES_MAX:
            # aioquic forgets a stream when all of it is acknowledged.
            streams = self._quic._streams
            self._unacknowledged = {id_: size for id_, size in self._unacknowledged.items() if id_ in streams}
            self._unacknowledged_bytes = sum(self._unacknowledged.values())
            if self._unacknowledged_bytes > IN_FLIGHT_BYTES_MAX:
                self._end(EXCESSIVE_LOAD, "answers are not taken")

    def _cancel(self, stream_id: int) -> None:
        """The client does not want it any more (RFC 9250 section 4.3.1)."""
        if stream_id in self._unread:
            self._forget(stream_id)
            self._cancelled.add(stream_id)
        stream = self._transfers.pop(stream_id, None)
        if stream is not None:
            stream.close()
        self._quic.reset_stream(stream_id, REQUEST_CANCELLED)

    # Transfers

    def _has_taken(self, stream_id: int) -> bool:
        """Whether all that was written to a stream has left, as far as the client's windows let it."""
        stream = self._quic._streams.get(stream_id)
        return stream is None or stream.sender.buffer_is_empty

    def _advance(self) -> None:
        """The next message of each transfer whose client keeps up. One turn makes one of each."""
        self._turn_is_due = False
        for stream_id in [id_ for id_ in self._transfers if self._has_taken(id_)]:
            message = next(self._transfers[stream_id], None)
            self._last_progress = self._loop.time()
            if message is None:
                del self._transfers[stream_id]
                self._write(stream_id, b"", is_end=True)
            else:
                self._write(stream_id, _framed(message), is_end=False)
        self.transmit()


def _framed(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message
