"""What a route does to its requests, decided without a request."""

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meridian.core.document import DocumentError, load
from meridian.core.route_words import Route
from meridian.core.templates import Facts
from meridian.core.traffic import Targets, Traffic, UnfitError, make_traffic

FACTS = Facts("192.0.2.1", b"http", b"shop.example.com", b"GET", b"/", b"id", "r", "", [(b"x-host", b"a b")])


def made(*stages: dict[str, Any], **more: Any) -> Traffic:
    target = {} if {"split", "redirect_to"} & more.keys() else {"upstream": "app"}
    return make_traffic(Route.model_validate({"name": "r", "stages": stages, **target, **more}))


@pytest.mark.parametrize(
    ("words", "prefix", "target", "sent"),
    [
        ({"path_prefix": "/v2"}, "/api", b"/api/x?y=1", b"/v2/x?y=1"), ({"path_prefix": "/"}, "/api", b"/api", b"/"),
        ({"path_prefix": "/"}, "/api/", b"/api/x", b"/x"), ({"path_prefix": "/v2/"}, "/", b"/x", b"/v2/x"),
        ({"path_prefix": "/v2"}, "/api", b"/api", b"/v2"), ({"path": "/one"}, "/", b"/a/b?c", b"/one?c"),
        ({"path": "/u/${client}${path}"}, "/", b"/a", b"/u/192.0.2.1/"),
        ({"pattern": "/u/([0-9]+)/(.*)", "replace": r"/\2/\1"}, "/", b"/u/7/a/b?c", b"/a/b/7?c"),
        ({"pattern": "/u/([0-9]+)", "replace": r"/\1"}, "/", b"/other", b"/other"),
        ({"pattern": "/(a)?b", "replace": r"/x\1"}, "/", b"/b", b"/x"),
    ],
)  # fmt: skip
def test_paths(words: dict[str, Any], prefix: str, target: bytes, sent: bytes) -> None:
    changes = made({"rewrite": words}, match={"path_prefix": prefix}).request
    assert changes is not None and changes.rewriting is not None
    assert changes.rewriting.target(target, FACTS) == sent


def test_hosts() -> None:
    for text, sent in (("backend.internal:8080", b"backend.internal:8080"), ("${host}", b"shop.example.com")):
        changes = made({"rewrite": {"host": text}}).request
        assert changes is not None and changes.rewriting is not None
        assert changes.rewriting.authority(b"x", FACTS) == sent
    changes = made({"rewrite": {"host": "${header:x-host}"}}).request
    assert changes is not None and changes.rewriting is not None
    with pytest.raises(UnfitError):
        changes.rewriting.authority(b"x", FACTS)


def test_fields_are_removed_then_set_then_added() -> None:
    edits = made({"response_headers": {
        "remove": ["Server"], "set": {"X-Set": "new", "X-Empty": "${header:none}"},
        "add": {"X-Set": "more", "Via": "m"},
    }}).response  # fmt: skip
    assert edits is not None
    before = [(b"server", b"nginx"), (b"x-set", b"old"), (b"x-empty", b"old"), (b"via", b"n"), (b"kept", b"1")]
    after = edits.apply(before, FACTS)
    assert after == [(b"via", b"n"), (b"kept", b"1"), (b"x-set", b"new"), (b"x-set", b"more"), (b"via", b"m")]
    assert len(before) == 5, "what came is left as it came"


@given(st.lists(st.integers(0, 50), min_size=1, max_size=5).filter(any), st.integers(0, 1000))
def test_weights_are_kept_to(weights: list[int], seed: int) -> None:
    targets = made(split=[{"upstream": f"u{n}", "weight": weight} for n, weight in enumerate(weights)]).targets
    assert targets is not None
    draw = random.Random(seed).random
    count = 2_000
    seen = Counter(targets.choose([], None, draw) for _ in range(count))
    for number, weight in enumerate(weights):
        share = weight / sum(weights)
        assert abs(seen[f"u{number}"] / count - share) <= 6 * (share * (1 - share) / count) ** 0.5
        assert weight or f"u{number}" not in seen
    assert targets.choose([], 0.25, draw) == targets.choose([], 0.25, draw), "a key decides without chance"


