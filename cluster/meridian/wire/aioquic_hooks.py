"""Every private part of aioquic that we touch, in one place, for the one version that we pin.

aioquic has no public way to choose a certificate by host, to ask for the client's and judge it, to say what a
connection id holds, to give credit when data is consumed instead of when it arrives, to see how much it has yet to
send, to end one malformed request instead of its connection, or to say GOAWAY. tests/wire/test_aioquic_hooks.py fails
when the version changes or a part that is used here is gone: then read this file against the new source before raising
the pin.
"""

import hashlib
import hmac
import logging
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Protocol

import pylsqpack
from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.asyncio.server import _encode_invalid_token_close
from aioquic.buffer import encode_uint_var
from aioquic.h3 import connection as h3_connection
from aioquic.h3.connection import (
    ClosedCriticalStream,
    ErrorCode,
    FrameType,
    FrameUnexpected,
    H3Connection,
    H3Stream,
    MessageError,
    ProtocolError,
    Setting,
    StreamType,
    encode_frame,
)
from aioquic.h3.events import H3Event
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import MAX_EARLY_DATA, QuicConnection, QuicConnectionState
from aioquic.quic.events import StreamDataReceived
from aioquic.quic.packet import QuicFrameType
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.retry import QuicRetryTokenHandler
from aioquic.quic.stream import QuicStream
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding

from meridian.wire.bounds import USUAL, Bounds
from meridian.wire.client_chains import ChainError, ClientChains

AIOQUIC_VERSION = "1.7.2"

CONNECTION_ID_BYTES = 8
"""The first byte is the worker's slot, the second its generation; the rest is random."""

STREAM_WINDOW_BYTES = 256 * 1024
"""As in HTTP/2: what one request body may have in our memory."""

CONNECTION_WINDOW_BYTES = 1024 * 1024
"""As in HTTP/2: what all request bodies of a connection may have in our memory."""

UNIDIRECTIONAL_WINDOW_BYTES = 16 * 1024
"""The control and QPACK streams: parsed as they come, so that this is also the largest SETTINGS frame."""

TICKET_SECONDS = 3600
"""As over TCP: core/shared_secrets.TOKEN_SECONDS, which this room may not import."""

CLOCKS_SECONDS = 300
"""Of two nodes may differ."""

_SESSION = struct.Struct("!QH")  # until when, by seconds since 1970, and the cipher suite; then the secret

_IDLE_FRAMES = (
    QuicFrameType.PING, QuicFrameType.PATH_CHALLENGE, QuicFrameType.NEW_CONNECTION_ID,
    QuicFrameType.DATA_BLOCKED, QuicFrameType.STREAM_DATA_BLOCKED,
    QuicFrameType.STREAMS_BLOCKED_BIDI, QuicFrameType.STREAMS_BLOCKED_UNI,
)  # fmt: skip
"""Each costs us work, often an answer too, and brings no request nearer."""

# Clients can provoke aioquic's warnings at will; what matters of them reaches the log as the end of the connection.
logging.getLogger("quic").setLevel(logging.ERROR)


class HostCertificate(Protocol):
    """What `gateway.tls.QuicCertificate` is: a leaf, its chain, its key, of cryptography's types."""

    @property
    def leaf(self) -> Any:
        """The certificate of the host."""

    @property
    def chain(self) -> tuple[Any, ...]:
        """What leads from it to a root."""

    @property
    def key(self) -> Any:
        """Its private key."""


class Tickets(Protocol):
    """What `gateway.tickets.TicketBox` is."""

    def seal(self, session: bytes, host: bytes) -> bytes:
        """A ticket."""

    def open(self, ticket: bytes, host: bytes) -> bytes | None:
        """The session; None if it is not good here."""


class Early(Protocol):
    """What `gateway.early_data.EarlyData` is: whether this client's early data is read."""

    @property
    def tag(self) -> bytes:
        """What tickets are to carry."""

    def take(self, ticket: bytes, tag: bytes) -> bool:
        """Whether early data may come under a ticket with this tag; it is asked once for each."""


ChooseCertificates = Callable[[str | None], Sequence[HostCertificate]]


class _CertificateRequired(tls.Alert):
    description = tls.AlertDescription.certificate_required


class _UnknownAuthority(tls.Alert):
    description = tls.AlertDescription.unknown_ca


class _Revoked(tls.Alert):
    description = tls.AlertDescription.certificate_revoked


