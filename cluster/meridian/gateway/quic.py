"""The UDP side of a listener: QUIC connections of one worker, by connection id, over sockets the launcher has bound.

Invariants:
- A reply leaves from the socket that was asked. A network path is therefore an address of the client and a socket.
- What an unknown sender can make us send is less than what it has sent (three times less at most while a handshake
  has not proved its address), and what it can make us keep is bounded: connections, half-open handshakes (beyond a
  threshold each must first prove its address by Retry), and a time limit on handshakes.
- Nobody is asked to wait: all calls come from the loop and none awaits, but for `close`.

Several workers share a port by SO_REUSEPORT. Every connection id that we issue begins with the worker's slot and its
generation: what reaches another worker, for a client has moved or an upgrade is under way, is handed on (see handing),
and never answered by a reset while its own worker lives.
"""

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from aioquic._buffer import Buffer
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE
from aioquic.quic.packet import (
    QuicHeader,
    QuicPacketType,
    encode_quic_retry,
    encode_quic_version_negotiation,
    pull_quic_header,
)

from meridian.core.snapshot import ClientAuth
from meridian.gateway.early_data import SpentTickets
from meridian.gateway.forwarding import GONE
from meridian.gateway.guarding import Guarding, bounds_of
from meridian.gateway.handing import Client, Neighbours, where_of
from meridian.gateway.quic_connection import Address, QuicDownstream, QuicStream
from meridian.gateway.stream import Begin, Exchange, Peer
from meridian.gateway.tls import TlsContexts
from meridian.telemetry.metrics import Metrics
from meridian.wire import aioquic_hooks as hooks
from meridian.wire.client_chains import ClientChains
from meridian.wire.events import RequestHead
from meridian.wire.http3 import Http3Server, configuration

CONNECTIONS_MAX = 10_000
"""Of one worker, as for TCP. An idle one costs about 50 KB here; beyond, Initials are dropped and clients use TCP."""

HALF_OPEN_BEFORE_RETRY = 200
"""Handshakes under way from which on a client must prove its address first. One costs about 3 ms of CPU, so this
many mean more than half a second of backlog: an attack or a stampede, and a round trip more is the least harm."""

DATAGRAMS_PER_WAKEUP = 64
"""Read before anything else gets its turn: about 3 ms of work."""

DATAGRAM_BYTES_MAX = 2048
"""Clients are told by max_udp_payload_size's default that more is fine, but the path's MTU says otherwise."""

RECEIVE_BUFFER_BYTES = 2 * 1024 * 1024
"""Asked of the kernel (it grants what net.core.rmem_max allows): what arrives while the worker is busy for 10 ms."""

_VERSIONS = list(configuration().supported_versions)


@dataclass(slots=True)
class QuicStats:
    """Counters since the start; plain numbers, read by whoever exports them."""

    connections: int = 0  # open now
    half_open: int = 0  # of these, in the handshake
    accepted: int = 0
    refused: int = 0  # Initials dropped: too many connections, or no certificate
    retried: int = 0  # answered by Retry
    unsendable: int = 0  # datagrams that the kernel did not take; QUIC repeats them


