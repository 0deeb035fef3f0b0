"""What a route does to its requests, on real connections: paths, hosts, fields, splits, copies, faults, redirects."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import curl_cffi
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
    hello,
    named,
    origin,
    read_message,
    secure,
    serving,
    status,
    upstream,
)
from tests.support import wait_until

from meridian.core.snapshot import Snapshot


@contextlib.asynccontextmanager
async def routed(
    *stages: dict[str, Any], app: Handler = hello, others: dict[str, Handler] | None = None, **route: Any
) -> AsyncIterator[Running]:
    """A gateway with one route to `app` (and upstreams of these names) through these stages."""
    async with contextlib.AsyncExitStack() as stack:
        ports = {"app": await stack.enter_async_context(origin(app))}
        for name, handler in (others or {}).items():
            ports[name] = await stack.enter_async_context(origin(handler))
        target = {} if {"split", "redirect_to"} & route.keys() else {"upstream": "app"}
        routes = [{"name": "all", "stages": list(stages), **target, **route}]
        upstreams = [upstream(port, name=name) for name, port in ports.items()]
        yield await stack.enter_async_context(serving(lambda port: document(port, upstreams, routes)))


def fields(head: bytes) -> dict[str, list[str]]:
    """The fields of a head by lower-case name."""
    found: dict[str, list[str]] = {}
    for line in head.decode("latin-1").split("\r\n")[1:]:
        name, colon, value = line.partition(": ")
        if colon:
            found.setdefault(name.lower(), []).append(value)
    return found


async def test_the_upstream_is_asked_for_another_path_host_and_with_other_fields() -> None:
    stages = (
        {"rewrite": {"path_prefix": "/v2", "host": "backend.internal:99"}},
        {"request_headers": {
            "remove": ["X-Secret"], "set": {"X-Client": "${client} of ${host}", "X-Id": "${request_id}"},
            "add": {"Accept": "text/html"},
        }},
    )  # fmt: skip
    async with routed(*stages, match={"path_prefix": "/api"}) as running:
        _, sent = await ask(running.port, get("/api/x?q=1", "X-Secret: 1", "X-Client: me", "Accept: */*"))
        assert sent.startswith(b"GET /v2/x?q=1 HTTP/1.1\r\nhost: backend.internal:99\r\n")
        found = fields(sent)
        assert found["x-client"] == ["127.0.0.1 of shop.example.com"] and "x-secret" not in found
        assert found["accept"] == ["*/*", "text/html"] and found["x-forwarded-host"] == ["shop.example.com"]
        (outcome,) = running.seen.outcomes
        assert found["x-id"] == found["x-request-id"] == [outcome.request_id.decode()]
        assert (outcome.target, outcome.authority) == (b"/api/x?q=1", b"shop.example.com"), "the log has what was asked"


@pytest.mark.parametrize("value", ["%0d%0aX-Evil:%201", "%00", "a%0ab"])
async def test_nothing_that_a_client_says_becomes_a_field(value: str) -> None:
    stages = (
        {"request_headers": {"set": {"X-Q": "${query:q}"}}}, {"response_headers": {"set": {"X-Back": "${query:q}"}}},
    )  # fmt: skip
    async with routed(*stages) as running:
        head, sent = await ask(running.port, get(f"/?q={value}"))
        assert "x-evil" not in fields(sent) and "x-evil" not in fields(head)
        assert fields(sent)["x-q"] == fields(head)["x-back"] == [value.replace("%20", " ").replace("%0d%0a", "%0D%0A")
                                                                  .replace("%0a", "%0A")]  # fmt: skip


async def test_a_new_path_does_not_leave_its_place_and_a_host_must_be_one() -> None:
    rewrite = {"pattern": "/a/(.*)-(.*)", "replace": r"/files/\1\2", "host": "${header:x-host}"}
    async with routed({"rewrite": rewrite}) as running:
        _, sent = await ask(running.port, get("/a/.-./etc/passwd", "X-Host: b.example"))
        assert sent.startswith(b"GET /etc/passwd HTTP/1.1\r\n"), "resolved by us, not by whoever reads it"
        head, _ = await ask(running.port, get("/a/b-c", "X-Host: b example"))
        assert status(head) == 400 and running.seen.outcomes[-1].why == "bad_field"


async def test_the_client_gets_other_fields_than_the_upstream_sent() -> None:
    async def app(reader: Reader, writer: Writer) -> None:
        while True:
            await read_message(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nServer: secret/1.0\r\nX-Old: 1\r\nContent-Length: 2\r\n\r\nhi")

    edits = {"remove": ["server"], "set": {"X-Old": "new"}, "add": {"X-Route": "${route} ${method}"}}
    async with routed({"response_headers": edits}, app=app) as running:
        head, body = await ask(running.port, get())
        found = fields(head)
        assert body == b"hi" and "server" not in found
        assert found["x-old"] == ["new"] and found["x-route"] == ["all GET"]


@pytest.mark.parametrize(("code", "method"), [(301, "GET"), (302, "HEAD"), (303, "POST"), (307, "PUT"), (308, "GET")])
async def test_clients_are_sent_elsewhere(code: int, method: str) -> None:
    to = "https://www.${host}${target}"
    async with routed(redirect_to=to, redirect_status=code) as running, client(running.port) as (reader, writer):
        for _ in range(2):  # the connection stays
            writer.write(get("/a?b=%0d%0ac", "Content-Length: 0", method=method))
            head = await reader.readuntil(b"\r\n\r\n")
            assert status(head) == code
            assert fields(head)["location"] == ["https://www.shop.example.com/a?b=%0d%0ac"]
            if method != "HEAD":
                await reader.readexactly(int(fields(head)["content-length"][0]))
        assert {(one.status, one.why, one.upstream) for one in running.seen.outcomes} == {(code, "", "")}


async def test_a_split_keeps_to_weights_and_a_client_to_its_part() -> None:
    parts = {"one": named(b"one"), "two": named(b"two")}
    split = [{"upstream": "one", "weight": 3}, {"upstream": "two", "weight": 1}]
    async with routed(others=parts, split=split) as running, client(running.port) as (reader, writer):
        seen: Counter[bytes] = Counter()
        for _ in range(400):
            writer.write(get())
            seen[(await read_message(reader))[1]] += 1
        assert 250 < seen[b"one"] < 350 and seen.total() == 400
        assert Counter(one.upstream for one in running.seen.outcomes) == {"one": seen[b"one"], "two": seen[b"two"]}
    async with routed(others=parts, split=split, split_on="header:X-User") as running:
        for user in range(20):
            answers = {(await ask(running.port, get("/", f"X-User: u{user}")))[1] for _ in range(3)}
            assert len(answers) == 1, "one user sees one version"
            seen[answers.pop()] += 1


async def test_a_canary_is_tried_by_those_who_say_so() -> None:
    canary = {"upstream": "new", "header": "X-Canary", "cookie": "canary"}
    async with routed(app=named(b"old"), others={"new": named(b"new")}, canary=canary) as running:
        for field, body in (("A: b", b"old"), ("X-Canary: always", b"new"), ("Cookie: canary=always", b"new"),
                            ("X-Canary: never", b"old")):  # fmt: skip
            assert (await ask(running.port, get("/", field)))[1] == body


async def test_a_copy_goes_to_the_mirror_with_its_body_and_no_answer_of_it_matters() -> None:
    copies: list[tuple[bytes, bytes]] = []

    async def shadow(reader: Reader, writer: Writer) -> None:
        while True:
            copies.append(await read_message(reader))
            writer.write(b"HTTP/1.1 500 Broken\r\nContent-Length: 3\r\n\r\nbad")

    stages = ({"rewrite": {"path": "/copied"}}, {"mirror": {"upstream": "shadow"}})
    async with routed(*stages, others={"shadow": shadow}) as running:
        for body in (b"", b"x" * 1000):
            head, sent = await ask(running.port, get("/", f"Content-Length: {len(body)}", method="PUT") + body)
            assert status(head) == 200 and sent.startswith(b"PUT /copied ")
        await wait_until(lambda: len(copies) == 2, within_seconds=5, what="copies")
        assert [body for _, body in copies] == [b"", b"x" * 1000]
        assert all(head.startswith(b"PUT /copied HTTP/1.1\r\nhost: shop.example.com\r\n") for head, _ in copies)
        head, _ = await ask(running.port, get("/", "Content-Length: 100000", method="PUT") + b"y" * 100_000)
        assert status(head) == 200
        await wait_until(lambda: running.gateway.active == 0, within_seconds=5, what="the end of all copies")
        assert len(copies) == 2, "a large body is not kept for a copy"
        assert len(running.seen.outcomes) == 3, "copies are in no log"
        assert mirrored(running) == {"answered": 2}


async def test_a_mirror_that_hangs_or_is_gone_slows_and_fails_nobody() -> None:
    async def hanging(reader: Reader, writer: Writer) -> None:
        await reader.read()  # and never answers

    async with routed({"mirror": {"upstream": "shadow"}}, app=named(b"app"), others={"shadow": hanging}) as running:
        began = time.monotonic()
        async with client(running.port) as (reader, writer):
            for _ in range(150):
                writer.write(get())
                assert (await read_message(reader))[1] == b"app"
        assert time.monotonic() - began < 30
        found = mirrored(running)
        assert found["dropped"] == 50 and running.gateway.active == 100, "as many as may wait, and no more"
        running.clock.push(100.0)
        await wait_until(lambda: running.gateway.active == 0, within_seconds=10, what="copies that time out")
        assert mirrored(running) == {"dropped": 50, "failed": 100}


def mirrored(running: Running) -> dict[str, int]:
    series = [one for one in running.gateway.series() if one.name == "meridian_mirrored_total"]
    return {one.labels["outcome"]: int(one.value) for one in series}


async def test_a_share_of_requests_is_delayed_or_aborted_on_purpose() -> None:
    fault = {"delay": {"seconds": 0.3}, "abort": {"status": 599, "percent": 50}}
    async with routed({"fault": fault}, app=named(b"app")) as running:
        began = time.monotonic()
        answers = await asyncio.gather(*(ask(running.port, get()) for _ in range(60)))
        assert time.monotonic() - began > 0.3
        seen = Counter(status(head) for head, _ in answers)
        assert set(seen) == {200, 599} and 10 < seen[599] < 50
        assert {one.why for one in running.seen.outcomes if one.status == 599} == {"fault"}


async def test_a_client_that_leaves_during_a_delay_is_forgotten() -> None:
    async with routed({"fault": {"delay": {"seconds": 30}}}) as running:
        async with client(running.port) as (_, writer):
            writer.write(get())
            await wait_until(lambda: running.gateway.active == 1, within_seconds=5, what="the request")
        await wait_until(lambda: running.gateway.active == 0, within_seconds=5, what="its end")
        assert running.seen.outcomes[0].why == "client_gone"


async def test_a_reset_on_purpose_gives_no_answer() -> None:
    async with routed({"fault": {"abort": {"reset": True}}}) as running, client(running.port) as (reader, writer):
        writer.write(get())
        assert await asyncio.wait_for(reader.read(), 5) == b""
        assert running.seen.outcomes[0].why == "fault"


async def test_a_plain_listener_sends_all_to_the_one_with_tls() -> None:
    def make(port: int) -> Snapshot:
        found = document(port, [upstream(1)])
        plain = replace(found.listeners[0], https_redirect=True)
        return replace(found, listeners=(plain, replace(plain, name="tls", port=8443, tls=True, https_redirect=False)))

    async with serving(make) as running:
        for target, location in (("/a?b=c", "/a?b=c"), ("//evil/x", "//evil/x")):
            head, _ = await ask(running.port, get(target))
            assert status(head) == 308 and fields(head)["location"] == [f"https://shop.example.com:8443{location}"]
        head, _ = await ask(running.port, b"GET / HTTP/1.0\r\n\r\n")
        assert status(head) == 400, "nobody knows where to send it"
        assert {one.route for one in running.seen.outcomes} == {""}


@pytest.mark.parametrize("version", ["v1", "v2", "v3only"])
async def test_tls_tells_browsers_to_stay_with_it(version: Any) -> None:
    async def app(reader: Reader, writer: Writer) -> None:
        while True:
            await read_message(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=0\r\nContent-Length: 0\r\n\r\n")

    async with origin(app) as port:

        def make(own: int) -> Snapshot:
            routes = [{"name": "app", "match": {"path_prefix": "/app"}, "upstream": "app"}]
            found = document(own, [upstream(port)], routes)
            return replace(found, listeners=(replace(found.listeners[0], hsts=b"max-age=60; includeSubDomains"),))

        async with secure(make=make) as (running, ca):
            trusted: Any = ca
            for path, code in (("/app", 200), ("/none", 404)):
                url = f"https://localhost:{running.port}{path}"
                answer = await asyncio.to_thread(
                    curl_cffi.request, "GET", url, http_version=version, verify=trusted, timeout=10
                )
                assert answer.status_code == code
                assert answer.headers["strict-transport-security"] == "max-age=60; includeSubDomains"
