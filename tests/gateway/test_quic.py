"""The QUIC listener over real UDP sockets, with two independent clients: curl (ngtcp2, by curl_cffi) and aioquic."""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import curl_cffi
import pytest
from aioquic import tls
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import ErrorCode, H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, QuicEvent, StreamReset
from aioquic.tls import SessionTicket
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from tests.gateway.echoing import EchoExchange, authority, certificate
from tests.support import wait_until

from meridian.core.guards import USUAL
from meridian.gateway import quic
from meridian.gateway.forwarding import ListenerFacts
from meridian.gateway.guarding import Guarding
from meridian.gateway.handing import Neighbours
from meridian.gateway.quic import QuicListener
from meridian.gateway.stream import DownstreamStream, Peer
from meridian.gateway.tls import TlsContexts
from meridian.telemetry.metrics import Metrics
from meridian.wire.events import Headers, RequestHead


class Exchanges:
    """Begins echoing exchanges and remembers them."""

    def __init__(self) -> None:
        self.all: list[EchoExchange] = []

    def begin(self, head: RequestHead, stream: DownstreamStream, peer: Peer) -> EchoExchange:
        exchange = EchoExchange(head, stream, peer)
        self.all.append(exchange)
        return exchange


@asynccontextmanager
async def listening(
    contexts: TlsContexts | None = None, *, addresses: tuple[str, ...] = ("127.0.0.1",), **options: Any
) -> AsyncIterator[tuple[QuicListener, int, Exchanges]]:
    """A listener on one port of these addresses. Ends at once what is still open."""
    sockets: list[socket.socket] = []
    for address in addresses:
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((address, sockets[0].getsockname()[1] if sockets else 0))
        sockets.append(sock)
    exchanges = Exchanges()
    listener = QuicListener(
        name="secure",
        sockets=sockets,
        certificates=contexts or TlsContexts([certificate("localhost", "127.0.0.1", "127.0.0.2", "::1")]),
        begin=exchanges.begin,
        loop=asyncio.get_running_loop(),
        **{"neighbours": Neighbours(1, 0), "key": b"k" * 32, **options},
    )
    listener.start()
    try:
        yield listener, sockets[0].getsockname()[1], exchanges
    finally:
        await listener.close(0)
        assert not listener._by_id
        assert listener.stats.half_open == listener.stats.connections == 0


class Client(QuicConnectionProtocol):
    """aioquic's client: `get` and `post` await whole answers."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.h3 = H3Connection(self._quic)
        self.seen: dict[int, list[H3Event]] = {}
        self.resets: dict[int, int] = {}
        self.ended: ConnectionTerminated | None = None
        self.changed = asyncio.Condition()

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, StreamReset):
            self.resets[event.stream_id] = event.error_code
        elif isinstance(event, ConnectionTerminated):
            self.ended = event
        for received in self.h3.handle_event(event):
            if isinstance(received, HeadersReceived | DataReceived):
                self.seen.setdefault(received.stream_id, []).append(received)

    def send(self, path: str, body: bytes | None = None, authority: str = "localhost", *, end: bool = True) -> int:
        stream_id = self._quic.get_next_available_stream_id()
        method = b"GET" if body is None else b"POST"
        fields: Headers = [(b":method", method), (b":scheme", b"https"), (b":authority", authority.encode())]
        self.h3.send_headers(stream_id, [*fields, (b":path", path.encode())], end_stream=body is None)
        if body is not None:
            self.h3.send_data(stream_id, body, end_stream=end)
        self.transmit()
        return stream_id

    def body(self, stream_id: int) -> bytes:
        return b"".join(event.data for event in self.seen.get(stream_id, ()) if isinstance(event, DataReceived))

    def complete(self, stream_id: int) -> bool:
        events = self.seen.get(stream_id)
        return events is not None and bool(getattr(events[-1], "stream_ended", False))

    async def answer(self, stream_id: int) -> bytes:
        await wait_until(lambda: self.complete(stream_id), within_seconds=30, what="an answer", every_seconds=0.002)
        return self.body(stream_id)


@asynccontextmanager
async def client(
    port: int, *, host: str = "127.0.0.1", name: str = "localhost",
    keep: Callable[[SessionTicket], None] | None = None, **options: Any,
) -> AsyncIterator[Client]:  # fmt: skip
    """`keep` is given the session tickets."""
    configuration = QuicConfiguration(
        alpn_protocols=["h3"],
        server_name=name,
        cadata=authority().cert_pem.bytes(),
        verify_mode=ssl.CERT_REQUIRED,
        **options,
    )
    async with connect(
        host, port, configuration=configuration, create_protocol=Client, session_ticket_handler=keep
    ) as protocol:
        assert isinstance(protocol, Client)
        yield protocol


@pytest.fixture
def trust_file(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    path.write_bytes(authority().cert_pem.bytes())
    return path


async def curl(url: str, trust_file: Path, method: Any = "GET", **options: Any) -> curl_cffi.Response:
    """One request over HTTP/3 and nothing else."""
    options = {"http_version": "v3only", "verify": str(trust_file), **options}
    return await asyncio.to_thread(lambda: curl_cffi.request(method, url, **options))


async def test_curl_speaks_http3(trust_file: Path) -> None:
    async with listening() as (listener, port, exchanges):
        body = os.urandom(3 << 20)
        response = await curl(f"https://localhost:{port}/echo?a=b", trust_file, method="POST", data=body)
        assert response.status_code == 200
        assert response.http_version == 30
        assert response.headers["x-protocol"] == "h3"
        assert response.headers["x-authority"] == f"localhost:{port}"
        assert response.content == body
        assert exchanges.all[0].head.target == b"/echo?a=b"
        assert exchanges.all[0].peer.local_port == port
        response = await curl(f"https://127.0.0.1:{port}/bytes/100000", trust_file)
        assert len(response.content) == 100_000
        assert listener.stats.accepted == 2


async def test_a_hundred_requests_at_once_over_one_connection() -> None:
    async with listening() as (listener, port, _), client(port) as protocol:
        bodies = {protocol.send("/echo", body): body for body in (os.urandom(5000) for _ in range(100))}
        for stream_id, body in bodies.items():
            assert await protocol.answer(stream_id) == body
        assert listener.stats.accepted == 1
        for _ in range(3):  # stream ids are given back
            bodies = {protocol.send("/echo", body): body for body in (os.urandom(50) for _ in range(100))}
            for stream_id, body in bodies.items():
                assert await protocol.answer(stream_id) == body


async def test_a_slow_reader_bounds_what_is_held(trust_file: Path) -> None:
    """32 MiB both ways, the client reading at 16 MiB/s: the exchange never holds more than a stream's window."""
    EchoExchange.held_max = 0
    async with listening() as (_, port, exchanges):
        sent = os.urandom(1 << 20) * 32
        url = f"https://localhost:{port}/echo"
        response = await curl(url, trust_file, method="POST", data=sent, max_recv_speed=16 << 20, timeout=60)
        assert response.content == sent
        assert EchoExchange.held_max <= 256 * 1024
        assert len(exchanges.all) == 1


