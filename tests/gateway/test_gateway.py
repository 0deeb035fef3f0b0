"""What may be told to a gateway while it serves: another snapshot, a verdict, shares, drain, the end."""

import asyncio
import json
import socket

import pytest
from tests.gateway.harness import (
    Clock,
    Reader,
    Running,
    Writer,
    ask,
    client,
    document,
    get,
    hello,
    named,
    origin,
    read_head,
    read_message,
    serving,
    status,
    upstream,
)
from tests.support import free_port, wait_until

from meridian.core.granting.messages import Consult, Consulted, Message
from meridian.core.granting.shares import Cut, Rule, Value
from meridian.core.granting.spender import Allowance
from meridian.core.snapshot import Snapshot
from meridian.gateway.limits import CONSULT_SECONDS, Limits, Told


async def load(running: Running, stop: asyncio.Event, answers: list[tuple[int, bytes]]) -> None:
    """Asks on one connection until told to stop."""
    async with client(running.port) as (reader, writer):
        while not stop.is_set():
            writer.write(get())
            head, body = await read_message(reader)
            answers.append((status(head), body))


async def test_a_swap_under_load_fails_no_request() -> None:
    async with (
        origin(named(b"old")) as old,
        origin(named(b"new")) as new,
        serving(lambda port: document(port, [upstream(old)])) as running,
    ):
        stop = asyncio.Event()
        answers: list[tuple[int, bytes]] = []
        async with asyncio.TaskGroup() as tasks:
            for _ in range(20):
                tasks.create_task(load(running, stop, answers))
            for turn in range(20):
                await asyncio.sleep(0.02)
                target = new if turn % 2 == 0 else old
                running.gateway.swap(document(running.port, [upstream(target)], version=turn + 2))
            running.gateway.swap(document(running.port, [upstream(new)], version=99))
            await asyncio.sleep(0.05)
            stop.set()
        assert {code for code, _ in answers} == {200}
        assert {body for _, body in answers} == {b"old", b"new"} and answers[-1][1] == b"new"
        assert (await ask(running.port, get()))[1] == b"new"
        assert running.seen.outcomes[-1].config_version == 99


async def test_an_exchange_ends_on_the_snapshot_it_began_with() -> None:
    go_on = asyncio.Event()

    async def slow(reader: Reader, writer: Writer) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsl")
        await go_on.wait()
        writer.write(b"ow")
        await writer.drain()

    async with origin(slow) as app, serving(lambda port: document(port, [upstream(app)])) as running:
        async with client(running.port) as (reader, writer):
            writer.write(get())
            await read_head(reader)
            running.gateway.swap(document(running.port, [upstream(free_port(), name="other")], version=2))
            assert status((await ask(running.port, get()))[0]) == 502
            go_on.set()
            assert await reader.readexactly(4) == b"slow"
        await wait_until(lambda: len(running.seen.outcomes) == 2, within_seconds=5, what="both outcomes")
        assert [seen.config_version for seen in running.seen.outcomes] == [2, 1]


async def test_unchanged_endpoints_keep_their_connections_over_a_swap() -> None:
    connections: list[int] = []

    async def app(reader: Reader, writer: Writer) -> None:
        connections.append(1)
        try:
            await hello(reader, writer)
        finally:
            connections.append(-1)

    async with (
        origin(app) as one,
        origin(hello) as two,
        serving(lambda port: document(port, [upstream(one)])) as running,
    ):
        await ask(running.port, get())
        running.gateway.swap(document(running.port, [upstream(one, two)], version=2))
        await ask(running.port, get())
        await ask(running.port, get())
        assert connections == [1]
        running.gateway.swap(document(running.port, [upstream(two)], version=3))
        await wait_until(lambda: connections == [1, -1], within_seconds=5, what="the idle connection to end")