class QuicListener:
    """See the module's head. `start` before use; `close` at the end."""

    def __init__(
        self, *, name: str, sockets: Sequence[socket.socket], certificates: TlsContexts, begin: Begin,
        neighbours: Neighbours, key: bytes, loop: asyncio.AbstractEventLoop, retry_above: int = HALF_OPEN_BEFORE_RETRY,
        port: int | None = None, client_auth: ClientAuth | None = None, early_data: bool = False,
        guarding: Guarding | None = None,
    ) -> None:  # fmt: skip
        """`sockets` are bound and become ours: `close` closes them. `neighbours` are the other workers. `key` is a
        secret that all workers of the node share: Retry tokens and reset tokens are made with it. `port` is the
        listener's port as clients dial it, where that is not the socket's own. `client_auth` says what is asked of
        clients' certificates; it can be used (see tls.check_client_auth). `early_data` may come with tickets.
        `guarding` is the worker's (default: as for a listener that says nothing)."""
        assert len(key) >= 16
        self.stats = QuicStats()
        self._name = name
        self._sockets = list(sockets)
        self._ports = [port or sock.getsockname()[1] for sock in sockets]
        self._certificates = certificates
        self._auth = client_auth
        self._chains = None if client_auth is None else ClientChains(client_auth.ca_pem, client_auth.crl_pem)
        self._spent = SpentTickets(loop.time) if early_data else None
        self._begin = begin
        self._neighbours = neighbours
        self._place = neighbours.place
        self._where = [where_of(sock) for sock in sockets]
        self._retired = False
        self._key = key
        self._loop = loop
        self._retry_above = retry_above
        self._tokens = hooks.RetryTokens(key)
        self._guarding = guarding or Guarding(lambda _: GONE, Metrics())
        self._by_id: dict[bytes, QuicDownstream] = {}
        self._connections: set[QuicDownstream] = set()
        self._entered: set[QuicDownstream] = set()  # those that count for their clients
        self._draining = False
        self._emptied = asyncio.Event()

    def start(self) -> None:
        """Begins to read."""
        for number, sock in enumerate(self._sockets):
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            self._loop.add_reader(sock.fileno(), self._read, sock, number)
            self._neighbours.join(self._where[number], partial(self._take, number))

    @property
    def connections(self) -> int:
        """That are open."""
        return len(self._connections)

    def retire(self) -> None:
        """Another worker reads the sockets from now on, and hands on what belongs here. Clients are told to go."""
        self._retired = True
        for sock in self._sockets:
            self._loop.remove_reader(sock.fileno())
        self.drain()

    def drain(self) -> None:
        """Clients are told to go elsewhere; requests go on. New connections are still served, and told the same."""
        self._draining = True
        for connection in list(self._connections):
            connection.shut_down()

    def undrain(self) -> None:
        """New connections are not told to go any more."""
        self._draining = False

    async def close(self, grace_seconds: float) -> None:
        """Drains, waits until all responses have arrived or `grace_seconds` are over, and ends what is left. Calling
        it again is harmless."""
        self.drain()
        self._emptied.clear()
        if self._connections:
            try:
                async with asyncio.timeout(grace_seconds):
                    await self._emptied.wait()
            except TimeoutError:
                pass
        for connection in list(self._connections):
            connection.abandon()
        for sock, where in zip(self._sockets, self._where, strict=True):
            if sock.fileno() >= 0:
                self._loop.remove_reader(sock.fileno())
                self._neighbours.leave(where)
                sock.close()

    # Reading

    def _read(self, sock: socket.socket, number: int) -> None:
        """One batch: every connection that was spoken to handles its datagrams, then sends once."""
        now = self._loop.time()
        touched: dict[QuicDownstream, None] = {}
        try:
            for _ in range(DATAGRAMS_PER_WAKEUP):
                try:
                    data, client = sock.recvfrom(DATAGRAM_BYTES_MAX)
                except BlockingIOError:
                    break
                except OSError:  # an ICMP error of an earlier datagram, reported here
                    continue
                connection = self._find(data, (client, number), now, handed=False)
                if connection is not None:
                    touched[connection] = None
                    connection.received(data, (client, number), now)
        finally:
            for connection in touched:
                connection.flush()

    def _take(self, number: int, data: bytes, client: Client) -> None:
        """A datagram that another worker has read of the same port."""
        now = self._loop.time()
        address = (client, number)
        connection = self._find(data, address, now, handed=True)
        if connection is not None:
            try:
                connection.received(data, address, now)
            finally:
                connection.flush()

    def _find(self, data: bytes, address: Address, now: float, *, handed: bool) -> QuicDownstream | None:
        """The connection that a datagram belongs to, a new one, or None and what has to be said has been sent. What
        was `handed` on to us is not handed on again."""
        # Short headers (RFC 9000 section 17.3) are the common case and need no parsing.
        if data and not data[0] & 0x80:
            connection_id = data[1 : 1 + hooks.CONNECTION_ID_BYTES]
            connection = self._by_id.get(connection_id)
            if connection is None and (handed or not self._hand_on(connection_id, data, address)):
                self._say_unknown(data, address)
            return connection
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=hooks.CONNECTION_ID_BYTES)
        except ValueError:
            return None
        connection = self._by_id.get(header.destination_cid)
        if connection is not None or (not handed and self._hand_on(header.destination_cid, data, address)):
            return connection
        if len(data) < SMALLEST_MAX_DATAGRAM_SIZE:
            return None
        if header.version is None or header.packet_type is QuicPacketType.VERSION_NEGOTIATION:
            return None
        if header.version not in _VERSIONS:
            versions = encode_quic_version_negotiation(
                source_cid=header.destination_cid,
                destination_cid=header.source_cid,
                supported_versions=_VERSIONS,
            )
            self.send(versions, address)
            return None
        if header.packet_type is not QuicPacketType.INITIAL:
            return None
        return self._accept(header, header.version, address, now)

    def _accept(self, header: QuicHeader, version: int, address: Address, now: float) -> QuicDownstream | None:
        original_id, retry_id = header.destination_cid, None
        must_prove = self.stats.half_open >= self._retry_above
        if header.token:
            try:
                original_id = self._tokens.validate_token(
                    address=address[0], destination_cid=header.destination_cid, token=header.token, now=now
                )
                retry_id, must_prove = header.destination_cid, False
            except ValueError:
                if must_prove:
                    self.send(hooks.invalid_token_close(version, header.destination_cid, header.source_cid), address)
                    return None
        certificates = self._certificates.quic_certificates(None)
        if not certificates or len(self._connections) >= CONNECTIONS_MAX or len(header.destination_cid) < 8:
            self.stats.refused += 1
            return None
        if must_prove:
            self._say_retry(header, version, address, now)
            return None
        any_one, guards = certificates[0], self._guarding.guards_of(self._name)
        bounds = bounds_of(guards)
        quic = hooks.ServerQuic(
            configuration=replace(configuration(bounds), certificate=any_one.leaf, private_key=any_one.key),
            original_destination_connection_id=original_id,
            retry_source_connection_id=retry_id,
            choose_certificates=partial(self._certificates.quic_certificates, handshake=address[0][:2]),
            clients=self._chains,
            tickets=self._certificates.tickets,
            early=self._spent.of_client(address[0][0]) if self._spent is not None else None,
            clients_required=self._auth is not None and self._auth.required,
            place=self._place,
            key=self._key,
            bounds=bounds,
        )
        server = Http3Server(quic, is_proxy=self._guarding.is_proxy(self._name))
        host, port = address[0][:2]
        forwards = self._auth is not None and self._auth.forward
        peer = Peer(host, port, self._ports[address[1]], self._name, True, "h3", forwards=forwards)
        connection = QuicDownstream(self, server, peer, now, guards, asks=self._auth is not None)
        self._connections.add(connection)
        for connection_id in (header.destination_cid, quic.host_cid):
            self._register(connection, connection_id)
        self.stats.accepted += 1
        self.stats.half_open += 1
        self.stats.connections += 1
        return connection

    def _say_retry(self, header: QuicHeader, version: int, address: Address, now: float) -> None:
        """Asks the client to come again with a token that only reaches it where it says it is (section 8.1.2)."""
        retry_id = hooks.new_connection_id(self._place)
        token = self._tokens.create_token(
            address=address[0],
            original_destination_connection_id=header.destination_cid,
            retry_source_connection_id=retry_id,
            now=now,
        )
        retry = encode_quic_retry(
            version=version,
            source_cid=retry_id,
            destination_cid=header.source_cid,
            original_destination_cid=header.destination_cid,
            retry_token=token,
        )
        self.stats.retried += 1
        self.send(retry, address)

    def _hand_on(self, connection_id: bytes, data: bytes, address: Address) -> bool:
        """Whether the datagram belongs to another worker that lives, which has got it now."""
        if len(connection_id) != hooks.CONNECTION_ID_BYTES:
            return False
        place = hooks.place_of(connection_id)
        if not self._neighbours.knows(place):
            return False
        self._neighbours.hand_on(place, self._where[address[1]], data, address[0])
        return True

    def _say_unknown(self, data: bytes, address: Address) -> None:
        """A connection of this slot's that is not known: the worker was restarted, or one before it has finished. The
        client should not wait."""
        if data[1:2] == bytes(self._place[:1]):
            connection_id = data[1 : 1 + hooks.CONNECTION_ID_BYTES]
            reset = hooks.stateless_reset(self._key, connection_id, len(data))
            if reset is not None:
                self.send(reset, address)

    # The connections' calls

    def send(self, datagram: bytes, address: Address) -> None:
        """Sends from the socket that was asked. What the kernel does not take is lost, as anywhere on the way."""
        try:
            self._sockets[address[1]].sendto(datagram, address[0])
        except OSError:
            self.stats.unsendable += 1

    def exchange_of(self, head: RequestHead, stream: QuicStream, peer: Peer) -> Exchange:
        """Asks for the exchange of a request."""
        return self._begin(head, stream, peer)

    def call_soon(self, connection: QuicDownstream) -> None:
        """Flushes after the current callbacks."""
        self._loop.call_soon(connection.flush)

    def call_at(self, when: float, connection: QuicDownstream) -> asyncio.TimerHandle:
        """Wakes the connection."""
        return self._loop.call_at(when, connection.wake)

    def now(self) -> float:
        """Monotonic seconds."""
        return self._loop.time()

    def handshaken(self, connection: QuicDownstream) -> None:
        """The client's address is proved: from here on it counts for its client."""
        self.stats.half_open -= 1
        if self._guarding.enter(self._name, connection.peer.address):
            self._entered.add(connection)
        else:
            connection.turn_away()
            return
        if (trial := self._certificates.trial) is not None:
            trial.succeeded((connection.peer.address, connection.peer.port))
        if self._draining:
            connection.shut_down()

    def refused(self, status: int, why: str) -> None:
        """A client wanted too much: see events.Refused."""
        self._guarding.refused(status, why)

    def identify(self, connection: QuicDownstream, connection_id: bytes, *, issued: bool) -> None:
        """A connection id now leads, or no longer leads, to the connection."""
        if issued:
            self._register(connection, connection_id)
        elif self._by_id.get(connection_id) is connection:
            del self._by_id[connection_id]
            connection.ids.discard(connection_id)

    def forget(self, connection: QuicDownstream, *, half_open: bool) -> None:
        """The connection is over."""
        self._connections.discard(connection)
        if connection in self._entered:
            self._entered.remove(connection)
            self._guarding.leave(connection.peer.address)
        for connection_id in connection.ids:
            if self._by_id.get(connection_id) is connection:
                del self._by_id[connection_id]
        self.stats.connections -= 1
        self.stats.half_open -= half_open
        if not self._connections:
            self._emptied.set()

    def _register(self, connection: QuicDownstream, connection_id: bytes) -> None:
        self._by_id[connection_id] = connection
        connection.ids.add(connection_id)