async def test_each_host_has_its_certificate_and_a_replacement_keeps_connections() -> None:
    def serial(protocol: Client) -> int:
        leaf = protocol._quic.tls._peer_certificate
        assert leaf is not None
        return leaf.serial_number

    def of(one: Any) -> int:
        return x509.load_pem_x509_certificates(one.chain_pem)[0].serial_number

    shop, other = certificate("shop.example.com"), certificate("*.example.net")
    contexts = TlsContexts([shop, other])
    async with listening(contexts) as (_, port, _), client(port, name="shop.example.com") as first:
        assert serial(first) == of(shop)
        async with client(port, name="a.example.net") as second:
            assert serial(second) == of(other)
        new = certificate("shop.example.com")
        contexts.replace([new])
        async with client(port, name="shop.example.com") as third:
            assert serial(third) == of(new)
        assert await first.answer(first.send("/bytes/10")) == bytes(10)
        assert serial(first) == of(shop)


async def test_replies_leave_from_the_address_that_was_asked() -> None:
    async with listening(addresses=("127.0.0.1", "127.0.0.2")) as (_, port, exchanges):
        for host in ("127.0.0.1", "127.0.0.2"):  # aioquic drops what comes from elsewhere
            async with client(port, host=host, name=host) as protocol:
                assert await protocol.answer(protocol.send("/bytes/10")) == bytes(10)
        assert {exchange.peer.address for exchange in exchanges.all} <= {"127.0.0.1", "::ffff:127.0.0.1"}


async def test_ipv6() -> None:
    async with listening(addresses=("::1",), retry_above=0) as (_, port, exchanges):
        async with client(port, host="::1", name="::1") as protocol:
            assert await protocol.answer(protocol.send("/bytes/10")) == bytes(10)
        assert exchanges.all[0].peer.address == "::1"


async def test_retry_is_asked_for_when_many_handshakes_are_open(trust_file: Path) -> None:
    async with listening(retry_above=0) as (listener, port, _):
        async with client(port) as protocol:
            assert await protocol.answer(protocol.send("/bytes/10")) == bytes(10)
        assert (await curl(f"https://localhost:{port}/bytes/10", trust_file)).content == bytes(10)
        assert listener.stats.retried == 2
        assert listener.stats.accepted == 2


