"""Which route takes a request. The most specific wins, in this order:

1. the host: exact, then the longest wildcard, then any;
2. the path: exact, then a regular expression (the first in the document), then the longest prefix;
3. the method: named (fewer before more), then any;
4. more conditions on header fields and cookies, then more on the query, then the narrower `clients`;
5. exact conditions before prefixes, patterns and mere presence;
6. the earlier in the document.

A route that does not take the request in one of these leaves it to the next. Steps 1 to 4 are those of the Kubernetes
Gateway API, with what it leaves open settled as nginx does.

The cost of a lookup follows the number of segments of the path and of labels of the host, not the number of routes:
every step is a dictionary lookup, and so are exact conditions. Only what shares host and path and fits no dictionary is
tried one by one: patterns of paths that begin alike (at most `PATTERNS_MAX`), and conditions other than exact.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from meridian.core.caching import Terms
from meridian.core.fields import Headers
from meridian.core.files import Files
from meridian.core.forward_proxy import ForwardProxy
from meridian.core.limit_keys import host_of
from meridian.core.matching import Ask, ClientIn, Condition, FieldIs, Kind
from meridian.core.patterns import Pattern, literal_start
from meridian.core.retrying import Policy
from meridian.core.shedding import Priority
from meridian.core.traffic import PLAIN, Traffic

PATTERNS_MAX = 100  # of one host whose paths begin alike; each costs 2 us for every request that begins so

_Rank = tuple[int, int, int, int, int, int]
_NOBODY = Ask(b"", [], "")

DNS = "(dns)"
"""The upstream of routes that lead to the node's own DNS server; no name of a document's can be this."""


@dataclass(frozen=True, slots=True)
class Route:
    """One route; `host` is lower-case, a leading `*.` stands for one or more labels. Empty `methods` takes all."""

    name: str
    host: str | None
    path: str | None
    path_prefix: str | None
    methods: frozenset[bytes]
    upstream: str  # the first; "" if there is none
    limits: tuple[str, ...] = ()
    authenticator: str | None = None
    limits_before: int = 0  # so many of `limits` count also a request that cannot say who asks
    retry: Policy | None = None  # these three: None is as the upstream has it
    timeout_seconds: float | None = None
    stream_seconds_max: float | None = None
    path_regex: str | None = None
    pattern: Pattern | None = None  # of path_regex
    conditions: tuple[Condition, ...] = ()
    traffic: Traffic = PLAIN
    priority: Priority = Priority.NORMAL
    dns: bool = False
    websocket_idle_seconds: float | None = None  # None: it is refused
    cache: Terms | None = None
    files: Files | None = None
    forward: ForwardProxy | None = None


@dataclass(frozen=True, slots=True)
class NoRoute:
    """Nothing matched: 404, or 405 where another method would (`allowed` is not empty, RFC 9110 section 15.5.6)."""

    allowed: frozenset[bytes] = frozenset()


_Ranked = tuple[_Rank, Route]
_Names = tuple[tuple[Kind, bytes], ...]
_Values = tuple[bytes | None, ...]


@dataclass(slots=True)
class Place:
    """The routes of one host and one path. Those without conditions by rank; the others by which exact conditions they
    have, and within that by the values (tuple space search, Srinivasan, Suri, Varghese 1999)."""

    plain: list[_Ranked] = field(default_factory=list)
    spaces: dict[_Names, dict[_Values, list[_Ranked]]] = field(default_factory=dict)


@dataclass(slots=True)
class _Patterned:
    order: int
    pattern: Pattern
    place: Place


@dataclass(slots=True)
class Paths:
    """The places of one host. Patterns stand under the whole segments that they begin with."""

    exact: dict[bytes, Place] = field(default_factory=dict)
    prefix: dict[bytes, Place] = field(default_factory=dict)
    patterns: dict[bytes, dict[str, _Patterned]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RouteTable:
    """All routes, indexed. Built by `build_table`, then only read."""

    hosts: dict[bytes, Paths]
    wildcards: dict[bytes, Paths]  # key: the host without "*", for example b".example.com"
    any_host: Paths
    routes: tuple[Route, ...]
    has_conditions: bool


def build_table(routes: Iterable[Route]) -> RouteTable:
    """Indexes routes."""
    routes = tuple(routes)
    table = RouteTable({}, {}, Paths(), routes, any(route.conditions for route in routes))
    for order, route in enumerate(routes):
        _put(_place_of(table, route, order), (_rank(route, order), route))
    for place in all_places(table):
        place.plain.sort(key=_by_rank)
        for space in place.spaces.values():
            for ranked in space.values():
                ranked.sort(key=_by_rank)
    return table


def route(
    table: RouteTable, method: bytes, authority: bytes, target: bytes, headers: Headers | None = None, client: str = ""
) -> Route | NoRoute:
    """Finds the route of a request. `authority` is lower-case and may carry a port; `target` is the origin form;
    `client` is an IP address."""
    ask = Ask(target, headers or [], client) if table.has_conditions else _NOBODY
    allowed: set[bytes] = set()
    for place in places(table, authority, target.partition(b"?")[0]):
        found = _best(place, method, ask, allowed)
        if found is not None:
            return found
    return NoRoute(frozenset(allowed))


def places(table: RouteTable, authority: bytes, path: bytes) -> Iterator[Place]:
    """Where routes for a host and a path stand, the most specific first."""
    for paths in _by_host(table, authority):
        if (place := paths.exact.get(path)) is not None:
            yield place
        if paths.patterns:
            for one in _patterns(paths, path):
                if one.pattern.fullmatch(path) is not None:
                    yield one.place
        if prefixes := paths.prefix:
            prefix = path.rstrip(b"/")
            while True:  # `_prefixes`, at half the cost
                if (place := prefixes.get(prefix)) is not None:
                    yield place
                if not prefix:
                    break
                prefix = prefix[: max(0, prefix.rfind(b"/"))]


def in_order(place: Place) -> list[Route]:
    """All routes of a place, the first to be asked first."""
    ranked = [*place.plain, *(one for space in place.spaces.values() for found in space.values() for one in found)]
    return [one for _, one in sorted(ranked, key=_by_rank)]


def unmet(route: Route, method: bytes, ask: Ask) -> Condition | bytes | None:
    """What keeps a request of the right host and path from a route: the method, or a condition. None: it takes it."""
    if route.methods and method not in route.methods:
        return method
    for condition in route.conditions:
        if not condition.holds(ask):
            return condition
    return None


def _by_host(table: RouteTable, authority: bytes) -> list[Paths]:
    """The path tables for a host, the most specific first."""
    if not table.hosts and not table.wildcards:
        return [table.any_host]
    host = host_of(authority)
    tables = []
    exact = table.hosts.get(host)
    if exact is not None:
        tables.append(exact)
    if table.wildcards:
        dot = host.find(b".")
        while dot != -1:
            wildcard = table.wildcards.get(host[dot:])
            if wildcard is not None:
                tables.append(wildcard)
            dot = host.find(b".", dot + 1)
    tables.append(table.any_host)
    return tables


def _prefixes(path: bytes) -> Iterator[bytes]:
    """The prefixes of a path by whole segments, the longest first, without a slash at their end."""
    prefix = path.rstrip(b"/")
    while True:
        yield prefix
        if not prefix:
            return
        prefix = prefix[: max(0, prefix.rfind(b"/"))]


def _patterns(paths: Paths, path: bytes) -> list[_Patterned]:
    """Those that may match a path, in the order of the document."""
    found = [one for prefix in _prefixes(path) for one in paths.patterns.get(prefix, _NONE).values()]
    return sorted(found, key=lambda one: one.order) if len(found) > 1 else found


_NONE: dict[str, _Patterned] = {}


def _best(place: Place, method: bytes, ask: Ask, allowed: set[bytes]) -> Route | None:
    """The first in rank of those that take the request. Adds to `allowed` the methods of others that would."""
    best: _Ranked | None = None
    for ranked in place.plain:
        methods = ranked[1].methods
        if not methods or method in methods:
            if not place.spaces:
                return ranked[1]
            best = ranked
            break
        allowed |= methods
    for names, space in place.spaces.items():
        values = tuple([ask.value(kind, name) for kind, name in names])
        for ranked in space.get(values, ()):
            if best is not None and ranked[0] > best[0]:
                break
            lacks = unmet(ranked[1], method, ask)
            if lacks is None:
                best = ranked
                break
            if lacks is method and all(condition.holds(ask) for condition in ranked[1].conditions):
                allowed |= ranked[1].methods
    return best[1] if best is not None else None


def _place_of(table: RouteTable, route: Route, order: int) -> Place:
    if route.host is None:
        paths = table.any_host
    elif route.host.startswith("*."):
        paths = table.wildcards.setdefault(route.host[1:].encode(), Paths())
    else:
        paths = table.hosts.setdefault(route.host.encode(), Paths())
    if route.path is not None:
        return paths.exact.setdefault(route.path.encode(), Place())
    if route.path_regex is not None and route.pattern is not None:
        alike = paths.patterns.setdefault(pattern_key(route.path_regex), {})
        return alike.setdefault(route.path_regex, _Patterned(order, route.pattern, Place())).place
    return paths.prefix.setdefault((route.path_prefix or "/").encode().rstrip(b"/"), Place())


def pattern_key(path_regex: str) -> bytes:
    """The whole segments that a path must begin with to match."""
    return literal_start(path_regex).rpartition("/")[0].rstrip("/").encode()


def _put(place: Place, ranked: _Ranked) -> None:
    conditions = ranked[1].conditions
    if not conditions:
        place.plain.append(ranked)
        return
    exact = {(one.kind, one.name): one.value for one in conditions if isinstance(one, FieldIs) and one.how == "exact"}
    names = tuple(sorted(exact))
    values: _Values = tuple(exact[name] for name in names)
    place.spaces.setdefault(names, {}).setdefault(values, []).append(ranked)


def _rank(route: Route, order: int) -> _Rank:
    """Steps 3 to 6 of the module's head; the lowest first."""
    conditions = [one for one in route.conditions if isinstance(one, FieldIs)]
    queries = sum(one.kind == "query" for one in conditions)
    bits = max((one.bits for one in route.conditions if isinstance(one, ClientIn)), default=-1)
    strength = sum(one.strength for one in conditions)
    return len(route.methods) or 1_000, queries - len(conditions), -queries, -bits, -strength, order


def _by_rank(ranked: _Ranked) -> _Rank:
    return ranked[0]


def all_places(table: RouteTable) -> Iterator[Place]:
    """Where routes stand at all."""
    for paths in (*table.hosts.values(), *table.wildcards.values(), table.any_host):
        yield from paths.exact.values()
        yield from paths.prefix.values()
        yield from (one.place for alike in paths.patterns.values() for one in alike.values())