def test_a_canary_takes_those_who_say_so_and_a_share_of_the_others() -> None:
    targets = made(canary={"upstream": "new", "percent": 10, "header": "X-Canary", "cookie": "canary"}).targets
    assert targets is not None
    always, never, cookie = (b"x-canary", b"always"), (b"x-canary", b"never"), (b"cookie", b"canary=always")
    assert [takes(targets, [one], 0.5) for one in (always, never, cookie)] == ["new", "app", "new"]
    assert [takes(targets, [one], 0.05) for one in (always, never, cookie)] == ["new", "app", "new"]
    assert takes(targets, [never, cookie], 0.0) == "app", "the header comes first"
    assert (takes(targets, [], 0.05), takes(targets, [], 0.5)) == ("new", "app")
    assert takes(targets, [(b"x-canary", b"maybe")], 0.05) == "new"


def takes(targets: Targets, headers: list[tuple[bytes, bytes]], drawn: float) -> str:
    return targets.choose(headers, None, lambda: drawn)


@pytest.mark.parametrize(
    ("route", "why"),
    [
        ("upstream: app, redirect_to: /x", "exactly one of: upstream, split, redirect_to"),
        ("match: {}", "exactly one of: upstream, split, redirect_to"),
        ("split: [{upstream: app, weight: 0}]", "all weights are 0"),
        ("upstream: app, split_on: client_ip", "is of split"),
        ("split: [{upstream: none, weight: 1}]", "split[0].upstream: there is no upstream 'none'"),
        ("upstream: app, canary: {upstream: none}", "canary.upstream: there is no upstream 'none'"),
        ("upstream: app, stages: [{mirror: {upstream: none}}]", "mirror.upstream: there is no upstream 'none'"),
        ("redirect_to: '${nobody}'", "there is no variable ${nobody}"), ("redirect_to: /, redirect_status: 200", "301"),
        ("upstream: app, stages: [{rewrite: {}}]", "rewrites nothing"),
        ("upstream: app, stages: [{rewrite: {path: /a, path_prefix: /b}}]", "exclude each other"),
        ("upstream: app, stages: [{rewrite: {path_prefix: /b}}]", "which this route has not"),
        ("upstream: app, stages: [{rewrite: {pattern: /a}}]", "give both"),
        (r"upstream: app, stages: [{rewrite: {pattern: /(a), replace: '/\2'}}]", "it has 1"),
        ("upstream: app, stages: [{rewrite: {path: /a}}, {rewrite: {host: b}}]", "two stages say rewrite"),
        ("upstream: app, stages: [{request_headers: {set: {Content-Length: '1'}}}]", "not a route's to change"),
        ("upstream: app, stages: [{request_headers: {set: {Host: x}}}]", "say rewrite: {host: ...}"),
        ("upstream: app, stages: [{request_headers: {remove: [X-Forwarded-For]}}]", "by the gateway alone"),
        ("upstream: app, stages: [{response_headers: {add: {Transfer-Encoding: x}}}]", "not a route's to change"),
        ("upstream: app, stages: [{fault: {}}]", "gives no fault"),
        ("upstream: app, stages: [{fault: {abort: {status: 500, reset: true}}}]", "give a status, or reset"),
        ("upstream: app, stages: [{limit: a, rewrite: {path: /}}]", "a stage is exactly one of: authenticate, limit"),
    ],
)  # fmt: skip
def test_what_a_route_cannot_be_is_refused(route: str, why: str) -> None:
    text = f"""\
listeners: [{{name: web, bind: "0.0.0.0:80", protocols: [h1]}}]
upstreams: [{{name: app, endpoints: [{{address: "10.0.0.1:80"}}]}}]
routes:
  - {{name: one, {route}}}
"""
    with pytest.raises(DocumentError) as caught:
        load(text)
    assert why in str(caught.value) and "line 4" in str(caught.value)


@pytest.mark.parametrize(
    ("listener", "why"),
    [
        ("https_redirect: true", "there is no listener with TLS"), ("hsts: {}", "hsts is of a listener with TLS"),
        ("tls: true, https_redirect: true", "is of a listener without TLS"),
    ],
)  # fmt: skip
def test_what_a_listener_cannot_be_is_refused(listener: str, why: str) -> None:
    with pytest.raises(DocumentError, match=why):
        load(f'listeners: [{{name: web, bind: "0.0.0.0:80", protocols: [h1], {listener}}}]')