async def test_probes_and_verdicts_decide_where_requests_go() -> None:
    async with origin(named(b"near")) as near, origin(named(b"far")) as far, origin(named(b"lost")) as lost:
        places = [(near, "here"), (far, "far"), (lost, "lost")]
        endpoints = [{"address": f"127.0.0.1:{port}", "region": region} for port, region in places]
        regions = [{"name": name} for name in ("here", "far", "lost")]

        async with serving(
            lambda port: document(port, [{"name": "app", "endpoints": endpoints}], regions=regions)
        ) as running:

            async def answers() -> set[bytes]:
                return {(await ask(running.port, get()))[1] for _ in range(8)}

            assert await answers() == {b"near"}
            running.gateway.set_verdict(7, frozenset({"lost"}), fallback=2)
            running.gateway.set_endpoint_health({"app": frozenset({f"127.0.0.1:{near}"})})
            assert await answers() == {b"far"}
            outcome = running.seen.outcomes[-1]
            assert (outcome.verdict_version, outcome.verdict_fallback) == (7, 2)
            running.gateway.set_endpoint_health({"app": frozenset(f"127.0.0.1:{port}" for port in (near, far))})
            assert await answers() == {b"lost"}
            running.gateway.set_endpoint_health({"app": frozenset(f"127.0.0.1:{port}" for port in (near, far, lost))})
            assert await answers() == {b"near", b"far", b"lost"}, "all are down: all are tried"
            running.gateway.set_endpoint_health({})
            assert await answers() == {b"near"}


async def test_limits_never_admit_more_than_their_bound() -> None:
    limits = [{"name": "few", "key": "client_ip", "rate": "50/s", "burst": 10}]
    routes = [{"name": "all", "upstream": "app", "stages": [{"limit": "few"}]}]
    async with (
        origin(hello) as app,
        serving(lambda port: document(port, [upstream(app)], routes, limits=limits)) as running,
    ):
        began = running.clock()
        admitted: list[float] = []

        async def ask_on() -> None:
            async with client(running.port) as (reader, writer):
                while running.clock() - began < 1.5:
                    writer.write(get())
                    head, body = await read_message(reader)
                    if status(head) == 200:
                        admitted.append(running.clock())
                    else:
                        assert status(head) == 429 and b"retry-after: 1\r\n" in head and b"request" in body

        async with asyncio.TaskGroup() as tasks:
            for _ in range(4):
                tasks.create_task(ask_on())
        times = sorted(seen.started for seen in running.seen.outcomes if seen.status == 200)
        assert len(times) >= 40, "what the limit allows is admitted"
        for first in range(len(times)):
            for last in range(first, len(times)):
                # An exchange is counted from its head, a moment before the bucket is asked.
                assert last - first + 1 <= 50 * (times[last] - times[first] + 0.02) + 10


async def test_a_request_waits_for_the_owner_of_its_key_and_no_longer_than_that_may_take() -> None:
    """With a body, which comes while the owner is asked. Then an owner that says no, and one that says nothing."""
    limits = [{"name": "two", "key": "client_ip", "rate": "1/s", "burst": 2}]
    routes = [{"name": "all", "upstream": "app", "stages": [{"limit": "two"}]}]
    asked: list[Consult] = []
    answers = [True, False, None]

    def among_others(clock: Clock) -> Limits:
        made = Limits(clock, alone=False)
        made.join("a/0", 0)
        made.later = asyncio.get_running_loop().call_later

        def post(message: Message) -> None:
            assert isinstance(message, Consult)
            asked.append(message)
            if (admitted := answers.pop(0)) is not None:
                answer = Consulted(
                    "two", message.key, "a/0", message.number, admitted, 1.0, 1.0, 0.0 if admitted else 7.0
                )
                asyncio.get_running_loop().call_later(0.005, made.hear, answer, clock())

        made.post = post
        return made

    async with (
        origin(hello) as app,
        serving(lambda port: document(port, [upstream(app)], routes, limits=limits), among_others) as running,
    ):
        cut = Cut(seats=2, slices=1, homes=2, alone_max=2)
        told = Told(cut, Allowance("agent", 0, frozenset()), {"two": Value(0, 0, Rule(1.0, 2))})
        running.gateway.limits.allow(told, running.clock())
        running.gateway.limits.set_spenders(["a/0", "b/0"], {0: "b", 1: "b"})
        body = b"POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: 3\r\n\r\nabc"
        head, _ = await ask(running.port, body)
        assert status(head) == 200
        head, _ = await ask(running.port, get())
        assert status(head) == 429 and b"retry-after: 7\r\n" in head
        began = running.clock()
        head, _ = await ask(running.port, get())
        assert status(head) == 429 and running.clock() - began >= CONSULT_SECONDS
        assert [message.owner for message in asked] == ["b/0"] * 3


