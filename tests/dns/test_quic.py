"""DNS over QUIC: the clients that there are, its error codes, zone transfers inside it, and what is bounded."""

import asyncio
import contextlib
import socket
import struct
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import dns.asyncquery
import dns.edns
import dns.message
import pytest
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from tests.dns.running import Running, running
from tests.dns.test_dot import AUTHORITY, certificate
from tests.dns.test_secondary import put, secondary
from tests.dns.world import ORIGIN, make_view, make_zone, make_zones
from tests.support import wait_until

from meridian.gateway.tls import TlsContexts
from meridian_dns import quic
from meridian_dns.message import PADDING_BLOCK_BYTES
from meridian_dns.quic import EXCESSIVE_LOAD, NO_ERROR, PROTOCOL_ERROR, REQUEST_CANCELLED
from meridian_dns.server import DnsServer
from meridian_dns.zone import ZoneSet
from meridian_dns.zone_building import RecordSpec, build_zone

HOSTS = ("ns1.gw.example.com", "ns2.gw.example.com")
STREAMS_MAX = 128  # that aioquic lets a client have open
FIXED = dns.message.make_query("fixed.gw.example.com", "A", use_edns=0, id=0).to_wire()


@pytest.fixture(params=["asyncio", "uvloop"])
def here(request: pytest.FixtureRequest) -> Iterator[Running]:
    server = DnsServer(make_zones(), make_view(), None)
    contexts = TlsContexts([certificate(host) for host in HOSTS])
    with running(server, loop=request.param, choose_certificate=contexts.quic_certificate) as started:
        yield started
    assert started.server.counters.errors == 0


class Client(QuicConnectionProtocol):
    """aioquic's client; keeps what it is told."""

    def __init__(self, *args: object, **more: object) -> None:
        super().__init__(*args, **more)  # type: ignore[arg-type]  # as aioquic calls it
        self.replies: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.closed_with: int | None = None

    def quic_event_received(self, event: events.QuicEvent) -> None:
        match event:
            case events.StreamDataReceived():
                self.replies[event.stream_id] = self.replies.get(event.stream_id, b"") + event.data
                if event.end_stream:
                    self.ended.add(event.stream_id)
            case events.StreamReset():
                self.resets[event.stream_id] = event.error_code
            case events.ConnectionTerminated():
                self.closed_with = event.error_code

    def say(self, data: bytes, *, is_end: bool = True, unidirectional: bool = False) -> int:
        """Sends bytes on a stream of their own."""
        stream_id: int = self._quic.get_next_available_stream_id(is_unidirectional=unidirectional)
        self._quic.send_stream_data(stream_id, data, end_stream=is_end)
        self.transmit()
        return stream_id

    def ask(self, wire: bytes) -> int:
        return self.say(struct.pack("!H", len(wire)) + wire)

    async def until(self, condition: object, what: str) -> None:
        await wait_until(condition, within_seconds=5, what=what)  # type: ignore[arg-type]  # a lambda

    async def reply(self, stream_id: int) -> dns.message.Message:
        await self.until(lambda: stream_id in self.ended, "an answer")
        wire = self.replies[stream_id]
        assert int.from_bytes(wire[:2], "big") == len(wire) - 2
        return dns.message.from_wire(wire[2:])


@asynccontextmanager
async def client_of(
    here: Running, host: str = HOSTS[0], *, alpn: str = "doq", max_data: int = 2**20
) -> AsyncIterator[Client]:
    configuration = QuicConfiguration(alpn_protocols=[alpn], server_name=host, max_data=max_data)
    configuration.load_verify_locations(cadata=AUTHORITY.cert_pem.bytes())
    async with connect(
        here.host, here.quic_port, configuration=configuration, create_protocol=Client, local_port=0
    ) as client:
        assert isinstance(client, Client)
        yield client