# OpenSSL's X509_V_ERR_* to the alerts that it sends itself (ssl_x509err2alert).
_ALERTS: dict[int, type[tls.Alert]] = {
    **dict.fromkeys((18, 19, 20, 21), _UnknownAuthority),
    10: tls.AlertCertificateExpired,
    23: _Revoked,
}


class _ServerTls(tls.Context):
    """Chooses the certificate when the client has said which host it wants, and judges that of the client."""

    choose_certificates: ChooseCertificates
    clients: ClientChains | None
    clients_required: bool
    tickets: Tickets | None
    early: Early | None
    _host = b""
    _brings_early_data = False

    def _server_handle_hello(self, input_buf: Buffer, initial_buf: Buffer, handshake_buf: Buffer) -> None:
        start = input_buf.tell()
        hello = tls.pull_client_hello(input_buf)
        input_buf.seek(start)
        certificates = self.choose_certificates(hello.server_name)
        if not certificates:
            raise tls.AlertHandshakeFailure("There is no certificate")
        for certificate in certificates:
            self.certificate = certificate.leaf
            self.certificate_chain = list(certificate.chain)
            self.certificate_private_key = certificate.key
            if not set(self._signature_algorithms_for_private_key()).isdisjoint(hello.signature_algorithms or ()):
                break
        # Early data may be replayed by anybody. aioquic takes all that comes with a session; without one it does not.
        if self.tickets is not None and self.clients is None and (self.early is not None or not hello.early_data):
            self._brings_early_data = hello.early_data
            self._host = (hello.server_name or "").lower().encode()
            self.get_session_ticket_cb = self._open_ticket
        super()._server_handle_hello(input_buf, initial_buf, handshake_buf)

    def _server_handle_finished(self, input_buf: Buffer, output_buf: Buffer) -> None:
        """And gives a ticket, which aioquic would fill with a random name of the session. A client that was asked for a
        certificate gets none: aioquic would wait for one again when it resumes."""
        super()._server_handle_finished(input_buf, output_buf)
        if self.tickets is None or self.clients is not None or self._psk_key_exchange_mode is None:
            return
        message = tls.NewSessionTicket(TICKET_SECONDS, int.from_bytes(os.urandom(4), "big"))
        session = self._build_session_ticket(message, [])
        until = int(session.not_valid_after.timestamp())
        packed = _SESSION.pack(until, session.cipher_suite) + session.resumption_secret
        if self.early is not None:
            message.max_early_data_size = MAX_EARLY_DATA
            packed += self.early.tag
        message.ticket = self.tickets.seal(packed, self._host)
        tls.push_new_session_ticket(output_buf, message)

    def _open_ticket(self, ticket: bytes) -> tls.SessionTicket | None:
        assert self.tickets is not None
        packed = self.tickets.open(ticket, self._host)
        if packed is None:
            return None
        until, suite = _SESSION.unpack_from(packed)
        end = _SESSION.size + tls.cipher_suite_hash(tls.CipherSuite(suite)).digest_size
        if self._brings_early_data and (self.early is None or not self.early.take(ticket, packed[end:])):
            return None
        after = datetime.fromtimestamp(until, UTC)
        return tls.SessionTicket(
            age_add=0, cipher_suite=tls.CipherSuite(suite), not_valid_after=after,
            not_valid_before=after - timedelta(seconds=TICKET_SECONDS + CLOCKS_SECONDS),
            resumption_secret=packed[_SESSION.size : end], server_name="", ticket=ticket,
        )  # fmt: skip

    def _server_handle_certificate(self, input_buf: Buffer) -> None:
        super()._server_handle_certificate(input_buf)
        if self._peer_certificate is None and self.clients_required:
            raise _CertificateRequired("A certificate is required")

    def _server_handle_certificate_verify(self, input_buf: Buffer) -> None:
        assert self.clients is not None and self._peer_certificate is not None, "it was asked for and has come"
        try:
            self.clients.check(self._peer_certificate, self._peer_certificate_chain)
        except ChainError as error:
            raise _ALERTS.get(error.code, tls.AlertBadCertificate)(str(error)) from None
        super()._server_handle_certificate_verify(input_buf)