async def ask(port: int, datagram: bytes, *, within_seconds: float = 5.0) -> bytes | None:
    """Sends one datagram and returns the answer; None if nothing comes."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(("127.0.0.1", port))
        await loop.sock_sendall(sock, datagram)
        try:
            async with asyncio.timeout(within_seconds):
                return await loop.sock_recv(sock, 2048)
        except TimeoutError:
            return None


def initial(version: int, token: bytes = b"") -> bytes:
    """An Initial packet with garbage in it."""
    head = b"\xc0" + version.to_bytes(4, "big") + b"\x08destinat\x06source" + bytes([len(token)]) + token
    rest = 1200 - len(head) - 2
    return head + (rest | 0x4000).to_bytes(2, "big") + bytes(rest)


async def test_unknown_versions_are_negotiated() -> None:
    async with listening() as (listener, port, _):
        answer = await ask(port, initial(0x1A2A3A4A))
        assert answer is not None
        assert answer[1:5] == bytes(4)
        assert answer[5:20] == b"\x06source\x08destinat"[:15]
        assert b"\x00\x00\x00\x01" in answer[20:]
        assert await ask(port, initial(0x1A2A3A4A)[:1000], within_seconds=0.1) is None  # too small to be answered
        assert listener.stats.accepted == 0


async def test_a_bad_token_is_refused_when_tokens_are_asked_for() -> None:
    async with listening(retry_above=0) as (listener, port, _):
        answer = await ask(port, initial(1, b"bad token"))
        assert answer is not None
        assert answer[0] & 0xF0 == 0xC0  # an Initial that closes
        assert listener.stats.accepted == 0


async def test_unknown_connections_are_reset_only_by_their_own_slot() -> None:
    async with listening(neighbours=Neighbours(9, 0)) as (_, port, _):
        ours = b"\x40" + b"\x09" + bytes(50)
        answer = await ask(port, ours)
        assert answer is not None
        assert 21 <= len(answer) < len(ours)
        assert await ask(port, b"\x40" + b"\x08" + bytes(50), within_seconds=0.1) is None


async def test_garbage_is_not_kept() -> None:
    async with listening() as (listener, port, _):
        for datagram in (b"", b"\x00", b"\xff" * 50, initial(1), initial(1)[:300], os.urandom(1200)):
            await ask(port, datagram, within_seconds=0.05)
        assert listener.stats.connections == 0
        assert not listener._by_id


def say_hello(port: int) -> None:
    """Sends the first packet of a handshake and never anything again."""
    half = QuicConnection(configuration=QuicConfiguration(alpn_protocols=["h3"], server_name="localhost"))
    half.connect(("127.0.0.1", port), 0.0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for datagram, _ in half.datagrams_to_send(0.0):
            sock.sendto(datagram, ("127.0.0.1", port))


async def test_a_client_that_does_not_finish_its_handshake_is_forgotten() -> None:
    facts = ListenerFacts((), None, guards=replace(USUAL, header_seconds=0.2))
    async with listening(guarding=Guarding(lambda _: facts, Metrics())) as (listener, port, _):
        say_hello(port)
        await wait_until(lambda: listener.stats.half_open == 1, within_seconds=5, what="a half-open handshake")
        await wait_until(lambda: listener.stats.connections == 0, within_seconds=5, what="it is forgotten")


async def test_no_more_connections_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quic, "CONNECTIONS_MAX", 1)
    async with listening() as (listener, port, _), client(port) as first:
        say_hello(port)
        await wait_until(lambda: listener.stats.refused == 1, within_seconds=5, what="it is refused")
        assert listener.stats.connections == 1
        assert await first.answer(first.send("/bytes/1")) == bytes(1)


async def test_resets_both_ways() -> None:
    async with listening() as (_, port, exchanges), client(port) as protocol:
        theirs = protocol.send("/hang", b"x", end=False)
        ours = protocol.send("/hang", b"x", end=False)
        await wait_until(lambda: len(exchanges.all) == 2, within_seconds=5, what="both arrive")
        protocol._quic.reset_stream(theirs, ErrorCode.H3_REQUEST_CANCELLED)
        protocol.transmit()
        await wait_until(lambda: exchanges.all[0].reset_reason, within_seconds=5, what="the client's reset")
        exchanges.all[1].stream.reset("the upstream failed")
        await wait_until(lambda: ours in protocol.resets, within_seconds=5, what="our reset")
        assert protocol.resets[ours] == ErrorCode.H3_INTERNAL_ERROR


async def test_a_client_that_leaves_resets_its_exchanges() -> None:
    async with listening() as (_, port, exchanges):
        async with client(port) as protocol:
            protocol.send("/hang")
            await wait_until(lambda: exchanges.all, within_seconds=5, what="it arrives")
        await wait_until(lambda: exchanges.all[0].reset_reason, within_seconds=5, what="the exchange hears of it")


async def test_a_fault_of_an_exchange_costs_one_connection() -> None:
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context.get("exception")))
    async with listening() as (listener, port, exchanges), client(port) as good, client(port) as bad:
        begin = listener._begin

        def faulty(head: RequestHead, stream: DownstreamStream, peer: Peer) -> EchoExchange:
            if head.target == b"/fault":
                raise RuntimeError("a fault of ours")
            return begin(head, stream, peer)  # type: ignore[return-value] # the one of `exchanges`

        listener._begin = faulty
        bad.send("/hang")
        await wait_until(lambda: exchanges.all, within_seconds=5, what="it arrives")
        bad.send("/fault")
        await wait_until(lambda: exchanges.all[0].reset_reason, within_seconds=5, what="its neighbour is reset")
        assert isinstance(faults[0], RuntimeError)
        assert await good.answer(good.send("/bytes/10")) == bytes(10)
        assert listener.stats.connections == 1


async def test_close_lets_open_streams_finish_and_ends_idle_connections() -> None:
    async with listening() as (listener, port, exchanges), client(port) as idle, client(port) as busy:
        stream_id = busy.send("/hang")
        await wait_until(lambda: exchanges.all, within_seconds=5, what="it arrives")
        async with asyncio.TaskGroup() as group:
            closing = group.create_task(listener.close(20))
            await wait_until(lambda: idle.ended, within_seconds=5, what="the idle connection ends")
            assert idle.ended is not None
            assert idle.ended.error_code == ErrorCode.H3_NO_ERROR
            assert busy.ended is None
            assert not closing.done()
            exchanges.all[0].stream.respond(200, [], end=False)
            exchanges.all[0].stream.send_data(b"last words", end=True)
            assert await busy.answer(stream_id) == b"last words"
            await closing
        await wait_until(lambda: busy.ended, within_seconds=5, what="the other connection ends")


async def test_connections_while_draining_are_served() -> None:
    async with listening() as (listener, port, _):
        listener.drain()
        async with client(port) as protocol:
            assert await protocol.answer(protocol.send("/bytes/10")) == bytes(10)
            await wait_until(lambda: protocol.ended, within_seconds=5, what="it is told to go")


async def test_a_restarted_worker_tells_its_old_clients() -> None:
    """The second listener knows nothing of the connection: its reset ends it at once, not after the idle timeout."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    loop, contexts, exchanges = asyncio.get_running_loop(), TlsContexts([certificate("localhost")]), Exchanges()

    def make() -> QuicListener:
        return QuicListener(
            name="secure",
            sockets=[sock],
            certificates=contexts,
            begin=exchanges.begin,
            neighbours=Neighbours(1, 0),
            key=b"k" * 32,
            loop=loop,
        )

    first, second = make(), make()
    first.start()
    seen: list[bytes] = []
    async with client(port) as protocol:
        assert await protocol.answer(protocol.send("/bytes/10")) == bytes(10)
        loop.remove_reader(sock.fileno())
        second.start()
        token = protocol._quic._peer_cid.stateless_reset_token
        assert len(token) == 16
        receive: Callable[..., None] = protocol.datagram_received

        def spy(data: bytes | str, addr: Any) -> None:
            seen.append(bytes(data))  # type: ignore[arg-type] # never a str
            receive(data, addr)

        protocol.datagram_received = spy  # type: ignore[method-assign] # to see what arrives
        protocol.send("/bytes/10")
        await wait_until(
            lambda: any(datagram.endswith(token) for datagram in seen), within_seconds=5, what="the reset arrives"
        )
    for connection in list(first._connections):
        connection.abandon()
    await second.close(0)


