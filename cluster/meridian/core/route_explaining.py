"""Why a route takes a request and the others do not, by the walk and the tests that decide (core/routing)."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from meridian.core.limit_keys import host_of
from meridian.core.matching import Ask
from meridian.core.routing import Route, RouteTable, in_order, places, unmet

CONSIDERED_MAX = 100  # a document may have 10,000 routes, and nobody reads so many


@dataclass(frozen=True, slots=True)
class Considered:
    """One route, and why it takes the request or not."""

    route: Route
    takes: bool
    why: str


def consider(table: RouteTable, method: bytes, authority: bytes, target: bytes, ask: Ask) -> list[Considered]:
    """The routes of the request's host and path as they are asked, then others: at most CONSIDERED_MAX. A table
    whose request none takes has none that `takes`."""
    found: list[Considered] = []
    path = target.partition(b"?")[0]
    taken: Route | None = None
    for place in places(table, authority, path):
        for route in in_order(place):
            lacks = unmet(route, method, ask)
            if taken is not None:
                why = f"{taken.name!r} comes first" + ("" if lacks is None else f"; and it {_wants(route, lacks)}")
                found.append(Considered(route, False, why))
            elif lacks is None:
                taken = route
                found.append(Considered(route, True, "the most specific that takes it"))
            else:
                found.append(Considered(route, False, f"it {_wants(route, lacks)}"))
    known = {one.route.name for one in found}
    others = sorted(_others(table, authority, known), key=lambda one: one.why != _PATH)  # of its host first
    return list(islice((*found, *others), CONSIDERED_MAX))


def describe(route: Route) -> str:
    """What a route takes, in words: shop.example.com /api/* GET, header x-canary to be 'yes'."""
    path = route.path or (f"~ {route.path_regex}" if route.path_regex else (route.path_prefix or "").rstrip("/") + "/*")
    words = [route.host or "any host", path, *(["/".join(_methods(route))] if route.methods else [])]
    return ", ".join([" ".join(words), *map(str, route.conditions)])


_PATH = "its path is another"
_HOST = "its host is another"


def _others(table: RouteTable, authority: bytes, known: set[str]) -> Iterator[Considered]:
    host = host_of(authority).decode("latin-1")
    for route in table.routes:
        if route.name not in known:
            yield Considered(route, False, _PATH if _is_of(route, host) else _HOST)


def _is_of(route: Route, host: str) -> bool:
    if route.host is None:
        return True
    return host.endswith(route.host[1:]) if route.host.startswith("*.") else host == route.host


def _wants(route: Route, lacks: object) -> str:
    return f"takes only {', '.join(_methods(route))}" if isinstance(lacks, bytes) else f"wants {lacks}"


def _methods(route: Route) -> list[str]:
    return sorted(method.decode() for method in route.methods)
