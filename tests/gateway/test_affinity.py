"""Balancing over real sockets: who is sent where, and what keeps a client there."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from tests.gateway.harness import (
    Handler,
    Reader,
    Running,
    Writer,
    ask,
    client,
    document,
    get,
    named,
    origin,
    read_message,
    serving,
    status,
    upstream,
)
from tests.support import free_port, wait_until

from meridian.core.fields import cookie
from meridian.gateway.affinity import key_of

HASHED = ("ring_hash", "maglev")


@asynccontextmanager
async def apps(count: int) -> AsyncIterator[list[int]]:
    """Endpoints that say their number."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(origin(named(b"%d" % number))) for number in range(count)]


async def answered_by(running: Running, *fields: str, path: str = "/") -> int:
    head, body = await ask(running.port, get(path, *fields))
    assert status(head) == 200
    return int(body)


@pytest.mark.parametrize("balance", HASHED)
@pytest.mark.parametrize("hash_on", ["header:X-Tenant", "cookie:tenant", "path"])
async def test_a_key_stays_with_its_endpoint_and_keys_are_spread(balance: str, hash_on: str) -> None:
    async with (
        apps(3) as ports,
        serving(lambda own: document(own, [upstream(*ports, balance=balance, hash_on=hash_on)])) as running,
    ):

        async def owner(key: str) -> int:
            if hash_on == "path":
                return await answered_by(running, path=f"/{key}?{free_port()}")
            field = f"X-Tenant: {key}" if hash_on == "header:X-Tenant" else f"Cookie: a=b; tenant={key}"
            return await answered_by(running, field)

        owners = {f"k{number}": await owner(f"k{number}") for number in range(20)}
        assert len(set(owners.values())) > 1
        assert {key: await owner(key) for key in owners} == owners


@pytest.mark.parametrize("balance", ["ip_hash", "maglev", "ring_hash"])
async def test_a_client_stays_with_its_endpoint_whatever_its_order_and_comes_back(balance: str) -> None:
    trusting = {"trusted_proxies": ["127.0.0.0/8"]}
    async with apps(3) as ports:
        words = {"balance": balance}
        async with serving(lambda own: document(own, [upstream(*ports, **words)], listener=trusting)) as running:
            clients = [f"X-Forwarded-For: 198.51.100.{number}" for number in range(20)]
            owners = [await answered_by(running, one) for one in clients]
            assert len(set(owners)) > 1
            turned = [upstream(*reversed(ports), **words)]
            running.gateway.swap(document(running.port, turned, listener=trusting, version=2))
            assert [await answered_by(running, one) for one in clients] == owners
            down = {"app": frozenset({f"127.0.0.1:{ports[owners[0]]}"})}
            running.gateway.set_endpoint_health(down)
            moved = [await answered_by(running, one) for one in clients]
            for before, after in zip(owners, moved, strict=True):
                assert after != owners[0] and (before == owners[0] or after == before)
            running.gateway.set_endpoint_health({})
            assert [await answered_by(running, one) for one in clients] == owners


async def test_what_has_no_key_is_spread() -> None:
    words = {"balance": "maglev", "hash_on": "header:X-Tenant"}
    async with apps(2) as ports, serving(lambda own: document(own, [upstream(*ports, **words)])) as running:
        seen = Counter([await answered_by(running) for _ in range(40)])
        assert len(seen) == 2


async def test_a_hot_key_spills_over_at_its_bound() -> None:
    go_on, took = asyncio.Event(), Counter[int]()

    def slow(number: int) -> Handler:
        async def app(reader: Reader, writer: Writer) -> None:
            while True:
                await read_message(reader)
                took[number] += 1
                await go_on.wait()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        return app

    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(origin(slow(number))) for number in range(3)]
        app = upstream(*ports, balance="ring_hash", hash_on="path", load_bound_percent=150)
        running = await stack.enter_async_context(serving(lambda own: document(own, [app])))
        writers = [(await stack.enter_async_context(client(running.port)))[1] for _ in range(12)]
        for writer in writers:
            writer.write(get("/hot"))
        await wait_until(lambda: took.total() == 12, within_seconds=5, what="all to be there")
        assert max(took.values()) <= 6, took
        go_on.set()


