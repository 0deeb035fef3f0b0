"""What a client is told by limits and by authentication, over real sockets in all three protocols."""

import asyncio
import base64
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import pytest
from tests.gateway.harness import (
    Reader,
    Running,
    Writer,
    ask,
    client,
    document,
    get,
    hello,
    origin,
    read_head,
    read_message,
    secure,
    serving,
    status,
    upstream,
)
from tests.gateway.test_protocols import VERSIONS, curl
from tests.support import wait_until

from meridian.core.authentication import hash_of
from meridian.core.snapshot import Limit, Snapshot
from meridian.gateway.admission import Admission, Asked, Verdict
from meridian.gateway.limits import Decision, Limits
from meridian.gateway.meters import Meters
from meridian.telemetry.metrics import Metrics

SECRET, OTHER = "s3cret-of-acme", "s3cret-of-globex"
PARTNERS = {
    "name": "partners",
    "header": "X-API-Key",
    "basic": True,
    "consumers": [
        {"name": "acme", "secrets": [hash_of(SECRET.encode())]},
        {"name": "globex", "secrets": [hash_of(OTHER.encode())]},
    ],
}


def limited(
    port: int, app: int, limits: Sequence[Mapping[str, Any]], *stages: Mapping[str, str], **more: Any
) -> Snapshot:
    """One route, under these stages; all limits in order if none are given."""
    chosen = stages or tuple({"limit": one["name"]} for one in limits)
    route = {"name": "all", "upstream": "app", "stages": list(chosen)}
    return document(port, [upstream(app)], [route], limits=list(limits), **more)


@contextlib.asynccontextmanager
async def under(
    *limits: Mapping[str, Any], stages: Sequence[Mapping[str, str]] = (), handler: Any = hello, **more: Any
) -> AsyncIterator[Running]:
    async with origin(handler) as app, serving(lambda port: limited(port, app, limits, *stages, **more)) as running:
        yield running


def fields(head: bytes) -> dict[str, str]:
    lines = head.decode().split("\r\n")[1:-2]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


async def under_way(running: Running, count: int) -> None:
    await wait_until(lambda: running.gateway.active == count, within_seconds=5, what=f"{count} under way")


# What clients are told


async def test_answers_say_how_limits_stand_and_refusals_when_to_come_back() -> None:
    rate = {"name": "burst", "rate": "1/m", "burst": 3}
    async with under(rate, {"name": "hourly", "window": "100/1h", "key": "route"}) as running:
        running.clock.push(1000)
        # Until the next sweep, deadlines are counted from the time before: all of them would be over at it.
        now = running.clock()
        await wait_until(lambda: running.gateway.coarse_now >= now, within_seconds=5, what="a sweep")
        head, _ = await ask(running.port, get())
        told = fields(head)
        assert told["ratelimit-policy"] == '"hourly";q=100;w=3600, "burst";q=3;w=180'
        assert re.fullmatch(r'"hourly";r=99;t=\d+, "burst";r=2;t=\d+', told["ratelimit"])
        assert "retry-after" not in told
        await ask(running.port, get())
        await ask(running.port, get())
        head, body = await ask(running.port, get())
        told = fields(head)
        assert status(head) == 429 and b"Too many" in body
        assert 1 <= int(told["retry-after"]) <= 61
        assert re.fullmatch(r'"hourly";r=97;t=\d+, "burst";r=0;t=\d+', told["ratelimit"]), "nothing was taken of it"
        assert [seen.why for seen in running.seen.outcomes] == ["", "", "", "limited"]


def test_a_count_that_refuses_costs_no_token_and_none_that_counts() -> None:
    few, other = (
        Limit(name, ("route",), kind="window", amount=n, window_seconds=60.0) for name, n in (("f", 1), ("o", 9))
    )
    rate = Limit("rate", ("route",), 1.0, 5)
    limits, meters = Limits(lambda: 900.0), Meters.alone(1000.0, 1e9)
    limits.replace({"rate": rate}, 900.0)
    meters.replace({"f": few, "o": other}, 1000.0, 1e9)
    admission = Admission(limits, meters, Metrics(), lambda: 1000.0, lambda: 1e9)
    asked = [(rate, "k"), (few, "k"), (other, "k")]
    assert admission.decide(asked).refused_by is None
    assert [admission.decide(asked).refused_by for _ in range(3)] == [few] * 3
    assert limits.decide([(rate, "k")], 1000.0).remaining == 3 and meters.look(other, "k", 1000.0, 1e9)[0] == 8.0


