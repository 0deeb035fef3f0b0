"""TCP: pipelining, splitting, limits and timeouts, on real sockets."""

import contextlib
import socket
import struct
import time
from collections.abc import Iterator

import dns.message
import pytest
from tests.dns.running import Running, running
from tests.dns.world import make_view, make_zones

from meridian_dns.desk import CONNECTIONS_MAX, NETWORK_SHARE
from meridian_dns.server import DnsServer
from meridian_dns.tcp import IN_FLIGHT_BYTES_MAX


@pytest.fixture(params=["asyncio", "uvloop"])
def here(request: pytest.FixtureRequest) -> Iterator[Running]:
    with running(DnsServer(make_zones(), make_view(), None, idle_seconds=1.0), loop=request.param) as started:
        yield started
    assert started.server.counters.errors == 0


def connect(here: Running, own: str = "127.0.0.1") -> socket.socket:
    client = socket.create_connection((here.host, here.port), timeout=5, source_address=(own, 0))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def framed(id_: int, name: str = "fixed", type_: str = "A") -> bytes:
    wire = dns.message.make_query(f"{name}.gw.example.com", type_, id=id_).to_wire()
    return struct.pack("!H", len(wire)) + wire


def read_reply(client: socket.socket) -> bytes:
    head = client.recv(2, socket.MSG_WAITALL)
    assert len(head) == 2, "the connection was closed"
    (size,) = struct.unpack("!H", head)
    return client.recv(size, socket.MSG_WAITALL)


def test_pipelined_queries_are_answered_in_order(here: Running) -> None:
    with connect(here) as client:
        client.sendall(b"".join(framed(id_) for id_ in range(300)))
        assert [struct.unpack_from("!H", read_reply(client))[0] for _ in range(300)] == list(range(300))


def test_split_at_every_byte(here: Running) -> None:
    query = framed(5)
    with connect(here) as client:
        for at in range(1, len(query)):
            client.sendall(query[:at])
            client.sendall(query[at:])
            assert struct.unpack_from("!H", read_reply(client))[0] == 5


def test_half_closed_clients_get_their_answer(here: Running) -> None:
    with connect(here) as client:
        client.sendall(framed(6))
        client.shutdown(socket.SHUT_WR)
        assert struct.unpack_from("!H", read_reply(client))[0] == 6
        assert client.recv(1) == b""


def test_idle_and_slow_senders_are_closed(here: Running) -> None:
    with connect(here) as idle, connect(here) as slow:
        began = time.monotonic()
        slow.sendall(framed(1)[:5])
        for client in (idle, slow):
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == b""
        assert 0.8 < time.monotonic() - began < 3


def test_a_busy_connection_outlives_the_idle_time(here: Running) -> None:
    with connect(here) as client:
        began = time.monotonic()
        client.settimeout(0.3)
        while time.monotonic() - began < 1.5:
            client.sendall(framed(2))
            assert read_reply(client)
            with contextlib.suppress(TimeoutError):
                assert not client.recv(1), "closed"
                raise AssertionError("the connection was closed")


def test_garbage_closes_the_connection(here: Running) -> None:
    with connect(here) as client:
        client.sendall(b"\0\5short")
        assert client.recv(1) == b""


def test_a_client_that_reads_nothing_stops_being_read(here: Running) -> None:
    """Its answers wait up to a bound, then its queries do, in its own send buffer; then it is closed as idle."""
    with connect(here) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(0.2)
        sent = 0
        with pytest.raises((TimeoutError, ConnectionResetError, BrokenPipeError)):
            while sent < 64 * 1024 * 1024:
                sent += client.send(framed(3, "big", "TXT") * 100)
        answered = here.server.counters.answers[16, 0]
        # What the kernel buffers on loopback counts too: a few megabytes, not the 64 that were offered.
        assert answered * 2000 < 16 * 1024 * 1024 + IN_FLIGHT_BYTES_MAX


def test_too_many_connections_are_closed_at_once() -> None:
    with (
        running(DnsServer(make_zones(), make_view(), None)) as here,
        contextlib.ExitStack() as clients,
    ):
        for index in range(CONNECTIONS_MAX):
            client = clients.enter_context(connect(here, f"127.0.{index % NETWORK_SHARE}.1"))
        client.sendall(framed(7))
        assert read_reply(client)
        late = clients.enter_context(connect(here, f"127.0.{NETWORK_SHARE}.1"))
        with contextlib.suppress(ConnectionResetError):
            assert late.recv(1) == b""
        assert here.server.tcp_refused == 1
        assert here.server.tcp_connections == CONNECTIONS_MAX


def test_one_network_does_not_keep_the_others_out() -> None:
    with (
        running(DnsServer(make_zones(), make_view(), None)) as here,
        contextlib.ExitStack() as clients,
    ):
        greedy = [clients.enter_context(connect(here)) for _ in range(CONNECTIONS_MAX // NETWORK_SHARE)]
        greedy[-1].sendall(framed(1))
        assert read_reply(greedy[-1])
        late = clients.enter_context(connect(here, "127.0.0.2"))
        with contextlib.suppress(ConnectionResetError):
            assert late.recv(1) == b"", "its network has all that it may have"
        other = clients.enter_context(connect(here, "127.0.1.1"))
        other.sendall(framed(2))
        assert read_reply(other)
        assert here.server.tcp_refused == 1
        greedy[0].close()
        greedy[1].sendall(framed(3))  # answered after the server saw that the first has left
        assert read_reply(greedy[1])
        again = clients.enter_context(connect(here))
        again.sendall(framed(4))
        assert read_reply(again), "a place that was left is free"