def test_dnspython_and_kdig_ask_and_check_the_certificate(here: Running, tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_bytes(AUTHORITY.cert_pem.bytes())
    query = dns.message.make_query("fixed.gw.example.com", "A", use_edns=0)
    for host in HOSTS:
        ask = dns.asyncquery.quic(
            query, here.host, port=here.quic_port, timeout=5, verify=str(authority), server_hostname=host
        )
        answer = asyncio.run(ask)
        assert len(answer.answer[0]) == 2
    command = ["kdig", "+short", f"+tls-ca={authority}", "+tls-hostname=ns2.gw.example.com", "+quic", f"@{here.host}",
               "-p", str(here.quic_port), "fixed.gw.example.com", "A"]  # fmt: skip
    said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    assert sorted(said.split()) == ["192.0.2.1", "192.0.2.2"]
    assert here.server.counters.queries == {"quic": 3}


async def test_many_queries_share_a_connection_and_answers_are_padded(here: Running) -> None:
    async with client_of(here) as client:
        streams = [client.ask(FIXED) for _ in range(300)]
        for stream_id in streams:
            assert len((await client.reply(stream_id)).answer[0]) == 2
            assert (len(client.replies[stream_id]) - 2) % PADDING_BLOCK_BYTES == 0
        big = await client.reply(client.ask(dns.message.make_query(f"big.{ORIGIN}", "TXT", id=0).to_wire()))
        assert len(big.answer[0][0].to_text()) > 2000
        assert here.server.quic_connections == 1
    await wait_until(lambda: here.server.quic_connections == 0, within_seconds=5, what="nothing is left")


async def test_a_query_may_come_by_the_byte(here: Running) -> None:
    async with client_of(here) as client:
        data = struct.pack("!H", len(FIXED)) + FIXED
        stream_id = client.say(data[:1], is_end=False)
        for at in range(1, len(data)):
            client._quic.send_stream_data(stream_id, data[at : at + 1], end_stream=at == len(data) - 1)
            client.transmit()
            await asyncio.sleep(0)
        assert len((await client.reply(stream_id)).answer[0]) == 2


KEEPALIVE = dns.message.make_query(ORIGIN, "A", options=[dns.edns.GenericOption(dns.edns.OptionType.make(11), b"")])
KEEPALIVE.id = 0


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("!H", len(FIXED)) + FIXED[:-1],
        struct.pack("!H", len(FIXED)) + FIXED + b"\0",
        (struct.pack("!H", len(FIXED)) + FIXED) * 2,
        b"",
        b"\0",
        b"\0\0",
        b"\0\5hello",
        struct.pack("!H", len(FIXED)) + b"\0\1" + FIXED[2:],
        struct.pack("!H", len(FIXED)) + FIXED[:2] + b"\x80" + FIXED[3:],
        struct.pack("!H", len(KEEPALIVE.to_wire())) + KEEPALIVE.to_wire(),
        b"\xff\xff" + bytes(70_000),
    ],
    ids=["short", "long", "two", "nothing", "half a length", "empty", "no query", "id", "answer", "keepalive", "huge"],
)
async def test_what_breaks_the_protocol_ends_the_connection(here: Running, data: bytes) -> None:
    async with client_of(here) as client:
        client.say(data)
        await client.until(lambda: client.closed_with is not None, "the end")
        assert client.closed_with == PROTOCOL_ERROR


async def test_unidirectional_streams_carry_no_queries(here: Running) -> None:
    async with client_of(here) as client:
        client.say(struct.pack("!H", len(FIXED)) + FIXED, unidirectional=True)
        await client.until(lambda: client.closed_with is not None, "the end")
        assert client.closed_with == PROTOCOL_ERROR


async def test_a_client_that_speaks_another_protocol_is_refused(here: Running) -> None:
    with pytest.raises(ConnectionError):
        async with client_of(here, alpn="h3"):
            pass


async def test_queries_beyond_those_that_a_client_may_have_open_wait(here: Running) -> None:
    async with client_of(here) as client:
        for stream_id in [client.ask(FIXED) for _ in range(STREAMS_MAX)]:
            await client.reply(stream_id)
        unfinished = [client.say(b"\0", is_end=False) for _ in range(STREAMS_MAX)]
        waiting = client.ask(FIXED)
        client._quic.reset_stream(unfinished[0], REQUEST_CANCELLED)
        assert waiting not in client.ended
        client.transmit()
        assert len((await client.reply(waiting)).answer[0]) == 2


async def test_who_asks_on_and_takes_nothing_is_sent_away() -> None:
    """A client whose window is spent, and that opens it no more."""
    contexts = TlsContexts([certificate(*HOSTS)])
    big = dns.message.make_query(f"big.{ORIGIN}", "TXT", id=0).to_wire()
    with running(DnsServer(make_zones(), make_view(), None), choose_certificate=contexts.quic_certificate) as here:
        async with client_of(here, max_data=10_000) as client:
            client._quic._write_connection_limits = lambda builder, space: None  # type: ignore[method-assign]
            while client.closed_with is None:
                client.ask(big)
                await asyncio.sleep(0)
            assert client.closed_with == EXCESSIVE_LOAD
            received = sum(map(len, client.replies.values()))
            assert received <= 10_000 < quic.IN_FLIGHT_BYTES_MAX


async def test_a_cancelled_query_is_forgotten(here: Running) -> None:
    async with client_of(here) as client:
        stream_id = client.say(b"\0", is_end=False)
        client._quic.reset_stream(stream_id, REQUEST_CANCELLED)
        client.transmit()
        await client.until(lambda: client.resets.get(stream_id) == REQUEST_CANCELLED, "the other side ends it too")
        unwanted = client.say(b"\0", is_end=False)
        client._quic.stop_stream(unwanted, REQUEST_CANCELLED)
        client.transmit()
        await client.until(lambda: unwanted in client.resets, "no answer comes")
        client._quic.send_stream_data(unwanted, (struct.pack("!H", len(FIXED)) + FIXED)[1:], end_stream=True)
        assert len((await client.reply(client.ask(FIXED))).answer[0]) == 2, "the connection lives"


