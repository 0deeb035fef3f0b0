"""What workers get of a document."""

import re

import pytest
from tests.support import ROOT

from meridian.core.adaptive import Adaptive
from meridian.core.document import load
from meridian.core.hedging import Hedge
from meridian.core.model import Document
from meridian.core.retrying import Cause, Policy
from meridian.core.routing import Route, route
from meridian.core.shedding import Bounds, Priority
from meridian.core.snapshot import Certificate, SnapshotError, compile_snapshot

DOCUMENT = """\
listeners:
  - {name: web, bind: "[::]:80", protocols: [h1]}
  - {name: secure, bind: "0.0.0.0:443", protocols: [h1, h2]}
  - {name: plain-tls, bind: "0.0.0.0:444", protocols: [h1], tls: true}
certificates: [{hosts: [a.example], cert_file: a.pem, key_file: a.key}]
regions: [{name: eu}]
upstreams: [{name: a, endpoints: [{address: "[2001:db8::1]:80", region: eu, weight: 3}]}]
limits: [{name: slow, rate: 120/m, burst: 5}]
routes:
  - {name: one, match: {host: Shop.Example.com, path_prefix: /x, methods: [GET]}, upstream: a, stages: [{limit: slow}]}
tracing: {sample_ratio: 0.25}
"""
FILES = {"a.pem": b"chain", "a.key": b"key"}


def test_words_become_what_workers_use() -> None:
    snapshot = compile_snapshot(load(DOCUMENT), FILES, version=7)
    assert snapshot.version == 7
    assert [(one.host, one.port, one.tls) for one in snapshot.listeners] == [
        ("::", 80, False), ("0.0.0.0", 443, True), ("0.0.0.0", 444, True),
    ]  # fmt: skip
    (endpoint,) = snapshot.upstreams["a"].endpoints
    assert (endpoint.host, endpoint.port, endpoint.region, endpoint.weight) == ("2001:db8::1", 80, "eu", 3)
    assert snapshot.limits["slow"].rate_per_second == 2.0
    (certificate,) = snapshot.certificates
    assert isinstance(certificate, Certificate) and certificate.key_pem == b"key"
    assert snapshot.trace_ratio == 0.25


def test_a_route_to_dns_leads_to_the_node_s_own_socket() -> None:
    document = load(DOCUMENT.replace("upstream: a", "dns: {}"))
    snapshot = compile_snapshot(document, FILES, version=1, dns_socket="/run/dns.sock")
    found = route(snapshot.table, b"GET", b"shop.example.com", b"/x")
    assert isinstance(found, Route) and found.dns
    (endpoint,) = snapshot.upstream_of(found).endpoints
    assert endpoint.host == "unix:/run/dns.sock"
    assert set(compile_snapshot(load(DOCUMENT), FILES, version=1).upstreams) == {"a"}, "only where a route wants it"


def test_hosts_match_in_any_case_and_lead_to_the_upstream() -> None:
    snapshot = compile_snapshot(load(DOCUMENT), FILES, version=1)
    found = route(snapshot.table, b"GET", b"shop.example.com:443", b"/x/y?z")
    assert isinstance(found, Route)
    assert snapshot.upstream_of(found).name == "a"
    assert found.limits == ("slow",)


def test_a_document_survives_its_way_to_the_workers() -> None:
    document = load(DOCUMENT)
    assert Document.model_validate_json(document.model_dump_json()) == document


def test_a_worker_trusts_nobody_s_validation_but_its_own() -> None:
    with pytest.raises(SnapshotError, match=r"a\.pem did not come"):
        compile_snapshot(load(DOCUMENT), {}, version=1)
    broken = load(DOCUMENT).model_copy(update={"upstreams": ()})
    with pytest.raises(SnapshotError, match="there is no upstream 'a'"):
        compile_snapshot(broken, FILES, version=1)


RETRIES = [
    ("", Policy()),
    ("retries: 4", Policy(tries=5)),
    ("retry: {tries: 2}", Policy(tries=2)),
    ("retry: {on: [connect]}", Policy(causes=frozenset((Cause.CONNECT,)))),
    ("retry: {on: [429, 503]}", Policy(causes=frozenset((Cause.STATUS,)), statuses=frozenset((429, 503)))),
    (
        "retry: {per_try_timeout_seconds: 1}",
        Policy(causes=Policy().causes | {Cause.TIMEOUT}, per_try_seconds=1.0),
    ),
    (
        "retry: {methods: [POST], backoff: {max_seconds: 2}}",
        Policy(methods=frozenset((b"POST",)), backoff_seconds_max=2.0),
    ),
]


@pytest.mark.parametrize(("words", "policy"), RETRIES, ids=[words for words, _ in RETRIES])
def test_words_of_retries_become_a_policy_also_on_the_way_to_the_workers(words: str, policy: Policy) -> None:
    document = load(DOCUMENT.replace("weight: 3}]}", f"weight: 3}}], {words}}}"))
    for told in (document, Document.model_validate_json(document.model_dump_json())):
        assert compile_snapshot(told, FILES, version=1).upstreams["a"].retry == policy


def test_words_of_too_much_become_bounds_and_nothing_is_bounded_without_them() -> None:
    plain = compile_snapshot(load(DOCUMENT), FILES, version=1)
    assert plain.overload is None and plain.upstreams["a"].adaptive is None and plain.upstreams["a"].hedge is None
    assert {route.priority for route in plain.table.routes} == {Priority.NORMAL}
    words = DOCUMENT.replace("weight: 3}]}", "weight: 3}], adaptive_concurrency: {min: 2}, hedge: {}}")
    words = words.replace("upstream: a, stages", "priority: high, upstream: a, stages")
    words += "overload: {loop_lag_seconds_max: 0.1}\n"
    made = compile_snapshot(load(words), FILES, version=1)
    assert made.overload == Bounds(lag_seconds_max=0.1)
    assert made.upstreams["a"].adaptive == Adaptive(least=2)
    assert made.upstreams["a"].hedge == Hedge(0.95, 0.005)
    assert {route.priority for route in made.table.routes} == {Priority.HIGH}


@pytest.mark.parametrize(
    "block", re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/resilience.md").read_text(), re.DOTALL)
)
def test_what_the_page_on_resilience_shows_runs(block: str) -> None:
    assert compile_snapshot(load(f"listeners: [{{name: web, bind: '[::]:80', protocols: [h1]}}]\n{block}"), {}, 1).table
