"""The most specific route wins, whatever the order in the document; checked against a plain search."""

import ipaddress
import re

from hypothesis import given
from hypothesis import strategies as st

from meridian.core.matching import Ask, ClientIn, Condition, FieldIs
from meridian.core.patterns import compile_pattern
from meridian.core.route_explaining import consider
from meridian.core.routing import NoRoute, Route, build_table, route

Found = str | NoRoute


def routes(*matches: tuple[str | None, str | None, str | None, str]) -> list[Route]:
    """Routes named 0, 1, ... from (host, path, path_prefix, methods)."""
    return [
        Route(str(number), host, path, prefix, frozenset(methods.encode().split()), "app")
        for number, (host, path, prefix, methods) in enumerate(matches)
    ]


def find(table: list[Route], method: str, authority: str, target: str) -> Found:
    """The name of the route found, or why there is none."""
    found = route(build_table(table), method.encode(), authority.encode(), target.encode())
    return found.name if isinstance(found, Route) else found


def test_hosts_exact_before_wildcard_before_any() -> None:
    table = routes((None, None, "/", ""), ("*.example.com", None, "/", ""), ("*.shop.example.com", None, "/", ""),
                   ("a.shop.example.com", None, "/", ""))  # fmt: skip
    for authority, expected in (
        ("a.shop.example.com", "3"), ("a.shop.example.com:8080", "3"), ("a.shop.example.com.", "3"),
        ("b.shop.example.com", "2"), ("x.y.shop.example.com", "2"), ("other.example.com", "1"),
        ("example.com", "0"), ("[::1]:80", "0"), ("", "0"),
    ):  # fmt: skip
        assert find(table, "GET", authority, "/") == expected, authority


def test_paths_exact_before_the_longest_prefix_by_whole_segments() -> None:
    table = routes(
        (None, None, "/", ""), (None, None, "/api", ""), (None, None, "/api/v1/", ""), (None, "/api", None, "")
    )
    for target, expected in (
        ("/", "0"), ("/apix", "0"), ("/api", "3"), ("/api?x=/api/v1", "3"), ("/api/", "1"), ("/api/x", "1"),
        ("/api/v1", "2"), ("/api/v1/", "2"), ("/api/v1/x/y", "2"), ("/api/v10", "1"), ("//api", "0"), ("*", "0"),
    ):  # fmt: skip
        assert find(table, "GET", "a", target) == expected, target


def test_methods_named_before_all_and_405_names_what_would_do() -> None:
    table = routes((None, None, "/x", ""), (None, None, "/x", "GET PUT"), (None, None, "/only", "GET"))
    assert find(table, "GET", "a", "/x") == "1" and find(table, "POST", "a", "/x") == "0"
    assert find(table, "POST", "a", "/only/y") == NoRoute(frozenset({b"GET"}))
    assert find(table, "GET", "a", "/none") == NoRoute()
    assert find([], "GET", "a", "/") == NoRoute()


def test_a_pattern_comes_after_the_exact_path_and_before_every_prefix() -> None:
    table = [
        one("prefix", path_prefix="/users/7/orders"), one("second", path_regex="/users/[0-9]+/.*"),
        one("first", path_regex="/users/[0-9]+/orders"), one("exact", path="/users/7/orders"),
        one("any", path_regex="/(a|b)"), one("slash", path_regex="/users/?"),
        one("wide", path_regex="/z.*"), one("narrow", path_regex="/zone/[0-9]+"),
    ]  # fmt: skip
    for target, expected in (
        ("/users/7/orders", "exact"), ("/users/8/orders?x", "second"), ("/users/7/orders/9", "second"),
        ("/users/x/orders", NoRoute()), ("/a", "any"), ("/users", "slash"), ("/users/", "slash"), ("/ab", NoRoute()),
        ("/zone/1", "wide"),
    ):  # fmt: skip
        assert find(table, "GET", "h", target) == expected, target


def test_more_conditions_come_first_and_one_that_fails_leaves_it_to_the_next() -> None:
    table = [
        one("plain"),
        one("tenant", conditions=(header("x-tenant", "acme"),)),
        one("beta", conditions=(header("x-tenant", "acme"), FieldIs("cookie", b"beta", "present"))),
        one("debug", conditions=(FieldIs("query", b"debug", "exact", b"a b"),)),
        one("office", conditions=(ClientIn((ipaddress.ip_network("10.0.0.0/8"),)),)),
        one("desk", conditions=(ClientIn((ipaddress.ip_network("10.1.0.0/16"),)),)),
        one("get", methods="GET", conditions=(FieldIs("header", b"x-get", "absent"), header("x-only", "1"))),
    ]
    acme = (b"x-tenant", b"acme")
    for target, headers, client, expected in (
        ("/", [], "192.0.2.1", "plain"), ("/", [acme], "192.0.2.1", "tenant"),
        ("/", [acme, (b"cookie", b"a=b; beta=")], "192.0.2.1", "beta"),
        ("/", [acme, (b"x-tenant", b"acme")], "192.0.2.1", "plain"), ("/?debug=a+b", [], "", "debug"),
        ("/?debug=a%20b&debug=c", [acme], "", "tenant"), ("/?debug=c", [], "", "plain"),
        ("/", [], "10.2.0.1", "office"),
        ("/", [], "10.1.9.9", "desk"), ("/", [], "::ffff:10.1.9.9", "desk"), ("/?debug=a+b", [], "10.1.9.9", "debug"),
        ("/", [(b"x-only", b"1"), acme], "", "get"), ("/", [(b"x-only", b"1"), (b"x-get", b"")], "", "plain"),
    ):  # fmt: skip
        found = route(build_table(table), b"GET", b"h", target.encode(), headers, client)
        assert isinstance(found, Route) and found.name == expected, (target, headers, client)


