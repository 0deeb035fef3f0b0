"""Reading the operator's document: what is refused, where it says so, and what it tells the operator to write."""

import re

import pytest

from meridian.core.document import DocumentError, load, schema, warnings

GOOD = """\
listeners:
  - {name: web,    bind: "0.0.0.0:80",  protocols: [h1]}
  - {name: secure, bind: "0.0.0.0:443", protocols: [h1, h2, h3]}
certificates:
  - {hosts: [shop.example.com], cert_file: tls/shop.pem, key_file: tls/shop.key}
regions:
  - {name: eu-west, addresses: [192.0.2.10], near: [continent/EU, country/TR]}
  - {name: us-east, addresses: [198.51.100.10], near: [continent/NA], fallback: [eu-west]}
upstreams:
  - name: products
    balance: least_request
    endpoints:
      - {address: "10.1.0.11:8000", region: eu-west, weight: 2}
      - {address: "10.2.0.11:8000", region: us-east}
    health: {path: /healthz, interval_seconds: 1, timeout_seconds: 0.5, rise: 2, fall: 3}
limits:
  - {name: per-client, key: client_ip, rate: 100/s, burst: 200}
routes:
  - name: products
    match: {host: shop.example.com, path_prefix: /api/products, methods: [GET, HEAD]}
    upstream: products
    stages:
      - {limit: per-client}
      - {cache: {ttl_seconds: 30}}
zones:
  - name: gw.example.com
    nameservers: [ns1.gw.example.com, ns2.gw.example.com]
    records:
      - {name: shop, type: A, steer: {policy: geo, regions: [eu-west, us-east]}, ttl_seconds: 30}
      - {name: www, type: CNAME, value: shop.gw.example.com.}
"""


def test_the_architecture_page_s_document_is_read() -> None:
    document = load(GOOD)
    assert [route.name for route in document.routes] == ["products"]
    assert not warnings(GOOD, document)


STEER = "steer: {policy: geo, regions: [eu-west, us-east]}"
DEEP = "regions: [b], groups: {b: {regions: [c], groups: {c: {regions: [d], groups: {d: {regions: [us-east]}}}}}}"
BAD_GROUPS = [
    ("regions: [west], groups: {west: {regions: [mars]}}", "there is no region 'mars'"),
    ("regions: [eu-west], groups: {west: {regions: [us-east]}}", "'west' is not among the regions"),
    ("regions: [eu-west, west], groups: {west: {regions: [eu-west]}}", "'eu-west' stands in two places"),
    ("regions: [eu-west], groups: {eu-west: {regions: [us-east]}}", "'eu-west' is a region"),
    ("policy: multivalue, regions: [w], groups: {w: {regions: [us-east]}}", "name their regions"),
    (f"regions: [a], groups: {{a: {{{DEEP}}}}}", "more than 3 deep"),
]
BAD = [
    ("upstream: products\n", "upstreem: products\n", 21, "did you mean 'upstream'?"),
    ('"0.0.0.0:80"', '"0.0.0.0"', 2, "is not host:port"),
    ('"0.0.0.0:80"', '"localhost:80"', 2, "does not appear to be an IPv4 or IPv6 address"),
    ("weight: 2", "weight: 2000", 13, "less than or equal to 1000"),
    ("balance: least_request", "balance: fastest", 11, "'maglev' or 'ip_hash'"),
    ("balance: least_request", "hash_on: path", 10, "balance: round_robin does not use it"),
    ("balance: least_request", "hash_on: 'query:x'", 11, "should match pattern"),
    ("balance: least_request", "sticky: {same_site: none}", 11, "unless it is secure: true"),
    ("limit: per-client}", "limit: per-klient}", 23, "there is no limit 'per-klient' (known: per-client)"),
    ("fallback: [eu-west]", "fallback: [eu-north]", 8, "there is no region 'eu-north'"),
    ("balance: least_request", "response_timeout_seconds: 0.000001", 11, "greater than or equal to 0.1"),
    ("balance: least_request", "retries: 2\n    retry: {}", 10, "write retry.tries: 3, no retries"),
    ("balance: least_request", "retry: {on: [connect, 200]}", 11, "greater than or equal to 400"),
    ("balance: least_request", "retry: {tries: 0}", 11, "greater than or equal to 1"),
    ("balance: least_request", "retry: {backoff: {base_seconds: 1}}", 11, "raise max_seconds"),
    ("balance: least_request", "adaptive_concurrency: {min: 60}", 11, "min is at most initial"),
    ("balance: least_request", "hedge: {after_percentile: 100}", 11, "less than 100"),
    ("routes:", "overload: {requests: 5}\nroutes:", 18, "did you mean 'requests_max'?"),
    ("rate: 100/s", "rate: fast", 17, "write for example 100/s"),
    ("name: us-east, addr", "name: eu-west, addr", 8, "'eu-west' is used twice"),
    (
        "upstream: products\n",
        "upstream: products\n    dns: {}\n",
        19,
        "exactly one of: upstream, split, redirect_to, files, dns",
    ),
    ("upstream: products\n", "retry: {}\n", 19, "exactly one of: upstream, split, redirect_to, files, dns"),
    ("upstream: products\n", "files: {root: /srv}\n    retry: {}\n", 19, "retry is of a route with an upstream"),
    ("upstream: products\n", "files: {root: srv}\n", 21, "absolute path"),
    ("path_prefix: /api/products", "path_prefix: /a, path: /b", 20, "exclude each other"),
    ("value: shop.gw.example.com.}", "value: x, steer: {regions: [eu-west]}}", 30, "exactly one of: value, steer"),
    ("country/TR", "country/Turkey", 7, "neither continent/EU, country/TR nor a network"),
    ("protocols: [h1]", "protocols: [h4]", 2, "'h1', 'h2', 'h3', 'tcp' or 'udp'"),
    ("  - {limit: per-client}", "  - {limit: per-client, cache: {ttl_seconds: 3}}", 23, "exactly one of"),
    ("routes:", "routes: [", 19, "not YAML"),
    ("zones:", "limits: []\nzones:", 25, "written twice"),
    *((STEER, f"steer: {{{words}}}", 29, message) for words, message in BAD_GROUPS),
]


