"""Which route takes a request. The most specific wins: exact host before wildcard before any; within a host an
exact path before the longest prefix; within a path a route that names the method before one that takes all.

The cost of a lookup follows the number of segments of the path and of labels of the host, not the number of routes:
every step is a dictionary lookup.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from meridian.core.limit_keys import host_of
from meridian.core.retrying import Policy


@dataclass(frozen=True, slots=True)
class Route:
    """One route; `host` is lower-case, a leading `*.` stands for one or more labels. Empty `methods` takes all."""

    name: str
    host: str | None
    path: str | None
    path_prefix: str | None
    methods: frozenset[bytes]
    upstream: str
    limits: tuple[str, ...] = ()
    authenticator: str | None = None
    limits_before: int = 0  # so many of `limits` count also a request that cannot say who asks
    retry: Policy | None = None  # these three: None is as the upstream has it
    timeout_seconds: float | None = None
    stream_seconds_max: float | None = None


@dataclass(frozen=True, slots=True)
class NoRoute:
    """Nothing matched: 404, or 405 where another method would (`allowed` is not empty, RFC 9110 section 15.5.6)."""

    allowed: frozenset[bytes] = frozenset()


@dataclass(slots=True)
class _Paths:
    exact: dict[bytes, list[Route]] = field(default_factory=dict)
    prefix: dict[bytes, list[Route]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RouteTable:
    """All routes, indexed. Built by `build_table`, then only read."""

    hosts: dict[bytes, _Paths]
    wildcards: dict[bytes, _Paths]  # key: the host without "*", for example b".example.com"
    any_host: _Paths
    routes: tuple[Route, ...]


def build_table(routes: Iterable[Route]) -> RouteTable:
    """Indexes routes. Of two routes with the same match the earlier in the document wins."""
    table = RouteTable({}, {}, _Paths(), tuple(routes))
    for route in table.routes:
        if route.host is None:
            paths = table.any_host
        elif route.host.startswith("*."):
            paths = table.wildcards.setdefault(route.host[1:].encode(), _Paths())
        else:
            paths = table.hosts.setdefault(route.host.encode(), _Paths())
        if route.path is not None:
            paths.exact.setdefault(route.path.encode(), []).append(route)
        else:
            prefix = (route.path_prefix or "/").encode().rstrip(b"/")
            paths.prefix.setdefault(prefix, []).append(route)
    return table


def route(table: RouteTable, method: bytes, authority: bytes, target: bytes) -> Route | NoRoute:
    """Finds the route of a request. `authority` is lower-case and may carry a port; `target` is the origin form."""
    path = target.partition(b"?")[0]
    allowed: set[bytes] = set()
    for paths in _by_host(table, authority):
        found = _by_path(paths, path, method, allowed)
        if found is not None:
            return found
    return NoRoute(frozenset(allowed))


def _by_host(table: RouteTable, authority: bytes) -> list[_Paths]:
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


def _by_path(paths: _Paths, path: bytes, method: bytes, allowed: set[bytes]) -> Route | None:
    """The exact path, then its prefixes by whole segments, the longest first. Adds to `allowed` the methods of routes
    that would take the path."""
    candidates = paths.exact.get(path)
    if candidates is not None:
        found = _by_method(candidates, method, allowed)
        if found is not None:
            return found
    prefixes = paths.prefix
    if not prefixes:
        return None
    prefix = path.rstrip(b"/")
    while True:
        candidates = prefixes.get(prefix)
        if candidates is not None:
            found = _by_method(candidates, method, allowed)
            if found is not None:
                return found
        if not prefix:
            return None
        prefix = prefix[: max(0, prefix.rfind(b"/"))]


def _by_method(candidates: list[Route], method: bytes, allowed: set[bytes]) -> Route | None:
    fallback = None
    for candidate in candidates:
        if not candidate.methods:
            fallback = fallback or candidate
        elif method in candidate.methods:
            return candidate
        else:
            allowed |= candidate.methods
    return fallback