async def test_one_that_completes_nothing_is_closed_whatever_it_sends() -> None:
    contexts = TlsContexts([certificate(*HOSTS)])
    server = DnsServer(make_zones(), make_view(), None, idle_seconds=1.0)
    with running(server, choose_certificate=contexts.quic_certificate) as here:
        async with client_of(here) as client:
            loop = asyncio.get_running_loop()
            began = loop.time()
            while client.closed_with is None and loop.time() - began < 9:
                client._quic.send_ping(0)
                client.transmit()
                await asyncio.sleep(0.1)  # the pace of the pings
            assert client.closed_with == NO_ERROR and loop.time() - began > 0.8


async def test_a_zone_is_transferred_at_the_client_s_pace() -> None:
    """A client whose window is smaller than the zone, and that opens it late."""
    records = [RecordSpec(f"n{index}", "TXT", 60, "x" * 200, None) for index in range(3000)]
    zone = build_zone(ORIGIN, [f"ns1.{ORIGIN}"], [*records, RecordSpec("ns1", "A", 60, "192.0.2.1", None)], serial=1)
    contexts = TlsContexts([certificate(*HOSTS)])
    server = DnsServer(ZoneSet([zone]), make_view(), None)
    with running(server, choose_certificate=contexts.quic_certificate) as here:
        put(here, zone, secondary(keyed=False))
        query = dns.message.make_query(ORIGIN, "AXFR", id=0).to_wire()
        async with client_of(here, max_data=100_000) as client:
            client._quic._write_connection_limits = lambda builder, space: None  # type: ignore[method-assign]
            stream_id = client.ask(query)
            await client.until(lambda: len(client.replies.get(stream_id, b"")) > 90_000, "the window is full")
            assert server.transfers_under_way == 1
            del client._quic._write_connection_limits
            client._quic.send_ping(0)
            client.transmit()
            await client.until(lambda: stream_id in client.ended, "all of it")
        wire, count = client.replies[stream_id], 0
        while wire:
            size = int.from_bytes(wire[:2], "big")
            count += sum(len(rrset) for rrset in dns.message.from_wire(wire[2 : 2 + size], xfr=True).answer)
            wire = wire[2 + size :]
        assert count == 3000 + 4
        assert server.transfers_under_way == 0


async def test_a_transfer_whose_client_leaves_is_over(here: Running) -> None:
    put(here, make_zone(), secondary(keyed=False))
    async with client_of(here) as client:
        stream_id = client.ask(dns.message.make_query(ORIGIN, "AXFR", id=0).to_wire())
        client._quic.stop_stream(stream_id, REQUEST_CANCELLED)
        client.transmit()
        assert len((await client.reply(client.ask(FIXED))).answer[0]) == 2
    await wait_until(lambda: here.server.transfers_under_way == 0, within_seconds=5, what="it is over")


async def test_a_certificate_is_replaced_while_connections_live() -> None:
    contexts = TlsContexts([certificate("old.example")])
    server = DnsServer(make_zones(), make_view(), None)
    with running(server, choose_certificate=contexts.quic_certificate) as here:
        async with client_of(here, "old.example") as client:
            here.on_loop(lambda: contexts.replace([certificate("new.example")]))
            async with client_of(here, "new.example"):
                pass
            assert len((await client.reply(client.ask(FIXED))).answer[0]) == 2
        with pytest.raises(ConnectionError):
            async with client_of(here, "old.example"):
                pass
        here.on_loop(lambda: contexts.replace([]))
        refused = server.quic_refused
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(1), client_of(here, "new.example"):
                raise AssertionError("without a certificate nobody is let in")
        assert server.quic_refused > refused


async def test_half_open_connections_are_bounded_and_from_some_on_clients_prove_their_address() -> None:
    """Initials of clients that never go on, each of a connection of its own."""
    contexts = TlsContexts([certificate(*HOSTS)])
    server = DnsServer(make_zones(), make_view(), None)
    with running(server, choose_certificate=contexts.quic_certificate) as here:
        first = await first_datagram(here)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:

            def knock(index: int) -> None:
                # Another destination id makes it another connection; that its packet cannot be opened nobody sees.
                silent.sendto(first[:6] + struct.pack("!Q", index + 1) + first[14:], (here.host, here.quic_port))

            for index in range(quic.HANDSHAKES_BEFORE_RETRY):
                knock(index)
            async with client_of(here) as client:
                assert client._quic._retry_source_connection_id is not None, "it was asked to prove its address"
                assert len((await client.reply(client.ask(FIXED))).answer[0]) == 2
            for index in range(1000, 1000 + 2 * quic.HANDSHAKES_MAX):
                knock(index)
            async with client_of(here) as client:
                assert len((await client.reply(client.ask(FIXED))).answer[0]) == 2
            assert server.quic_refused == 0, "who proves nothing takes no place"


async def first_datagram(here: Running) -> bytes:
    """What a client says first."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
        ear.bind((here.host, 0))
        ear.setblocking(False)
        aside = Running(here.server, here.host, here.port, here.loop, quic_port=ear.getsockname()[1])
        loop = asyncio.get_running_loop()

        async def try_it() -> None:
            with contextlib.suppress(ConnectionError):
                async with client_of(aside):
                    pass

        trying = loop.create_task(try_it())
        data = await asyncio.wait_for(loop.sock_recv(ear, 2048), 5)
        trying.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await trying
        return data