def test_405_names_the_methods_of_those_whose_conditions_hold() -> None:
    table = build_table([one("put", methods="PUT", conditions=(header("x-a", "1"),)), one("post", methods="POST")])
    assert route(table, b"GET", b"h", b"/", [(b"x-a", b"1")]) == NoRoute(frozenset({b"PUT", b"POST"}))
    assert route(table, b"GET", b"h", b"/", [(b"x-a", b"2")]) == NoRoute(frozenset({b"POST"}))


def one(
    name: str, host: str | None = None, methods: str = "", path: str | None = None, path_prefix: str | None = None,
    path_regex: str | None = None, conditions: tuple[Condition, ...] = (),
) -> Route:  # fmt: skip
    """A route to nowhere."""
    pattern = compile_pattern(path_regex) if path_regex is not None else None
    return Route(
        name, host, path, path_prefix, frozenset(methods.encode().split()), "app", path_regex=path_regex,
        pattern=pattern, conditions=conditions,
    )  # fmt: skip


def header(name: str, value: str) -> FieldIs:
    """A header field with exactly this value."""
    return FieldIs("header", name.encode(), "exact", value.encode())


_hosts = st.sampled_from([None, "a.com", "b.a.com", "*.a.com", "*.b.a.com", "*.com"])
_paths = st.sampled_from(["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab"])
_patterns = st.sampled_from(["/a.*", "/a/[a-z]+", "/a/b/?", "/(a|ab)", "/a/b/c*", ".*"])
_methods = st.sets(st.sampled_from([b"GET", b"PUT"]))
_conditions = st.lists(
    st.one_of(
        st.builds(FieldIs, st.sampled_from(["header", "query"]), st.sampled_from([b"x", b"y"]), st.just("exact"),
                  st.sampled_from([b"1", b"2"])),
        st.builds(FieldIs, st.sampled_from(["header", "query"]), st.sampled_from([b"x", b"y"]),
                  st.sampled_from(["present", "absent"])),
        st.just(ClientIn((ipaddress.ip_network("10.0.0.0/8"),))),
    ),
    max_size=2,
)  # fmt: skip


@st.composite
def _routes(draw: st.DrawFn) -> list[Route]:
    made = []
    for number in range(draw(st.integers(0, 8))):
        kind = draw(st.sampled_from(["path", "path_prefix", "path_regex"]))
        where: dict[str, str] = {kind: draw(_patterns if kind == "path_regex" else _paths)}
        methods = b" ".join(draw(_methods)).decode()
        made.append(one(str(number), draw(_hosts), methods, conditions=tuple(draw(_conditions)), **where))
    return made


_Key = tuple[int, ...]


def _key(one: Route, table: list[Route], method: bytes, host: str, path: str, ask: Ask) -> _Key | None:
    """How well a route fits, the best the greatest; None if not at all. Written from docs/routing.md."""
    if one.host is None:
        by_host = 0
    elif one.host.startswith("*."):
        if not host.endswith(one.host[1:]) or host == one.host[2:]:
            return None
        by_host = len(one.host)
    else:
        if host != one.host:
            return None
        by_host = 1000
    if one.path is not None:
        if path != one.path:
            return None
        by_path = (2, 0)
    elif one.path_regex is not None:
        if re.fullmatch(one.path_regex, path) is None:
            return None
        alike = (other.host == one.host and other.path_regex == one.path_regex for other in table)
        by_path = (1, -next(at for at, same in enumerate(alike) if same))
    else:
        prefix = (one.path_prefix or "/").rstrip("/")
        if path != prefix and not path.startswith(prefix + "/"):
            return None
        by_path = (0, len(prefix))
    if (one.methods and method not in one.methods) or not all(each.holds(ask) for each in one.conditions):
        return None
    fields = [each for each in one.conditions if isinstance(each, FieldIs)]
    queries = sum(each.kind == "query" for each in fields)
    clients = sum(isinstance(each, ClientIn) for each in one.conditions)
    strength = sum({"exact": 4, "present": 1}.get(each.how, 0) for each in fields)
    return by_host, *by_path, -(len(one.methods) or 99), len(fields) - queries, queries, clients > 0, strength


_ASKS = [
    Ask(b"/", [], "192.0.2.1"), Ask(b"/?x=1", [(b"x", b"1")], "10.0.0.1"), Ask(b"/?y=2", [(b"y", b"1")], "192.0.2.1"),
    Ask(b"/?x=2&y=1", [(b"x", b"2"), (b"y", b"2")], "10.0.0.1"),
]  # fmt: skip


@given(_routes(), st.sampled_from([b"GET", b"PUT", b"POST"]),
       st.sampled_from(["a.com", "b.a.com", "c.b.a.com", "x.com", "y"]),
       st.sampled_from(["/", "/a", "/a/", "/a/b", "/a/b/", "/a/b/c/d", "/abc", "/ab"]),
       st.sampled_from(_ASKS))  # fmt: skip
def test_the_index_finds_what_a_plain_search_finds(
    table: list[Route], method: bytes, host: str, path: str, ask: Ask
) -> None:
    keys = [(key, -int(each.name), each) for each in table if (key := _key(each, table, method, host, path, ask))]
    target = path.encode() + ask.target[1:]
    found = route(build_table(table), method, host.encode(), target, ask.headers, ask.client)
    told = consider(build_table(table), method, host.encode(), target, Ask(target, ask.headers, ask.client))
    assert len(told) == len(table), "every route is accounted for"
    taken = [each.route.name for each in told if each.takes]
    if keys:
        best = max(keys, key=lambda item: item[:2])[2]
        assert isinstance(found, Route) and found.name == best.name
        assert taken == [best.name]
    else:
        assert isinstance(found, NoRoute) and not taken