@pytest.mark.parametrize(("old", "new", "line", "message"), BAD, ids=[new.strip() for _, new, _, _ in BAD])
def test_a_mistake_is_reported_with_its_line_and_its_remedy(old: str, new: str, line: int, message: str) -> None:
    assert old in GOOD
    with pytest.raises(DocumentError) as caught:
        load(GOOD.replace(old, new, 1))
    assert any(problem.line == line and message in problem.message for problem in caught.value.problems), caught.value


@pytest.mark.parametrize(
    "text", ["", "[]", "- a", "3", "a: *b", "\x00", "{", "listeners: !!python/object:os.system {}"]
)
def test_text_that_is_no_document_is_a_problem_and_never_another_exception(text: str) -> None:
    with pytest.raises(DocumentError) as caught:
        load(text)
    assert str(caught.value)


def test_aliases_that_unfold_without_end_are_refused_quickly() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for i in range(1, 12):
        bomb += f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n"
    with pytest.raises(DocumentError, match="aliases unfold"):
        load(bomb)


def test_all_mistakes_are_reported_at_once_in_the_order_of_the_text() -> None:
    with pytest.raises(DocumentError) as caught:
        load(
            GOOD.replace("weight: 2", "weight: 0").replace("rate: 100/s", "rate: 0/s").replace("name: web", "name: Web")
        )
    assert [problem.line for problem in caught.value.problems] == [2, 13, 17]


def test_the_schema_names_every_section_and_refuses_unknown_words() -> None:
    found = schema()
    assert set(found["properties"]) >= {"listeners", "routes", "zones"}  # type: ignore[call-overload]
    assert found["additionalProperties"] is False


VIEWS = (
    GOOD
    + """
  - {name: gw.example.com, view: office, nameservers: [ns1.example.net]}
dns:
  views: [{name: office, networks: [10.0.0.0/8]}]
"""
)


def test_a_zone_may_be_given_once_for_each_view() -> None:
    assert [zone.title for zone in load(VIEWS).zones] == ["gw.example.com", "gw.example.com (view office)"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("view: office", "view: home", "there is no view 'home' (known: office)"),
        ("view: office, ", "", "'gw.example.com' is used twice in zones"),
        ("[ns1.example.net]}", "[ns1.example.net], dnssec: {}}", "has another dnssec in another view"),
        ("[ns1.example.net]}", "[ns1.example.net], secondaries: [{address: 192.0.2.1}]}", "secondaries know no views"),
        ("networks: [10.0.0.0/8]}]", "networks: [10.0.0.0/8]}, {name: office, networks: [11.0.0.0/8]}]", "used twice"),
        ("10.0.0.0/8", "10.0.0.1/8", "has host bits set"),
    ],
)
def test_what_views_cannot_mean_is_refused(old: str, new: str, message: str) -> None:
    assert old in VIEWS
    with pytest.raises(DocumentError, match=re.escape(message)):
        load(VIEWS.replace(old, new))