class ServerQuic(QuicConnection):
    """A server's QUIC connection with credit by consumption, certificates by host, and the worker's place in its ids.

    `unconsumed` is kept by the codec: bytes of request bodies that it has handed on and that are not consumed.
    `clients`: their certificates are asked for, and judged by these. `tickets` let sessions be resumed, `early` with
    early data.
    """

    def __init__(
        self,
        *,
        configuration: QuicConfiguration,
        original_destination_connection_id: bytes,
        retry_source_connection_id: bytes | None,
        choose_certificates: ChooseCertificates,
        clients: ClientChains | None = None,
        clients_required: bool = False,
        tickets: Tickets | None = None,
        early: Early | None = None,
        place: tuple[int, int],
        key: bytes,
        bounds: Bounds = USUAL,
    ) -> None:
        super().__init__(
            configuration=configuration,
            original_destination_connection_id=original_destination_connection_id,
            retry_source_connection_id=retry_source_connection_id,
        )
        self.unconsumed = 0
        self.idle_frames = 0  # for the codec to take
        self.bounds = bounds
        self._delivered: dict[int, int] = {}  # by stream that had more to send when `stalled` was asked last
        limit = self._local_max_streams_bidi
        limit.value = limit.sent = bounds.streams_max
        handlers = self._QuicConnection__frame_handlers  # type: ignore[attr-defined] # aioquic's, by its mangled name
        for kind in _IDLE_FRAMES:
            handle, epochs = handlers[kind]
            handlers[kind] = (partial(self._handle_idle_frame, handle), epochs)
        self._choose_certificates = choose_certificates
        self._clients, self._clients_required = clients, clients_required
        self._tickets, self._early = tickets, early
        self._place = bytes(place)
        self._key = key
        self._local_max_stream_data_uni = UNIDIRECTIONAL_WINDOW_BYTES
        self._stamp_connection_ids()
        self.host_cid = self._local_initial_source_connection_id = self._host_cids[0].cid

    @property
    def is_fresh(self) -> bool:
        """Nothing that could be decrypted has arrived: an Initial packet of garbage."""
        return not self._network_paths or self._state is QuicConnectionState.FIRSTFLIGHT

    @property
    def end_reason(self) -> str | None:
        """Why the connection is over, as soon as it is; aioquic's event comes only after the closing period."""
        event = self._close_event
        return None if event is None else event.reason_phrase or f"closed with code {event.error_code}"

    @property
    def peer_certificate(self) -> bytes | None:
        """What the client has shown, in DER."""
        found = self.tls._peer_certificate
        return None if found is None else found.public_bytes(Encoding.DER)

    @property
    def has_requests(self) -> bool:
        """Whether a request is open, or its response is not all delivered."""
        return any(not stream_id & 3 for stream_id in self._streams)

    @property
    def has_unsent_responses(self) -> bool:
        """Whether the client has not acknowledged all of every response."""
        return any(
            not (stream.stream_id or 0) & 3 and not stream.sender.is_finished for stream in self._streams.values()
        )

    def release_handshake(self) -> None:
        """Drops what only the handshake needed: with it an idle connection costs 70 KB, without it 50. A server's TLS
        says nothing more afterwards: its session ticket has gone with the end of the handshake."""
        self._crypto_buffers = {epoch: Buffer(capacity=64) for epoch in self._crypto_buffers}

    def stream(self, stream_id: int) -> QuicStream:
        """The stream; it exists while its events are being handled."""
        return self._streams[stream_id]

    def stalled(self, bytes_min: float) -> list[int]:
        """Requests whose response has more to send, and of which the client has acknowledged less than so much since
        this was asked last. aioquic keeps what it sends until then, also of responses that have ended for us."""
        sending = {
            stream_id: stream.sender._buffer_start
            for stream_id, stream in self._streams.items()
            if not stream_id & 3 and unsent_bytes(stream)
        }
        before, self._delivered = self._delivered, sending
        return [one for one, sent in sending.items() if one in before and sent - before[one] < bytes_min]

    def grant(self, stream: QuicStream, unconsumed: int) -> bool:
        """Moves the client's limit on a stream to a window beyond what was consumed, in steps of half a window."""
        limit = stream.receiver.starting_offset() - unconsumed + STREAM_WINDOW_BYTES
        if stream.receiver.is_finished or limit - stream.max_stream_data_local < STREAM_WINDOW_BYTES // 2:
            return False
        stream.max_stream_data_local = limit
        return True

    def _handle_idle_frame(self, handle: Callable[..., None], *arguments: Any) -> None:
        self.idle_frames += 1
        handle(*arguments)

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        self.tls.__class__ = _ServerTls
        assert isinstance(self.tls, _ServerTls)
        self.tls.choose_certificates = self._choose_certificates
        self.tls.clients, self.tls.clients_required = self._clients, self._clients_required
        self.tls.tickets, self.tls.early = self._tickets, self._early
        self.tls._request_client_certificate = self._clients is not None

    def _replenish_connection_ids(self) -> None:
        super()._replenish_connection_ids()
        self._stamp_connection_ids()

    def _stamp_connection_ids(self) -> None:
        """Runs before an id is announced; doing it again changes nothing."""
        for connection_id in self._host_cids:
            connection_id.cid = self._place + connection_id.cid[len(self._place) :]
            connection_id.stateless_reset_token = stateless_reset_token(self._key, connection_id.cid)

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        """aioquic doubles the connection's window when half of it has arrived. With `used` at 0 it does not."""
        limit = self._local_max_data
        used = limit.used
        if limit.value - used < CONNECTION_WINDOW_BYTES // 2:
            value = used - self._bytes_held() + CONNECTION_WINDOW_BYTES
            if value - limit.value >= CONNECTION_WINDOW_BYTES // 16:
                limit.value = value
        limit.used = 0
        try:
            super()._write_connection_limits(builder, space)
        finally:
            limit.used = used

    def _write_stream_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream) -> None:
        """As above: with `highest_offset` at 0 the window does not double."""
        receiver = stream.receiver
        if (stream.stream_id or 0) & 3 == 2:
            limit = receiver.starting_offset() + UNIDIRECTIONAL_WINDOW_BYTES
            if limit - stream.max_stream_data_local >= UNIDIRECTIONAL_WINDOW_BYTES // 2:
                stream.max_stream_data_local = limit
        if stream.max_stream_data_local_sent != stream.max_stream_data_local and not receiver.is_finished:
            highest = receiver.highest_offset
            receiver.highest_offset = 0
            try:
                super()._write_stream_limits(builder, space, stream)
            finally:
                receiver.highest_offset = highest

    def _bytes_held(self) -> int:
        """Request bytes in our memory: out of order in QUIC, or handed on and not consumed."""
        held = self.unconsumed
        for stream in self._streams.values():
            receiver = stream.receiver
            if not receiver.is_finished:
                held += receiver.highest_offset - receiver.starting_offset()
        return held