class LateLimits(Limits):
    """Owners of keys answer when the test says so."""

    answer: Callable[[], None]

    def consult(self, asked: Asked, then: Callable[[Decision], None]) -> None:
        self.answer = lambda: then(Decision(True, "rate", 4, 0.0, 0.0))


def test_a_limit_that_leaves_the_document_while_an_owner_is_asked_refuses_nobody() -> None:
    window = Limit("w", ("route",), kind="window", amount=1, window_seconds=60.0)
    limits, meters = LateLimits(lambda: 900.0), Meters.alone(1000.0, 1e9)
    meters.replace({"w": window}, 1000.0, 1e9)
    admission = Admission(limits, meters, Metrics(), lambda: 1000.0, lambda: 1e9)
    found: list[Verdict] = []
    admission.consult([(Limit("rate", ("route",), 1.0, 5), "k"), (window, "k")], found.append)
    meters.replace({}, 1000.0, 1e9)
    limits.answer()
    assert [verdict.refused_by for verdict in found] == [None]


async def test_a_status_of_the_documents_own_and_silence_where_wanted() -> None:
    async with under({"name": "few", "window": "1/1m", "status": 503, "announce": False}) as running:
        assert "ratelimit" not in fields((await ask(running.port, get()))[0])
        head, _ = await ask(running.port, get())
        assert status(head) == 503 and "ratelimit" not in fields(head) and fields(head)["retry-after"] == "61"


async def test_a_dry_run_admits_and_counts() -> None:
    async with under({"name": "few", "window": "1/1m", "dry_run": True}) as running:
        for _ in range(3):
            head, _ = await ask(running.port, get())
            assert status(head) == 200 and "ratelimit" not in fields(head)
        counted = {
            one.labels["outcome"]: one.value for one in running.gateway.series() if one.labels.get("limit") == "few"
        }
        assert counted == {"admitted": 1, "refused": 2}


@pytest.mark.parametrize("version", VERSIONS)
async def test_fields_and_grpc_in_every_protocol(version: str) -> None:
    few = [{"name": "few", "window": "1/1m"}]
    async with origin(hello) as app, secure(make=lambda port: limited(port, app, few)) as (running, ca):
        answer = await curl(running.port, version, ca)
        assert answer.status_code == 200
        assert answer.headers["ratelimit-policy"] == '"few";q=1;w=60'
        assert answer.headers["ratelimit"] == '"few";r=0;t=61'
        answer = await curl(running.port, version, ca)
        assert answer.status_code == 429 and answer.headers["retry-after"] == "61"
        grpc = {"content-type": "application/grpc+proto", "te": "trailers"}
        answer = await curl(running.port, version, ca, "/pkg.Service/Call", "POST", data=b"\0\0\0\0\0", headers=grpc)
        assert answer.status_code == 200 and answer.content == b""
        assert answer.headers["grpc-status"] == "8" and answer.headers["content-type"] == "application/grpc"
        assert "Too many requests." in answer.headers["grpc-message"]
        assert answer.headers["grpc-retry-pushback-ms"] == "61000"
        assert running.seen.outcomes[-1].why == "limited"


# Keys


async def test_each_key_counts_for_itself() -> None:
    async with under({"name": "few", "window": "1/1m", "key": ["header:X-Tenant", "host"]}) as running:
        asked = [get("/", "X-Tenant: a"), get("/", "X-Tenant: b"), get("/", "X-Tenant: a"), get(), get()]
        found = [status((await ask(running.port, one))[0]) for one in asked]
        assert found == [200, 200, 429, 200, 429], "those without the header share one key"


@pytest.mark.parametrize(
    ("client_field", "asked", "expected"),
    [
        ("x-forwarded-for", ["X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 192.0.2.2"], [200, 200]),
        ("x-forwarded-for", ["Forwarded: for=192.0.2.1", "Forwarded: for=192.0.2.2"], [200, 429]),
        ("forwarded", ["Forwarded: for=192.0.2.1", "Forwarded: for=192.0.2.2"], [200, 200]),
        ("forwarded", ["X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 192.0.2.2"], [200, 429]),
        ("forwarded", ['Forwarded: for="[2001:db8::1]:99"', 'Forwarded: for="[2001:db8::2]"'], [200, 429]),
        ("forwarded", ['Forwarded: for="[2001:db8::1]"', 'Forwarded: for="[2001:db8:0:1::1]"'], [200, 200]),
    ],
)
async def test_a_client_is_who_the_trusted_proxy_says(client_field: str, asked: list[str], expected: list[int]) -> None:
    listener = {"trusted_proxies": ["127.0.0.0/8"], "client_field": client_field}
    async with under({"name": "few", "window": "1/1m"}, listener=listener) as running:
        assert [status((await ask(running.port, get("/", one)))[0]) for one in asked] == expected


