"""What a worker tells of a request is what becomes of it when it is sent, and telling spends nothing."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.gateway.harness import Running, ask, document, get, named, origin, serving, status, upstream

from meridian.gateway.explaining import Explanation, Question

SECRET = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"  # of "secret"
ROUTES: list[dict[str, Any]] = [
    {"name": "shop", "match": {"host": "shop.example.com"}, "upstream": "app", "stages": [{"limit": "few"}]},
    {"name": "canary", "match": {"host": "shop.example.com", "headers": [{"name": "x-canary", "exact": "yes"}]},
     "upstream": "next"},
    {"name": "orders", "match": {"path_regex": "/orders/[0-9]+", "methods": ["GET", "PUT"]}, "upstream": "next"},
    {"name": "office", "match": {"path_prefix": "/admin", "clients": ["10.0.0.0/8"]}, "upstream": "app"},
    {"name": "old", "match": {"path_prefix": "/old"}, "redirect_to": "https://new.example${target}"},
    {"name": "split", "match": {"path_prefix": "/split"}, "split_on": "header:X-User",
     "split": [{"upstream": "app", "weight": 1}, {"upstream": "next", "weight": 1}],
     "canary": {"upstream": "next", "header": "x-try"},
     "stages": [{"rewrite": {"path_prefix": "/new"}}, {"request_headers": {"set": {"x-a": "${client}"}}},
                {"mirror": {"upstream": "next", "percent": 0}}, {"fault": {"delay": {"seconds": 1, "percent": 0}}}]},
    {"name": "keyed", "match": {"path_prefix": "/keyed"}, "upstream": "next",
     "stages": [{"authenticate": "keys"}, {"limit": "few"}]},
]  # fmt: skip


@contextlib.asynccontextmanager
async def shop(balance: str = "round_robin") -> AsyncIterator[Running]:
    async with origin(named(b"one")) as one, origin(named(b"two")) as two, origin(named(b"next")) as other:
        app = upstream(one, two, balance=balance)
        limits = [{"name": "few", "key": "client_ip", "rate": "1/h", "burst": 2}]
        keys = [
            {"name": "keys", "header": "x-api-key", "consumers": [{"name": "ann", "secrets": [f"sha256:{SECRET}"]}]}
        ]
        trusting = {"trusted_proxies": ["127.0.0.0/8"]}
        async with serving(
            lambda port: document(
                port, [app, upstream(other, name="next")], ROUTES, limits=limits, authenticators=keys, listener=trusting
            )
        ) as running:
            await running.pass_time(10_000.0)  # limits begin empty
            yield running


def told(running: Running, path: str, *fields: str, method: str = "GET", host: str = "shop.example.com") -> Explanation:
    headers = [
        (name.lower().encode(), value.strip().encode()) for name, _, value in (one.partition(":") for one in fields)
    ]
    question = Question(method.encode(), False, running.port, host.encode(), path.encode(), headers, "127.0.0.1")
    return running.gateway.explain(question)


CASES = [
    ("/", (), "GET"), ("/x", ("X-Canary: yes",), "POST"), ("/orders/7", (), "GET"), ("/orders/7", (), "DELETE"),
    ("/a/../orders/9", (), "PUT"), ("/%00", (), "GET"), ("/admin/x", ("X-Forwarded-For: 10.1.2.3",), "GET"),
    ("/old/x?y", (), "GET"), *(("/split/x", (f"X-User: {user}",), "GET") for user in "abcdef"),
    ("/split", ("X-Try: always",), "GET"), ("/keyed", (), "GET"), ("/keyed", ("x-api-key: secret",), "GET"),
    ("/keyed", ("x-api-key: other",), "GET"),
]  # fmt: skip


@pytest.mark.parametrize("host", ["shop.example.com", "other.example.com"])
@pytest.mark.parametrize(("path", "fields", "method"), CASES)
async def test_what_is_told_is_what_happens(path: str, fields: tuple[str, ...], method: str, host: str) -> None:
    async with shop() as running:
        found = told(running, path, *fields, method=method, host=host)
        request = get(path, *fields, method=method).replace(b"shop.example.com", host.encode())
        head, _ = await ask(running.port, request)
        (outcome,) = running.seen.outcomes
        own = outcome.status if outcome.why or outcome.status == 308 else 0
        assert (own, outcome.why) == (found.status, found.why)
        assert [one.route for one in found.routes if one.takes] == ([outcome.route] if outcome.route else [])
        assert len(found.routes) == len(ROUTES) or found.why == "bad_target"
        if own == 308:
            assert found.steps[-1].text == "308, to https://new.example/old/x?y"
            assert b"location: https://new.example/old/x?y\r\n" in head
        elif not outcome.why:
            assert status(head) == 200 and found.upstream == outcome.upstream
            assert [one.address for one in found.endpoints if one.next] == [outcome.endpoint]
            assert found.steps[0].text.startswith(outcome.client)


async def test_telling_spends_no_token_and_takes_no_turn() -> None:
    async with shop() as running:
        before = [told(running, "/") for _ in range(5)]
        assert len(set(map(str, before))) == 1 and before[0].status == 0
        bodies = [(await ask(running.port, get("/")))[1] for _ in range(2)]
        assert sorted(bodies) == [b"one", b"two"], "both tokens and both turns were there"
        found = told(running, "/")
        assert (found.status, found.why) == (429, "limited")
        assert [(one.stage, one.refuses) for one in found.stages] == [("limit few", True)]
        assert "admitted again in" in found.stages[0].text
        assert status((await ask(running.port, get("/")))[0]) == 429


async def test_why_the_others_do_not_take_it() -> None:
    async with shop() as running:
        found = told(running, "/admin", "X-Canary: no", host="other.example.com")
        why = {one.route: one.why for one in found.routes}
        assert why == {
            "office": "it wants the client to be of 10.0.0.0/8", "shop": "its host is another",
            "canary": "its host is another", "orders": "its path is another", "keyed": "its path is another",
            "old": "its path is another", "split": "its path is another",
        }  # fmt: skip
        assert found.status == 404 and found.steps[-1].text == "404 (no_route), by the gateway itself"
        found = told(running, "/orders/1", method="POST", host="other.example.com")
        assert found.status == 405 and "it takes only GET, PUT" in {one.why for one in found.routes}


async def test_endpoints_are_told_as_balancing_sees_them() -> None:
    async with shop("least_request") as running:
        up = told(running, "/")
        assert [(one.state, one.tier, one.share, one.next) for one in up.endpoints] == [("up", 1, 0.5, False)] * 2
        assert "of two drawn by weight" in up.steps[-2].text
        first = up.endpoints[0].address
        running.gateway.set_endpoint_health({"app": frozenset({first})})
        running.gateway.set_verdict(9, frozenset(), fallback=2)
        down = told(running, "/")
        assert [(one.state, one.tier, one.share, one.next) for one in down.endpoints] == [
            ("down: probes find it so", 2, 0.0, False), ("up", 1, 1.0, True),
        ]  # fmt: skip
        assert (down.verdict_version, down.verdict_fallback, down.config_version) == (9, 2, 1)


async def test_what_a_route_changes_is_told() -> None:
    async with shop() as running:
        found = told(running, "/split/x?y", "X-User: a", host="other.example.com")
        texts = [step.text for step in found.steps if step.topic == "rewrite"]
        assert texts == ["the upstream is asked for /new/x?y of host other.example.com", "changed are the fields x-a"]
        assert [one.stage for one in found.stages] == ["fault", "mirror next"]
        assert any("'app' 50.0%, 'next' 50.0%, by header:x-user" in step.text for step in found.steps)
        found = told(running, "/split", host="other.example.com")
        assert any("by chance; told of 'app'" in step.text for step in found.steps)
        found = told(running, "/split", "x-try: always", host="other.example.com")
        assert any("because it says always" in step.text for step in found.steps) and found.upstream == "next"


async def test_a_secret_is_never_told() -> None:
    async with shop() as running:
        for value in ("secret", "wrong-secret"):
            found = told(running, "/keyed", f"x-api-key: {value}", host="other.example.com")
            assert value not in str(found)
        assert "the consumer is 'ann'" in str(told(running, "/keyed", "x-api-key: secret", host="o.example.com"))
