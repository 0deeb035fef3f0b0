"""TCP and UDP that pass through, over real sockets."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import partial
from typing import Any

import pytest
from tests.gateway.echoing import authority
from tests.gateway.harness import Handler, Reader, Running, Writer, client, document, origin, serving, upstream
from tests.support import wait_until

from meridian.core.snapshot import Snapshot
from meridian.wire import proxy_protocol

TCP = {"name": "pass", "protocols": ["tcp"]}


def passing(port: int, *ports: int, routes: list[dict[str, Any]] | None = None, **more: Any) -> Snapshot:
    """A listener of TCP whose connections go to these ports; `more` is of the route."""
    one = {"name": "all", "listener": "pass", "upstream": "app", **more}
    return document(port, [upstream(*ports)], [], listener=TCP, l4_routes=routes or [one])


async def echo(reader: Reader, writer: Writer) -> None:
    """Gives back what comes, and ends when the client has ended."""
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.write(b"all")


async def counted_then_told(reader: Reader, writer: Writer) -> None:
    """Answers only when the client has sent all."""
    writer.write(b"%d" % len(await reader.read()))


async def greeting(reader: Reader, writer: Writer) -> None:
    """Speaks first, and leaves."""
    writer.write(b"220 hello")


@contextlib.asynccontextmanager
async def through(handler: Handler, **more: Any) -> AsyncIterator[Running]:
    async with origin(handler) as port, serving(lambda own: passing(own, port, **more)) as running:
        yield running


async def test_bytes_pass_both_ways_and_each_side_ends_by_itself() -> None:
    async with through(echo) as running, client(running.port) as (reader, writer):
        writer.write(b"one")
        assert await asyncio.wait_for(reader.readexactly(3), 10) == b"one"
        writer.write(b"two")
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 10) == b"twoall"
        await wait_until(lambda: bool(running.seen.outcomes), within_seconds=10, what="told")
        (outcome,) = running.seen.outcomes
    assert (outcome.status, outcome.why, outcome.version, outcome.route) == (200, "", b"TCP", "all")
    assert (outcome.request_body_bytes, outcome.response_body_bytes) == (6, 9)


async def test_a_client_that_ends_at_once_is_answered() -> None:
    async with through(counted_then_told) as running, client(running.port) as (reader, writer):
        writer.write(b"x" * 1000)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 10) == b"1000"


async def test_an_endpoint_may_speak_first_and_leave() -> None:
    async with through(greeting) as running:
        for _ in range(30):
            async with client(running.port) as (reader, _):
                assert await asyncio.wait_for(reader.read(), 10) == b"220 hello"


async def test_another_endpoint_takes_what_one_refuses_and_none_is_told() -> None:
    dead = socket.create_server(("127.0.0.1", 0))
    gone = dead.getsockname()[1]
    dead.close()
    async with origin(echo) as port, serving(lambda own: passing(own, gone, port)) as running:
        for _ in range(20):
            async with client(running.port) as (reader, writer):
                writer.write(b"hi")
                assert await asyncio.wait_for(reader.readexactly(2), 10) == b"hi"
    async with serving(lambda own: passing(own, gone)) as running, client(running.port) as (reader, _):
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        await wait_until(lambda: bool(running.seen.outcomes), within_seconds=10, what="told")
        assert [(one.status, one.why) for one in running.seen.outcomes] == [(502, "refused")]


async def test_what_is_not_taken_is_not_read() -> None:
    taken = asyncio.Event()

    async def slow(reader: Reader, writer: Writer) -> None:
        await taken.wait()
        total = 0
        while data := await reader.read(2**20):
            total += len(data)
        writer.write(b"%d" % total)

    async with through(slow) as running, client(running.port) as (reader, writer):
        size, sent = 64 * 2**20, 0
        writer.transport.set_write_buffer_limits(high=0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                while sent < size:
                    writer.write(b"x" * 2**16)
                    sent += 2**16
                    await writer.drain()
        assert sent < 32 * 2**20, "the gateway holds what the endpoint does not take"
        taken.set()
        writer.write(b"x" * (size - sent))
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 20) == b"%d" % size


@pytest.mark.parametrize("version", [1, 2])
async def test_the_endpoint_is_told_who_the_client_is(version: int) -> None:
    heads: list[proxy_protocol.Header] = []

    async def told(reader: Reader, writer: Writer) -> None:
        data = await reader.read(200)
        heads.append(head := proxy_protocol.read(data))
        writer.write(data[head.size :])

    async with through(told, proxy_protocol=f"v{version}") as running, client(running.port) as (reader, writer):
        own = writer.get_extra_info("sockname")
        writer.write(b"after it")
        assert await asyncio.wait_for(reader.read(8), 10) == b"after it"
        assert heads[0].source == (own[0], own[1])
        assert heads[0].destination == ("127.0.0.1", running.port)


async def test_a_new_document_and_a_drain_leave_connections_alone_and_the_end_of_the_grace_does_not() -> None:
    async with through(echo) as running, client(running.port) as (reader, writer):
        writer.write(b"a")
        await asyncio.wait_for(reader.readexactly(1), 10)
        async with origin(greeting) as other:
            running.gateway.swap(passing(running.port, other))
            running.gateway.drain(True)
            writer.write(b"b")
            assert await asyncio.wait_for(reader.readexactly(1), 10) == b"b"
            async with client(running.port) as (newer, _):
                assert await asyncio.wait_for(newer.read(), 10) == b"220 hello"
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(running.gateway.close(0.5))
            writer.write(b"c")
            assert await asyncio.wait_for(reader.readexactly(1), 10) == b"c", "in the grace it is served"
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        assert running.seen.outcomes[-1].why == "worker_left"


async def test_silence_ends_a_connection_and_so_does_a_client_that_names_nobody_in_time() -> None:
    async with through(echo, idle_timeout_seconds=5) as running, client(running.port) as (reader, writer):
        writer.write(b"a")
        await asyncio.wait_for(reader.readexactly(1), 10)
        running.clock.push(4.0)
        writer.write(b"b")
        await asyncio.wait_for(reader.readexactly(1), 10)
        running.clock.push(4.0)
        writer.write(b"c")
        assert await asyncio.wait_for(reader.readexactly(1), 10) == b"c"
        running.clock.push(6.0)
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        assert running.seen.outcomes[-1].why == "idle"
    async with through(echo, server_names=["a.example.com"]) as running, client(running.port) as (reader, _):
        running.clock.push(11.0)
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        assert running.seen.outcomes[-1].why == "silent"


async def test_clients_that_leave_while_an_endpoint_is_connected_to_leave_nothing_behind() -> None:
    open_now: set[Writer] = set()

    async def held(reader: Reader, writer: Writer) -> None:
        open_now.add(writer)
        try:
            await reader.read()
        finally:
            open_now.discard(writer)

    async with through(held) as running:
        for turn in range(400):
            sock = socket.create_connection(("127.0.0.1", running.port))
            for _ in range(turn % 8):
                await asyncio.sleep(0)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
        await wait_until(
            lambda: not open_now and running.gateway.connections == 0, within_seconds=10, what="all are gone"
        )


# By server name


@contextlib.asynccontextmanager
async def tls_origin(name: str) -> AsyncIterator[int]:
    """A server with a certificate for `name`, which it says to each client."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority().issue_cert(name).configure_cert(context)

    async def say(reader: Reader, writer: Writer) -> None:
        writer.write(name.encode())
        writer.close()

    server = await asyncio.start_server(say, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def who_answers(port: int, name: str) -> bytes:
    """What a client is told that wants `name` and trusts only that."""
    context = ssl.create_default_context()
    authority().configure_trust(context)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.transport.abort()


@contextlib.asynccontextmanager
async def by_name(fallback: Mapping[str, Any] | None = None) -> AsyncIterator[Running]:
    async with tls_origin("mail.example.com") as mail, tls_origin("*.shop.example.com") as shop:
        routes = [
            {"name": "mail", "listener": "pass", "upstream": "mail", "server_names": ["mail.example.com"]},
            {"name": "shop", "listener": "pass", "upstream": "shop", "server_names": ["*.shop.example.com"]},
        ]
        upstreams = [upstream(mail, name="mail"), upstream(shop, name="shop")]
        if fallback is not None:
            routes.append({"name": "rest", "listener": "pass", "upstream": "rest"})
            upstreams.append({"name": "rest", **fallback})
        async with serving(lambda own: document(own, upstreams, [], listener=TCP, l4_routes=routes)) as running:
            yield running


async def test_tls_passes_through_to_whom_the_client_names() -> None:
    async with by_name() as running:
        assert await who_answers(running.port, "mail.example.com") == b"mail.example.com"
        assert await who_answers(running.port, "eu.shop.example.com") == b"*.shop.example.com"
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await who_answers(running.port, "other.example.com")
        await wait_until(lambda: len(running.seen.outcomes) == 3, within_seconds=10, what="told")
        assert [(one.route, one.authority, one.status) for one in running.seen.outcomes] == [
            ("mail", b"mail.example.com", 200),
            ("shop", b"eu.shop.example.com", 200),
            ("", b"other.example.com", 404),
        ]


async def test_what_is_no_tls_goes_where_the_rest_goes_or_nowhere() -> None:
    async with by_name() as running, client(running.port) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        await wait_until(lambda: bool(running.seen.outcomes), within_seconds=10, what="told")
        assert running.seen.outcomes[0].status == 400
    async with (
        origin(echo) as port,
        by_name({"endpoints": [{"address": f"127.0.0.1:{port}"}]}) as running,
        client(running.port) as (reader, writer),
    ):
        writer.write(b"plain")
        assert await asyncio.wait_for(reader.readexactly(5), 10) == b"plain"


# UDP


class Echo(asyncio.DatagramProtocol):
    """Gives datagrams back with its name, and remembers who sent them."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.clients: set[Any] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.clients.add(addr)
        self.transport.sendto(self.name + data, addr)  # type: ignore[attr-defined]  # a DatagramTransport


async def asked(sock: socket.socket, data: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, data)
    return await asyncio.wait_for(loop.sock_recv(sock, 4096), 10)


@contextlib.asynccontextmanager
async def datagrams(*names: bytes, **more: Any) -> AsyncIterator[tuple[Running, int, list[Echo]]]:
    """A gateway before UDP servers of these names; gives its UDP port."""
    loop, servers = asyncio.get_running_loop(), []
    for name in names:
        servers.append(await loop.create_datagram_endpoint(partial(Echo, name), local_addr=("127.0.0.1", 0)))
    ports = [transport.get_extra_info("sockname")[1] for transport, _ in servers]
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    port = udp.getsockname()[1]
    route = {"name": "all", "listener": "pass", "upstream": "app", **more}
    listener = {"name": "pass", "bind": f"127.0.0.1:{port}", "protocols": ["udp"]}
    async with serving(
        lambda own: document(own, [upstream(*ports)], [], listener=listener, l4_routes=[route])
    ) as running:
        running.gateway.attach_l4_datagrams(running.gateway.snapshot.listeners[0], [udp])
        try:
            yield running, port, [echo for _, echo in servers]
        finally:
            for transport, _ in servers:
                transport.close()


@contextlib.contextmanager
def udp_client(port: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(("127.0.0.1", port))
        yield sock


async def test_a_client_keeps_its_endpoint_and_gets_its_own_answers() -> None:
    async with datagrams(b"a", b"b") as (running, port, _):
        with contextlib.ExitStack() as stack:
            socks = [stack.enter_context(udp_client(port)) for _ in range(10)]
            first = [await asked(sock, b"%d" % at) for at, sock in enumerate(socks)]
            assert [answer[1:] for answer in first] == [b"%d" % at for at in range(10)]
            assert {answer[:1] for answer in first} == {b"a", b"b"}
            assert [await asked(sock, b"%d" % at) for at, sock in enumerate(socks)] == first
            assert running.gateway.active == 10


async def test_a_silent_client_is_forgotten_and_comes_back() -> None:
    async with datagrams(b"a", idle_timeout_seconds=5) as (running, port, _):
        with udp_client(port) as sock:
            assert await asked(sock, b"1") == b"a1"
            running.clock.push(6.0)
            await wait_until(lambda: running.gateway.active == 0, within_seconds=10, what="told")
            assert await asked(sock, b"2") == b"a2"


async def test_where_nobody_listens_the_next_datagram_goes_elsewhere() -> None:
    async with datagrams(b"a", b"b") as (_, port, echoes):
        echoes[0].transport.close()
        with udp_client(port) as sock:
            loop = asyncio.get_running_loop()
            answers = 0
            for _ in range(40):
                await loop.sock_sendall(sock, b"x")
                with contextlib.suppress(TimeoutError):
                    assert await asyncio.wait_for(loop.sock_recv(sock, 100), 0.25) == b"bx"
                    answers += 1
                if answers == 10:
                    break
            assert answers == 10