async def test_drain_says_close_and_keeps_idle_connections() -> None:
    async with origin(hello) as app, serving(lambda port: document(port, [upstream(app)])) as running:
        async with client(running.port) as (reader, writer), client(running.port) as (idle_reader, idle_writer):
            writer.write(get())
            assert b"connection: close" not in await read_head(reader)
            running.gateway.drain(True)
            await asyncio.sleep(0.05)
            idle_writer.write(get())
            head, _ = await read_message(idle_reader)
            assert status(head) == 200 and b"connection: close\r\n" in head
            assert await asyncio.wait_for(idle_reader.read(1), 5) == b""
        assert b"connection: close\r\n" in (await ask(running.port, get()))[0]
        running.gateway.drain(False)
        assert b"connection: close" not in (await ask(running.port, get()))[0]


async def test_close_waits_for_exchanges_and_then_ends_all() -> None:
    go_on = asyncio.Event()

    async def slow(reader: Reader, writer: Writer) -> None:
        await read_head(reader)
        await go_on.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")
        await writer.drain()

    async with (
        origin(slow) as app,
        serving(lambda port: document(port, [upstream(app)])) as running,
        client(running.port) as (reader, writer),
    ):
        writer.write(get())
        await wait_until(lambda: running.gateway.active == 1, within_seconds=5, what="an exchange")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(running.gateway.close(5.0))
            await asyncio.sleep(0.1)
            with pytest.raises(ConnectionError):
                await ask(running.port, get())
            go_on.set()
            assert (await read_message(reader))[1] == b"slow"
        assert running.gateway.connections == 0


async def test_detach_stops_new_connections_only() -> None:
    async with (
        origin(hello) as app,
        serving(lambda port: document(port, [upstream(app)])) as running,
        client(running.port) as (reader, writer),
    ):
        writer.write(get())
        await read_message(reader)
        running.gateway.detach("web")
        await asyncio.sleep(0.05)
        with pytest.raises(ConnectionError):
            await ask(running.port, get())
        writer.write(get())
        assert status((await read_message(reader))[0]) == 200
        sock = socket.create_server(("127.0.0.1", running.port))
        await running.gateway.attach(running.gateway.snapshot.listeners[0], [sock])
        assert status((await ask(running.port, get()))[0]) == 200


async def test_the_health_of_a_node_is_told_on_every_listener_before_routing_and_limits() -> None:
    limits = [{"name": "none", "key": "client_ip", "rate": "1/h", "burst": 1}]
    routes = [{"name": "all", "upstream": "app", "stages": [{"limit": "none"}]}]
    async with serving(lambda own: document(own, [upstream(free_port())], routes, limits=limits)) as running:
        for draining in (False, True):
            running.gateway.drain(draining)
            head, body = await ask(running.port, get("/.meridian/health"))
            assert status(head) == 200 and b"content-type: application/json\r\n" in head
            assert json.loads(body) == {"node": "n1", "version": 1, "draining": draining}
        async with client(running.port) as (reader, writer):  # also with a body, and with a request behind it
            writer.write(get("/.meridian/health", "Content-Length: 2") + b"{}" + get("/.meridian/health"))
            assert status((await read_message(reader))[0]) == 200
        assert running.seen.outcomes == []
        running.gateway.swap(document(running.port, [upstream(1)], [], version=7))
        assert json.loads((await ask(running.port, get("/.meridian/health")))[1])["version"] == 7
        assert not [one for one in running.gateway.series() if one.name == "meridian_requests_total" and one.value]
        assert status((await ask(running.port, get("/.meridian/health", method="POST")))[0]) == 404, "routed"


async def test_series_of_routes_and_upstreams_leave_with_them() -> None:
    def called(port: int, name: str, version: int = 1) -> Snapshot:
        return document(port, [upstream(one, name=name)], [{"name": name, "upstream": name}], version=version)

    def labels(running: Running, label: str) -> set[str]:
        return {found for series in running.gateway.series() if (found := series.labels.get(label))}

    async with origin(hello) as one, serving(lambda port: called(port, "old")) as running:
        assert status((await ask(running.port, get()))[0]) == 200
        running.gateway.begin_trial(called(running.port, "tried", 2), 1.0, generation=1)
        assert status((await ask(running.port, get()))[0]) == 200
        assert labels(running, "route") == labels(running, "upstream") == {"old", "tried"}
        running.gateway.end_trial()
        assert labels(running, "route") == labels(running, "upstream") == {"old"}
        running.gateway.swap(called(running.port, "new", 3))
        assert status((await ask(running.port, get()))[0]) == 200
        assert labels(running, "route") == labels(running, "upstream") == {"new"}
