"""What an operator may say of limits, and what is said to one who is wrong."""

from typing import Any

import pytest
from pydantic import ValidationError

from meridian.core.authentication import Authenticator, hash_of
from meridian.core.document import DocumentError, load
from meridian.core.limit_words import parse_quota, parse_window
from meridian.core.rates import parse_rate
from meridian.core.snapshot import compile_snapshot

HEAD = """
listeners: [{name: web, bind: "0.0.0.0:80", protocols: [h1]}]
upstreams: [{name: app, endpoints: [{address: "10.0.0.1:80"}]}]
"""


def with_limit(words: str) -> str:
    return f"{HEAD}limits:\n  - {{name: few, {words}}}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("rate: 100, burst: 1", "'100' is not a rate; write for example 100/s"),
        ("rate: 0/s, burst: 1", "'0/s' is not a rate"),
        ("rate: 1/s, burst: 0", "greater than or equal to 1"),
        ("rate: 1/s", "rate and burst need each other"),
        ("window: 10/1h, burst: 5", "rate and burst need each other"),
        ("burst: 5", "exactly one of: rate, window, quota, concurrent (this one has none)"),
        ("window: 10/1h, concurrent: 5", "this one has window, concurrent"),
        ("window: 10/0s", "'10/0s' is not a window; write for example 1000/1h"),
        ("window: 10/h", "is not a window"),
        ("window: 10/2h", "at most 1h long; for more use quota: 10/day"),
        ("window: 99999999/1h", "at most 10,000,000 requests can be counted"),
        ("quota: 10/week", "'10/week' is not a quota; write for example 10000/day or 200000/month"),
        ("quota: 10/day, time_zone: Mars/Olympus", "'Mars/Olympus' is no time zone here"),
        ("window: 10/1h, time_zone: Europe/Berlin", "time_zone means nothing without quota"),
        ("concurrent: 1, key: user", "'user' is no key; known here: client_ip, consumer, route, host, header:NAME"),
        ('concurrent: 1, key: "header:"', "is no key"),
        ('concurrent: 1, key: "header:x y"', "is no key"),
        ("concurrent: 1, key: [route, route]", "key names a part twice"),
        ("concurrent: 1, key: []", "key has 0 parts"),
        ("concurrent: 1, key: {a: b}", "key is one of the known words or a list of them"),
        ("concurrent: 1, status: 200", "greater than or equal to 400"),
        ("concurent: 1", "did you mean 'concurrent'?"),
    ],
)
def test_a_wrong_word_is_named_with_its_remedy(words: str, message: str) -> None:
    with pytest.raises(DocumentError) as found:
        load(with_limit(words))
    assert message in str(found.value) and "line 5" in str(found.value)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("rate: 600/m, burst: 7", {"kind": "rate", "rate_per_second": 10.0, "burst": 7, "key": ("client_ip",)}),
        ("window: 300/5m, key: [consumer, route]", {"kind": "window", "amount": 300, "window_seconds": 300.0}),
        ('quota: 5/month, time_zone: Europe/Berlin, key: "header:X-A"', {"period": "month", "key": ("header:x-a",)}),
        ("concurrent: 3, dry_run: true, status: 503", {"kind": "concurrent", "amount": 3, "status": 503}),
    ],
)
def test_limits_are_compiled(words: str, expected: dict[str, Any]) -> None:
    limit = compile_snapshot(load(with_limit(words)), {}, 1).limits["few"]
    assert {name: getattr(limit, name) for name in expected} == expected


def test_amounts() -> None:
    assert parse_rate("1000/h") == 1000 / 3600
    assert parse_window("20/10s") == (20, 10.0)
    assert parse_quota("10000/day") == (10_000, "day")


SECRET = "not-to-be-repeated-anywhere"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("consumers: [{name: a, secrets: [HASH]}]", "says not where the secret stands"),
        (f"basic: true, consumers: [{{name: a, secrets: [{SECRET}]}}]", "`meridian secret` makes a secret"),
        ("basic: true, consumers: []", "at least 1 item"),
        ("basic: true, consumers: [{name: a, secrets: [HASH]}, {name: a, secrets: [OTHER]}]", "'a' is there twice"),
        ("basic: true, consumers: [{name: a, secrets: [HASH]}, {name: b, secrets: [HASH]}]", "share a secret"),
        ("header: Cookie, consumers: [{name: a, secrets: [HASH]}]", "'cookie' has a meaning of its own"),
        ('header: "a b", consumers: [{name: a, secrets: [HASH]}]', "is not the name of a field"),
    ],
)
def test_a_wrong_authenticator_is_named_and_no_secret_repeated(words: str, message: str) -> None:
    words = words.replace("HASH", hash_of(b"1")).replace("OTHER", hash_of(b"2"))
    with pytest.raises(DocumentError) as found:
        load(f"{HEAD}authenticators:\n  - {{name: partners, {words}}}\n")
    assert message in str(found.value) and SECRET not in str(found.value)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ("[{limit: per-consumer}]", "its key is the consumer: put a stage authenticate before it"),
        ("[{limit: per-consumer}, {authenticate: partners}]", "put a stage authenticate before it"),
        ("[{authenticate: parters}]", "there is no authenticator 'parters' (known: partners)"),
        ("[{authenticate: partners}, {authenticate: partners}]", "has said already who asks"),
        ("[{authenticate: partners, limit: per-consumer}]", "exactly one of: authenticate, limit, cache"),
        ("[{authenticate: partners}, {limit: per-consumer}]", ""),
    ],
)
def test_stages_stand_in_an_order_that_means_something(stages: str, message: str) -> None:
    text = f"""{HEAD}
authenticators: [{{name: partners, basic: true, consumers: [{{name: a, secrets: ["{hash_of(b"1")}"]}}]}}]
limits: [{{name: per-consumer, key: [consumer, route], concurrent: 1}}]
routes: [{{name: all, upstream: app, stages: {stages}}}]
"""
    if not message:
        assert compile_snapshot(load(text), {}, 1).table.routes[0].limits_before == 0
        return
    with pytest.raises(DocumentError) as found:
        load(text)
    assert message in str(found.value)


def test_a_field_or_a_hash_with_a_line_end_is_neither() -> None:
    consumers = [{"name": "ann", "secrets": [hash_of(b"a")]}]
    Authenticator.model_validate({"name": "keys", "header": "x-api-key", "consumers": consumers})
    with pytest.raises(ValidationError, match="is not the name of a field"):
        Authenticator.model_validate({"name": "keys", "header": "x-api-key\n", "consumers": consumers})
    twice = [{"name": "ann", "secrets": [hash_of(b"a"), hash_of(b"a") + "\n"]}]
    with pytest.raises(ValidationError, match="is no hash of a secret"):
        Authenticator.model_validate({"name": "keys", "header": "x-api-key", "consumers": twice})
