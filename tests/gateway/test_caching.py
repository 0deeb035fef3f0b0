"""The cache on real connections: what the upstream is asked, and what clients get."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
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
    origin,
    read_message,
    secure,
    serving,
    status,
    upstream,
)
from tests.support import wait_until

from meridian.core.purging import Purge, Purges
from meridian.gateway.caching import WAIT_SECONDS
from meridian.gateway.explaining import Question


@dataclass
class Origin:
    """An upstream that answers as a test wants; it numbers its answers."""

    fields: str = ""
    code: int = 200
    heads: list[bytes] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    answer: Callable[[bytes], bytes] | None = None
    down: bool = False

    def __post_init__(self) -> None:
        self.gate.set()

    async def __call__(self, reader: Reader, writer: Writer) -> None:
        while True:
            head, _ = await read_message(reader)
            if self.down:
                return
            self.heads.append(head)
            number = len(self.heads)
            await self.gate.wait()
            if self.answer is not None:
                writer.write(self.answer(head))
                continue
            body = b"answer %d" % number
            if self.code == 304:
                writer.write(f"HTTP/1.1 304 Same\r\n{self.fields}\r\n".encode())
            else:
                length = f"Content-Length: {len(body)}\r\n"
                head_bytes = f"HTTP/1.1 {self.code} Said\r\n{length}{self.fields}\r\n".encode()
                writer.write(head_bytes + (b"" if head.startswith(b"HEAD") else body))


@contextlib.asynccontextmanager
async def cached(
    *stages: dict[str, Any], ttl_seconds: float = 30, route: dict[str, Any] | None = None, **more: Any
) -> AsyncIterator[tuple[Running, Origin]]:
    """A gateway whose one route has a cache."""
    app = Origin()
    words = {"ttl_seconds": ttl_seconds, **more.pop("cache", {})}
    routes = [{"name": "all", "upstream": "app", "stages": [*stages, {"cache": words}], **(route or {})}]
    async with origin(app) as port:
        app_words = upstream(port, retry={"tries": 1})
        async with serving(lambda own: document(own, [app_words], routes, **more)) as running:
            yield running, app


async def said(running: Running, request: bytes) -> tuple[int, str, bytes, dict[str, str]]:
    """Status, Cache-Status without our name, body and fields of an answer."""
    head, body = await ask(running.port, request)
    lines = (line.partition(": ") for line in head.decode("latin-1").split("\r\n")[1:])
    fields = {name.lower(): value for name, colon, value in lines if colon}
    return status(head), fields.get("cache-status", "").removeprefix("meridian; "), body, fields


@contextlib.asynccontextmanager
async def asking(running: Running, count: int) -> AsyncIterator[list[asyncio.Task[tuple[int, str, bytes, Any]]]]:
    """So many clients that ask at once, until all have their answer."""
    async with asyncio.TaskGroup() as tasks:
        yield [tasks.create_task(said(running, get())) for _ in range(count)]


def bodies(asked: list[asyncio.Task[tuple[int, str, bytes, Any]]]) -> set[bytes]:
    return {one.result()[2] for one in asked}


async def test_an_answer_is_used_again_until_it_is_old() -> None:
    async with cached() as (running, app):
        code, told, body, _ = await said(running, get("/a?b"))
        assert (code, told, body) == (200, "fwd=uri-miss; fwd-status=200; stored", b"answer 1")
        await running.pass_time(12.0)
        code, told, body, fields = await said(running, get("/a?b"))
        assert (code, told, body) == (200, "hit; ttl=17", b"answer 1") and fields["age"] == "12"
        assert fields["content-length"] == "8"
        assert (await said(running, get("/a?c")))[2] == b"answer 2", "another query is another answer"
        assert (await said(running, get("/a?b", "Host: other").replace(b"shop.", b"new.")))[2] != b"answer 1"
        await running.pass_time(19.0)
        asked = len(app.heads)
        assert (await said(running, get("/a?b")))[2] == b"answer %d" % (asked + 1), "it was old, and had no validator"
        one = running.seen.outcomes[1]
        assert (one.status, one.why, one.tries, one.endpoint, one.response_body_bytes) == (200, "", 0, "", 8)


async def test_head_is_answered_by_what_get_has_kept() -> None:
    async with cached() as (running, app):
        async with client(running.port) as (reader, writer):
            writer.write(get("/", method="HEAD"))
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"fwd=uri-miss; fwd-status=200\r\n" in head, "an answer to HEAD is not kept"
            writer.write(get("/"))
            assert (await read_message(reader))[1] == b"answer 2"
            writer.write(get("/", method="HEAD") + get("/"))
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"hit" in head and b"content-length: 8" in head
            assert (await read_message(reader))[1] == b"answer 2"
        assert len(app.heads) == 2


@pytest.mark.parametrize(
    ("answered", "asked"),
    [("Cache-Control: no-store\r\n", ()), ("Cache-Control: private\r\n", ()), ("Set-Cookie: a=b\r\n", ()),
     ("Vary: *\r\n", ()), ("", ("Authorization: Basic eDp5",)), ("", ("Cache-Control: no-store",)),
     ("", ("Range: bytes=0-1",))],
)  # fmt: skip
async def test_what_is_one_clients_alone_is_not_kept(answered: str, asked: tuple[str, ...]) -> None:
    async with cached() as (running, app):
        app.fields = answered
        for number in (1, 2):
            code, told, body, _ = await said(running, get("/", *asked))
            assert code == 200 and body == b"answer %d" % number and "stored" not in told and "hit" not in told
        assert len(running.gateway.cache) == 0


async def test_who_asks_is_a_part_of_what_is_kept() -> None:
    secrets = {"one": "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b",
               "two": "3fc9b689459d738f8c88a3a48aa9e33542016b7a4052e001aaa536fca74813cb"}  # fmt: skip
    consumers = [{"name": name, "secrets": [f"sha256:{digest}"]} for name, digest in secrets.items()]
    keys = [{"name": "keys", "header": "x-api-key", "consumers": consumers}]
    async with cached({"authenticate": "keys"}, authenticators=keys) as (running, _):
        assert (await said(running, get("/", "x-api-key: secret")))[2] == b"answer 1"
        assert (await said(running, get("/", "x-api-key: something")))[2] == b"answer 2"
        assert (await said(running, get("/", "x-api-key: secret")))[2] == b"answer 1"
        assert (await said(running, get("/")))[0] == 401, "the cache answers nobody who may not ask"


async def test_variants() -> None:
    async with cached() as (running, app):
        app.fields = "Vary: Accept-Language\r\n"
        for language, body, told in (("de", b"answer 1", "fwd=uri-miss"), ("en", b"answer 2", "fwd=vary-miss"),
                                     ("de", b"answer 1", "hit"), ("en", b"answer 2", "hit")):  # fmt: skip
            found = await said(running, get("/", f"Accept-Language: {language}"))
            assert found[2] == body and found[1].startswith(told)


async def test_an_old_answer_is_asked_about_and_used_on() -> None:
    async with cached() as (running, app):
        app.fields = 'ETag: "v1"\r\nX-Kept: 1\r\n'
        await said(running, get())
        await running.pass_time(31.0)
        app.code, app.fields = 304, 'ETag: "v1"\r\nCache-Control: max-age=60\r\n'
        code, told, body, fields = await said(running, get())
        assert (code, body, fields["x-kept"]) == (200, b"answer 1", "1") and "fwd=stale; fwd-status=304" in told
        assert b'if-none-match: "v1"\r\n' in app.heads[1].lower()
        await running.pass_time(50.0)
        assert (await said(running, get()))[1] == "hit; ttl=9", "for as long as the upstream said then"
        assert len(app.heads) == 2
        assert running.seen.outcomes[1].status == 200
        code, _, body, _ = await said(running, get("/", 'If-None-Match: "v1"'))
        assert (code, body) == (304, b"")
        await running.pass_time(50.0)
        app.code, app.fields = 200, 'ETag: "v2"\r\n'
        assert (await said(running, get()))[2] == b"answer 3", "or it has changed"


async def test_a_clients_conditions_do_not_reach_the_upstream() -> None:
    async with cached() as (running, app):
        app.fields = 'ETag: "v1"\r\n'
        code, told, body, fields = await said(running, get("/", 'If-None-Match: "v1"'))
        assert (code, body) == (304, b"") and told == "fwd=uri-miss; fwd-status=200; stored" and "etag" in fields
        assert b"if-none-match" not in app.heads[0].lower()
        assert (await said(running, get()))[2] == b"answer 1", "the whole of it was kept"
        assert running.seen.outcomes[0].status == 304


async def test_requests_say_what_they_take() -> None:
    async with cached() as (running, app):
        assert (await said(running, get("/", "Cache-Control: only-if-cached")))[0] == 504
        await said(running, get())
        await running.pass_time(10.0)
        for control, told in (("max-age=5", "fwd=stale"), ("no-cache", "fwd=stale"), ("min-fresh=29", "hit"),
                              ("min-fresh=31", "fwd=stale"), ("only-if-cached", "hit")):  # fmt: skip
            assert (await said(running, get("/", f"Cache-Control: {control}")))[1].startswith(told), control
        await running.pass_time(40.0)
        asked = len(app.heads)
        assert (await said(running, get("/", "Cache-Control: max-stale=20")))[1] == "hit; ttl=-10"
        assert (await said(running, get("/", "Cache-Control: only-if-cached")))[0] == 504
        assert len(app.heads) == asked


async def test_many_who_ask_at_once_cost_one_request() -> None:
    async with cached() as (running, app):
        app.gate.clear()
        async with asking(running, 30) as asked:
            await wait_until(lambda: running.gateway.active == 30 and app.heads, within_seconds=5, what="all of them")
            app.gate.set()
        assert bodies(asked) == {b"answer 1"} and len(app.heads) == 1
        assert sum(one.result()[1].startswith("hit") for one in asked) == 29


async def test_nobody_waits_for_what_is_not_kept() -> None:
    async with cached() as (running, app):
        app.fields = "Cache-Control: private\r\n"
        app.gate.clear()
        async with asking(running, 10) as asked:
            await wait_until(lambda: running.gateway.active == 10 and app.heads, within_seconds=5, what="all of them")
            app.gate.set()
        assert len(bodies(asked)) == 10 == len(app.heads)
        app.gate.clear()
        async with asking(running, 5):
            await wait_until(lambda: len(app.heads) == 15, within_seconds=5, what="all of them at once")
            app.gate.set()


async def test_a_client_that_leaves_hands_its_fetch_to_the_next() -> None:
    async with cached() as (running, app):
        app.gate.clear()
        async with contextlib.AsyncExitStack() as leaving:
            _, writer = await leaving.enter_async_context(client(running.port))
            writer.write(get())
            await wait_until(lambda: len(app.heads) == 1, within_seconds=5, what="the first")
            async with asking(running, 5) as asked:
                await wait_until(lambda: running.gateway.active == 6, within_seconds=5, what="the others")
                await leaving.aclose()
                await wait_until(lambda: len(app.heads) == 2, within_seconds=5, what="the next fetch")
                app.gate.set()
        assert bodies(asked) == {b"answer 2"} and len(app.heads) == 2


async def test_waiting_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meridian.gateway.caching.WAIT_SECONDS", 0.1)
    assert WAIT_SECONDS <= 5.0
    async with cached() as (running, app):
        app.gate.clear()
        async with asking(running, 2) as asked:
            await wait_until(lambda: len(app.heads) == 2, within_seconds=5, what="the second, by itself")
            app.gate.set()
        assert bodies(asked) == {b"answer 1", b"answer 2"}


async def test_a_stale_answer_is_used_while_the_next_is_fetched() -> None:
    async with cached(cache={"stale_while_revalidate_seconds": 60}) as (running, app):
        app.fields = 'ETag: "v1"\r\n'
        await said(running, get())
        await running.pass_time(40.0)
        app.gate.clear()
        for _ in range(3):
            assert (await said(running, get()))[1:3] == ("hit; ttl=-10", b"answer 1")
        await wait_until(lambda: len(app.heads) == 2, within_seconds=5, what="the refresh")
        assert b'if-none-match: "v1"' in app.heads[1].lower()
        app.gate.set()
        await wait_until(lambda: running.gateway.active == 0, within_seconds=5, what="its end")
        assert (await said(running, get()))[2] == b"answer 2" and len(app.heads) == 2
        assert len(running.seen.outcomes) == 5, "a refresh is in no log"


async def test_a_stale_answer_stands_in_for_an_upstream_that_fails() -> None:
    async with cached(cache={"stale_if_error_seconds": 60}) as (running, app):
        await said(running, get())
        await running.pass_time(40.0)
        app.code = 503
        code, told, body, _ = await said(running, get())
        assert (code, told, body) == (200, "hit; detail=stale-if-error; ttl=-10", b"answer 1")
        app.down = True
        code, told, body, _ = await said(running, get())
        assert (code, body) == (200, b"answer 1") and "stale-if-error" in told
        await running.pass_time(60.0)
        assert (await said(running, get()))[0] == 502, "but not for ever"


async def test_a_change_by_another_method_ends_what_is_kept() -> None:
    async with cached() as (running, app):
        await said(running, get())
        app.code = 500
        await said(running, get("/", "Content-Length: 0", method="POST"))
        assert (await said(running, get()))[1].startswith("hit"), "it failed, so nothing has changed"
        app.code = 200
        assert "fwd=method" in (await said(running, get("/", "Content-Length: 0", method="POST")))[1]
        assert (await said(running, get()))[2] == b"answer 4"


async def test_what_is_too_large_or_cut_or_has_trailers_is_passed_on_and_not_kept() -> None:
    large = b"x" * 5000
    async with cached(cache={"answer_bytes_max": 4000}) as (running, app):
        for raw, whole in (
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + large, True),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n", True),
        ):  # fmt: skip
            app.answer = lambda head, raw=raw: raw
            code, _, body, _ = await said(running, get(f"/{len(raw)}"))
            assert code == 200 and (body == large or body == b"abc") and whole
        assert len(running.gateway.cache) == 0
        app.answer = None
        await said(running, get("/small"))
        assert len(running.gateway.cache) == 1


async def test_each_client_gets_its_own_fields() -> None:
    limits = [{"name": "many", "key": "client_ip", "rate": "100/s", "burst": 100}]
    edits = {"response_headers": {"set": {"X-For": "${header:x-user}"}}}
    async with cached({"limit": "many"}, edits, limits=limits) as (running, app):
        await running.pass_time(100.0)
        app.fields = "Age: 5\r\n"
        for user in ("ann", "bob"):
            _, told, _, fields = await said(running, get("/", f"X-User: {user}"))
            assert fields["x-for"] == user and "ratelimit" in fields
        head, _ = await ask(running.port, get())
        for name in (b"ratelimit:", b"cache-status:", b"x-for:", b"age:", b"content-length:", b"date:"):
            assert head.count(b"\r\n" + name) == (0 if name == b"x-for:" else 1), name
        assert told == "hit; ttl=24" and fields["age"] in ("5", "6"), "it was five seconds old when it came"


async def test_explain_tells_what_the_cache_would_do() -> None:
    async with cached(cache={"stale_while_revalidate_seconds": 10}) as (running, app):
        app.fields = 'ETag: "v1"\r\n'

        def told(*headers: tuple[bytes, bytes], method: bytes = b"GET") -> tuple[int, str]:
            question = Question(method, False, running.port, b"shop.example.com", b"/", list(headers), "127.0.0.1")
            found = running.gateway.explain(question)
            return found.status, next(one.text for one in found.stages if one.stage == "cache")

        assert told() == (0, "nothing is kept that answers it")
        assert told((b"cache-control", b"only-if-cached"))[0] == 504
        await said(running, get())
        assert told() == (200, "an answer is kept, fresh for 30 s; it is used")
        assert told((b"if-none-match", b'"v1"')) == (304, "an answer is kept, fresh for 30 s; it is used")
        assert told((b"cache-control", b"no-cache"))[0] == 0 and told(method=b"PUT")[1] == "such a request goes past it"
        await running.pass_time(45.0)
        assert told() == (0, "an answer is kept, fresh for -15 s; its upstream is asked")
        assert len(app.heads) == 1, "it asks nobody"


async def test_a_candidate_document_neither_reads_nor_fills_what_is_kept() -> None:
    async with cached() as (running, app):
        await said(running, get())
        running.gateway.begin_trial(replace(running.gateway.snapshot, version=2), 1.0, 1)
        assert (await said(running, get()))[2] == b"answer 2"
        running.gateway.end_trial()
        assert (await said(running, get()))[2] == b"answer 1" and len(app.heads) == 2


async def test_what_is_purged_is_asked_for_again() -> None:
    async with cached() as (running, app):
        purges = Purges(7)
        running.gateway.purge(purges)
        app.fields = "Cache-Tag: red, blue\r\n"
        for path in ("/a", "/a?x", "/b"):
            await said(running, get(path))
        for order, left in ((Purge(0, path="/none"), 3), (Purge(0, path="/a"), 1), (Purge(0, tag="blue"), 0)):
            purges = purges.with_order(order)
            for _ in range(2):  # heard twice, done once
                running.gateway.purge(purges)
            assert len(running.gateway.cache) == left
        assert (await said(running, get("/a")))[1].startswith("fwd=uri-miss")


async def test_what_was_asked_for_before_a_purge_is_not_kept_after_it() -> None:
    async with cached() as (running, app):
        running.gateway.purge(Purges())
        app.gate.clear()
        async with asking(running, 2) as asked:
            await wait_until(lambda: running.gateway.active == 2 and app.heads, within_seconds=5, what="the fetch")
            running.gateway.purge(Purges().with_order(Purge(0)))
            app.gate.set()
        assert bodies(asked) == {b"answer 1", b"answer 2"}, "who waited asks again"


async def test_what_is_kept_is_bounded() -> None:
    async with cached(cache={}, route={}) as (running, _):
        running.gateway.cache.resize(6_000)
        for number in range(20):
            await said(running, get(f"/{number}"))
        assert 0 < len(running.gateway.cache) < 6 and running.gateway.cache.bytes <= 6_000
        assert (await said(running, get("/19")))[1].startswith("hit")


async def test_what_is_said_to_those_without_tls_is_not_said_to_those_with_it() -> None:
    app = Origin()
    app.answer = lambda head: (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        if b"x-forwarded-proto: https" in head
        else b"HTTP/1.1 301 Elsewhere\r\nLocation: https://shop.example.com/\r\nContent-Length: 0\r\n\r\n"
    )
    route = {"name": "all", "upstream": "app", "stages": [{"cache": {"ttl_seconds": 30}}]}
    async with origin(app) as port, secure(make=lambda own: document(own, [upstream(port)], [route])) as (running, ca):
        plain = socket.create_server(("127.0.0.1", 0))
        web = replace(running.gateway.snapshot.listeners[0], name="plain", protocols=("h1",), tls=False)
        await running.gateway.attach(web, [plain])
        context = ssl.create_default_context(cafile=ca)
        for _ in range(2):
            assert status((await ask(plain.getsockname()[1], get()))[0]) == 301
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port, ssl=context)
            writer.write(get())
            head, body = await asyncio.wait_for(read_message(reader), 10)
            writer.transport.abort()
            assert (status(head), body) == (200, b"ok")
        assert len(app.heads) == 2


async def test_a_fetch_that_fails_inside_keeps_nobody_waiting() -> None:
    app, chances = Origin(), iter([0.0])
    route = {"name": "all", "upstream": "app", "stages": [{"cache": {"ttl_seconds": 30}}]}
    async with (
        origin(app) as port,
        origin(app) as other,
        serving(lambda own: document(own, [upstream(port, other, balance="random")], [route])) as running,
    ):
        worker = running.gateway._worker
        draw, worker.draw = worker.draw, lambda: next(chances) / 0  # a fault of ours, in the middle of a beginning
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await ask(running.port, get())
        assert not app.heads
        worker.draw = draw
        async with asyncio.timeout(WAIT_SECONDS / 2):
            head, _ = await ask(running.port, get())
        assert status(head) == 200