def new_connection_id(place: tuple[int, int]) -> bytes:
    """An id that nobody can guess, of the worker in this slot and of this generation."""
    return bytes(place) + os.urandom(CONNECTION_ID_BYTES - len(place))


def place_of(connection_id: bytes) -> tuple[int, int]:
    """Slot and generation of the worker that gave the id, if a worker of ours gave it. It has two bytes or more."""
    return connection_id[0], connection_id[1]


def unsent_bytes(stream: QuicStream) -> int:
    """What the client has not acknowledged of what was written to the stream."""
    sender = stream.sender
    return sender._buffer_stop - sender._buffer_start


@dataclass(slots=True)
class StreamMalformed(H3Event):
    """Ours among aioquic's events: this request is broken, its connection is not."""

    stream_id: int
    reason: str


class _StaticEncoder:
    """QPACK with the static table only: a response never waits at the client for another stream's bytes, and no
    client can make us keep a table of the size it asks for."""

    def __init__(self) -> None:
        self._encoder = pylsqpack.Encoder()

    def encode(self, stream_id: int, headers: list[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
        return self._encoder.encode(stream_id, headers)

    def apply_settings(self, max_table_capacity: int, blocked_streams: int) -> bytes:
        return b""

    def feed_decoder(self, data: bytes) -> None:
        self._encoder.feed_decoder(data)


class _TooMuchError(ProtocolError):
    error_code = ErrorCode.H3_EXCESSIVE_LOAD


def _note_content_length(headers: list[tuple[bytes, bytes]], stream: H3Stream | None = None) -> None:
    """Stands for aioquic's validation of requests, which looks at each byte of each field in Python (20 to 40 us a
    request). wire/fields checks the same and more by regular expressions; only this part of its effect is needed."""
    for name, value in headers:
        if name == b"content-length" and stream is not None and value.isdigit() and len(value) <= 18:
            stream.expected_content_length = int(value)


h3_connection.validate_request_headers = _note_content_length


class ServerH3(H3Connection):
    """aioquic's HTTP/3 with errors that stay in their stream, bounded buffers, no dynamic tables, and GOAWAY."""

    def __init__(self, quic: ServerQuic, spend_idle: Callable[[], bool]) -> None:
        """`spend_idle` is asked for each frame and stream that brings no request nearer; False: that was too much."""
        self._bounds = quic.bounds
        self._spend_idle = spend_idle
        super().__init__(quic)

    def forget(self, stream_id: int) -> None:
        """Drops what is known of a request whose remaining bytes will not be shown to this object."""
        self._stream.pop(stream_id, None)

    def say_goaway(self, stream_id: int) -> None:
        """Requests from this id on are not taken (RFC 9114 section 5.2)."""
        assert self._local_control_stream_id is not None
        self._quic.send_stream_data(
            self._local_control_stream_id, encode_frame(FrameType.GOAWAY, encode_uint_var(stream_id))
        )

    def _init_connection(self) -> None:
        """With a decoder's table of 4 KiB a header block of 64 KiB could unfold to 256 MiB, unseen by us."""
        self._max_table_capacity = 0
        self._blocked_streams = 0
        self._decoder = pylsqpack.Decoder(0, 0)
        self._encoder = _StaticEncoder()  # type: ignore[assignment] # stands in for pylsqpack's by shape
        super()._init_connection()

    def _get_local_settings(self) -> dict[int, int]:
        settings = super()._get_local_settings()
        settings[Setting.MAX_FIELD_SECTION_SIZE] = self._bounds.head_bytes_max
        return settings

    def _receive_stream_data(self, event: StreamDataReceived) -> list[H3Event]:
        """A malformed message is an error of its stream (RFC 9114 section 4.1.2)."""
        try:
            return super()._receive_stream_data(event)
        except MessageError as error:
            return [StreamMalformed(event.stream_id, error.reason_phrase)]

    def _check_request_or_push_frame_type(self, frame_type: int, stream: H3Stream) -> None:
        super()._check_request_or_push_frame_type(frame_type, stream)
        if frame_type == FrameType.HEADERS:  # it is buffered whole before it is decoded
            if (stream.frame_size or 0) > self._bounds.head_bytes_max:
                raise MessageError("The header block is too large")
        elif frame_type != FrameType.DATA or not stream.frame_size:
            self._count_idle()
        if frame_type == FrameType.WEBTRANSPORT_STREAM:
            raise FrameUnexpected("WebTransport was not offered")

    def _check_control_frame_type(self, frame_type: int) -> None:
        super()._check_control_frame_type(frame_type)
        self._count_idle()

    def _count_idle(self) -> None:
        if not self._spend_idle():
            raise _TooMuchError("too many frames that ask for nothing")

    def _receive_stream_data_uni(self, stream: H3Stream, data: bytes, stream_ended: bool) -> list[H3Event]:
        events = super()._receive_stream_data_uni(stream, data, stream_ended)
        if len(stream.buffer) >= UNIDIRECTIONAL_WINDOW_BYTES:
            raise _TooMuchError("A frame on the control stream is too large")
        if stream_ended:
            if stream.stream_type in (StreamType.QPACK_ENCODER, StreamType.QPACK_DECODER):  # RFC 9204 section 4.2
                raise ClosedCriticalStream("Closing a QPACK stream is not allowed")
            self._count_idle()
        return events


class RetryTokens(QuicRetryTokenHandler):
    """Retry tokens under a key that all workers share."""

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(hmac.digest(key, b"quic retry", hashlib.sha256)[:16])


def stateless_reset_token(key: bytes, connection_id: bytes) -> bytes:
    """The token of an id, computed and not remembered, so that it outlives the worker (RFC 9000 section 10.3.2)."""
    return hmac.digest(key, b"quic reset" + connection_id, hashlib.sha256)[:16]


def stateless_reset(key: bytes, connection_id: bytes, received_bytes: int) -> bytes | None:
    """Says that a connection is unknown here, in less bytes than asked, so that two servers cannot loop
    (RFC 9000 section 10.3); None where that leaves no room."""
    size = min(received_bytes - 1, 43)
    if size < 21:
        return None
    noise = bytearray(os.urandom(size - 16))
    noise[0] = noise[0] & 0x3F | 0x40
    return bytes(noise) + stateless_reset_token(key, connection_id)


def invalid_token_close(version: int, source_cid: bytes, destination_cid: bytes) -> bytes:
    """The packet that refuses an Initial with a bad token (RFC 9000 section 8.1.3)."""
    return _encode_invalid_token_close(version=version, source_cid=source_cid, destination_cid=destination_cid)