# Consumers


def basic(user: str, secret: str) -> str:
    return "Authorization: Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()


async def test_consumers_are_told_apart_and_their_secrets_stay_here() -> None:
    limit = {"name": "few", "window": "2/1m", "key": "consumer"}
    stages = ({"authenticate": "partners"}, {"limit": "few"})
    async with under(limit, stages=stages, authenticators=[PARTNERS]) as running:
        head, body = await ask(running.port, get("/", f"X-API-Key: {SECRET}", "X-Consumer: root"))
        assert status(head) == 200 and b"\r\nx-consumer: acme\r\n" in body.lower() and b"root" not in body
        assert SECRET.encode() not in body, "the upstream needs no secret"
        head, body = await ask(running.port, get("/", basic("acme", SECRET)))
        assert status(head) == 200 and b"authorization" not in body.lower()
        assert status((await ask(running.port, get("/", basic("acme", SECRET))))[0]) == 429
        assert status((await ask(running.port, get("/", f"X-API-Key: {OTHER}")))[0]) == 200


@pytest.mark.parametrize(
    "shown",
    [
        [],
        ["X-API-Key: wrong"],
        ["X-API-Key: "],
        ["X-API-Key: " + "x" * 600],
        [f"X-API-Key: {SECRET}", f"X-API-Key: {SECRET}"],
        [basic("globex", SECRET)],
        ["Authorization: Basic ???"],
        ["Authorization: Bearer abc"],
    ],
)
async def test_without_the_right_secret_nothing_is_asked_of_the_upstream(shown: list[str]) -> None:
    async with under(stages=({"authenticate": "partners"},), authenticators=[PARTNERS]) as running:
        head, _ = await ask(running.port, get("/", *shown))
        assert status(head) == 401
        challenge = 'Basic realm="partners", charset="UTF-8", ApiKey realm="partners", header="x-api-key"'
        assert fields(head)["www-authenticate"] == challenge
        assert [one.tries for one in running.seen.outcomes] == [0]


async def test_guesses_count_under_limits_that_stand_before_the_question() -> None:
    limit = {"name": "guesses", "window": "3/1m"}
    stages = ({"limit": "guesses"}, {"authenticate": "partners"})
    async with under(limit, stages=stages, authenticators=[PARTNERS]) as running:
        assert status((await ask(running.port, get("/", f"X-API-Key: {SECRET}")))[0]) == 200
        for expected in (401, 401, 429):
            assert status((await ask(running.port, get("/", "X-API-Key: guess")))[0]) == expected


async def test_who_shows_nothing_may_go_on_where_that_is_optional() -> None:
    stages = ({"authenticate": "partners"},)
    async with under(stages=stages, authenticators=[{**PARTNERS, "optional": True}]) as running:
        head, body = await ask(running.port, get())
        assert status(head) == 200 and b"x-consumer" not in body.lower()
        assert status((await ask(running.port, get("/", "X-API-Key: wrong")))[0]) == 401


# Concurrency


@pytest.mark.parametrize("end", ["answered", "client leaves", "upstream dies", "times out"])
async def test_what_is_under_way_counts_until_it_ends_whatever_way(end: str) -> None:
    go = asyncio.Event()

    async def slow(reader: Reader, writer: Writer) -> None:
        await read_message(reader)
        await go.wait()
        if end == "upstream dies":
            writer.transport.abort()
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with (
        under({"name": "few", "concurrent": 1}, handler=slow) as running,
        client(running.port) as (reader, writer),
    ):
        writer.write(get())
        await under_way(running, 1)
        head, _ = await ask(running.port, get())
        assert status(head) == 429
        assert fields(head)["ratelimit-policy"] == '"few";q=1;qu="concurrent-requests"'
        assert fields(head)["ratelimit"] == '"few";r=0'
        if end == "client leaves":
            writer.transport.abort()
        elif end == "times out":
            running.clock.push(3600)
        else:
            go.set()
            await read_head(reader)
        await under_way(running, 0)
        go.set()
        head, _ = await ask(running.port, get())
        assert status(head) in ((200,) if end != "upstream dies" else (502,))
        await under_way(running, 0)
        assert status((await ask(running.port, get()))[0]) != 429, "the one that was refused held nothing"