async def test_what_a_client_can_verify_decides_between_ecdsa_and_rsa() -> None:
    rsa, ecdsa = certificate("localhost", rsa=True), certificate("localhost")
    rsa_only = [tls.SignatureAlgorithm.RSA_PSS_RSAE_SHA256]

    class Choosy(QuicConnection):
        def _initialize(self, peer_cid: bytes) -> None:
            super()._initialize(peer_cid)
            self.tls._signature_algorithms = list(rsa_only)

    async with listening(TlsContexts([rsa, ecdsa])) as (_, port, _):
        async with client(port) as known:
            assert await known.answer(known.send("/bytes/3")) == bytes(3)
            assert (shown := known._quic.tls._peer_certificate) is not None
            assert isinstance(shown.public_key(), ec.EllipticCurvePublicKey)
        configuration = QuicConfiguration(alpn_protocols=["h3"], server_name="localhost", verify_mode=ssl.CERT_NONE)
        choosy = Choosy(configuration=configuration)
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_datagram_endpoint(lambda: Client(choosy), ("127.0.0.1", 0))
        try:
            protocol.connect(("127.0.0.1", port))
            await asyncio.wait_for(protocol.wait_connected(), 10)
            assert (shown := choosy.tls._peer_certificate) is not None
            assert isinstance(shown.public_key(), RSAPublicKey)
        finally:
            transport.close()