COOKIE = re.compile(rb"set-cookie: (at=[0-9a-f]{24}); Path=/; HttpOnly; SameSite=Lax; Max-Age=3600\r\n")


async def test_a_sticky_cookie_names_its_endpoint_through_changes_and_without_telling_it() -> None:
    sticky = {"cookie": "at", "ttl_seconds": 3600}
    async with (
        apps(3) as ports,
        serving(lambda own: document(own, [upstream(*ports, sticky=sticky)])) as running,
    ):
        head, body = await ask(running.port, get())
        found = COOKIE.search(head)
        assert found is not None, head
        held, first = f"Cookie: x=y; {found[1].decode()}", int(body)
        for _ in range(5):
            head, body = await ask(running.port, get("/", held))
            assert int(body) == first and b"set-cookie" not in head
        turned = [upstream(free_port(), *reversed(ports), sticky=sticky)]
        running.gateway.swap(document(running.port, turned, version=2))
        for _ in range(5):
            assert await answered_by(running, held) == first
        running.gateway.set_endpoint_health({"app": frozenset({f"127.0.0.1:{ports[first]}"})})
        head, body = await ask(running.port, get("/", held))
        assert int(body) != first and COOKIE.search(head), "its endpoint is gone: it is bound to another"
        head, _ = await ask(running.port, get("/", "Cookie: at=nobody"))
        assert COOKIE.search(head)


async def test_an_endpoint_that_comes_back_warms_up() -> None:
    async with (
        apps(2) as ports,
        serving(lambda own: document(own, [upstream(*ports, slow_start_seconds=100)])) as running,
    ):
        await answered_by(running)
        running.gateway.set_endpoint_health({"app": frozenset({f"127.0.0.1:{ports[1]}"})})
        running.gateway.set_endpoint_health({})
        first = Counter([await answered_by(running) for _ in range(44)])
        assert first[1] == pytest.approx(4, abs=1)
        running.clock.push(55)
        await wait_until(lambda: running.gateway.coarse_now >= running.clock() - 1, within_seconds=5, what="a sweep")
        half = Counter([await answered_by(running) for _ in range(32)])
        assert half[1] == pytest.approx(12, abs=1)
        running.clock.push(55)
        await wait_until(lambda: running.gateway.coarse_now >= running.clock() - 1, within_seconds=5, what="a sweep")
        assert Counter([await answered_by(running) for _ in range(20)])[1] == 10


async def test_ewma_leaves_a_slow_endpoint_alone() -> None:
    async def slow(reader: Reader, writer: Writer) -> None:
        while True:
            await read_message(reader)
            await asyncio.sleep(0.1)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n9")

    async with origin(slow) as port, origin(named(b"1")) as quick:
        words = upstream(port, quick, balance="ewma", retries=0)
        async with serving(lambda own: document(own, [words])) as running:
            seen = Counter([await answered_by(running) for _ in range(40)])
            assert 1 <= seen[9] < 8, seen


def test_keys_of_requests() -> None:
    headers = [(b"x-a", b"1"), (b"cookie", b"b=2; a=1"), (b"cookie", b'c="3"')]
    assert cookie(headers, b"a") == b"1" and cookie(headers, b"c") == b'"3"' and cookie(headers, b"d") is None
    assert key_of("header:x-b", "192.0.2.1", b"/", headers) is None
    assert key_of("cookie:d", "192.0.2.1", b"/", headers) is None
    assert key_of("path", "192.0.2.1", b"/a?b", headers) == key_of("path", "192.0.2.2", b"/a?c", [])
    one, two = (key_of("client_ip", f"2001:db8::{number}", b"/", headers) for number in (1, 2))
    assert one == two != key_of("client_ip", "2001:db8:0:1::1", b"/", headers)
