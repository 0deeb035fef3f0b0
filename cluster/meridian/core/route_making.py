"""A route of the document as workers look it up (core/routing), and what is to be said of routes that take nothing."""

import ipaddress
import re
from collections.abc import Iterator, Sequence
from itertools import islice

from meridian.core import route_words
from meridian.core.caching import Terms
from meridian.core.files import make_files
from meridian.core.forward_proxy import make_forward_proxy, route_name
from meridian.core.forward_words import ForwardProxy as ForwardWords
from meridian.core.matching import ClientIn, Condition, FieldIs, How, Kind, implies
from meridian.core.patterns import compile_pattern
from meridian.core.retry_making import make_retry
from meridian.core.routing import DNS, PATTERNS_MAX, Place, Route, all_places, build_table, in_order
from meridian.core.shedding import Priority
from meridian.core.traffic import make_traffic

COMPARED_MAX = 200  # routes of one host and path that one is compared with: a document has 10,000 routes

_DOTS = re.compile(r"/(?:\.|%2[eE]){1,2}(?:/|$)")
_ALL = frozenset({".*", "/.*", "^/.*$", "^.*$", "^/.*", "/.*$"})


def make_route(route: route_words.Route) -> Route:
    """Compiles a route. Raises ValueError for a pattern that is none, which validation has refused."""
    places = [i for i, stage in enumerate(route.stages) if stage.authenticate is not None]
    before = places[0] if places else len(route.stages)
    match = route.match
    return Route(
        name=route.name,
        host=match.host.lower().rstrip(".") if match.host else None,
        path=match.path,
        path_prefix=match.path_prefix,
        methods=frozenset(method.encode() for method in match.methods),
        upstream=DNS if route.dns is not None else next((name for _, name in route.upstreams()), ""),
        limits=tuple(dict.fromkeys(stage.limit for stage in route.stages if stage.limit is not None)),
        authenticator=route.stages[before].authenticate if places else None,
        limits_before=len({stage.limit for stage in route.stages[:before] if stage.limit is not None}),
        retry=make_retry(route.retry) if route.retry is not None else None,
        timeout_seconds=route.timeout_seconds,
        stream_seconds_max=route.stream_seconds_max,
        priority=Priority[route.priority.upper()],
        dns=route.dns is not None,
        websocket_idle_seconds=route.websocket.idle_timeout_seconds if route.websocket is not None else None,
        path_regex=match.path_regex,
        pattern=compile_pattern(match.path_regex) if match.path_regex is not None else None,
        conditions=tuple(_conditions(match)),
        traffic=make_traffic(route),
        cache=next((_terms(stage.cache) for stage in route.stages if stage.cache is not None), None),
        files=make_files(route.files) if route.files is not None else None,
    )


def make_forward_route(listener: str, words: ForwardWords) -> Route:
    """What takes all requests of a listener that is a forward proxy."""
    return Route(
        name=route_name(listener), host=None, path=None, path_prefix="/", methods=frozenset(), upstream="",
        limits=tuple(dict.fromkeys(words.limits)), authenticator=words.authenticate,
        cache=_terms(words.cache) if words.cache is not None else None, forward=make_forward_proxy(listener, words),
    )  # fmt: skip


def _terms(words: route_words.Cache) -> Terms:
    return Terms(
        words.ttl_seconds, words.stale_while_revalidate_seconds, words.stale_if_error_seconds, words.answer_bytes_max
    )


def _conditions(match: route_words.Match) -> Iterator[Condition]:
    """The cheap ones first."""
    if match.clients:
        yield ClientIn(tuple(ipaddress.ip_network(network) for network in match.clients))
    kinds: tuple[tuple[Kind, Sequence[tuple[str, route_words.FieldMatch]]], ...] = (
        ("header", [(one.name, one) for one in match.headers]),
        ("cookie", [(one.name, one) for one in match.cookies]),
        ("query", [(one.name, one) for one in match.query]),
    )
    for kind, words in kinds:
        for name, one in words:
            yield _condition(kind, name, one)


def _condition(kind: Kind, name: str, word: route_words.FieldMatch) -> FieldIs:
    how: How = "present" if word.present else "absent"
    if word.exact is not None:
        return FieldIs(kind, name.encode(), "exact", word.exact.encode())
    if word.prefix is not None:
        return FieldIs(kind, name.encode(), "prefix", word.prefix.encode())
    if word.regex is not None:
        return FieldIs(kind, name.encode(), "regex", word.regex.encode(), compile_pattern(word.regex))
    return FieldIs(kind, name.encode(), how)


def too_many_patterns(routes: Sequence[Route]) -> Iterator[tuple[str, str]]:
    """Yields (name, why) of a route whose pattern is one too many (see routing.PATTERNS_MAX)."""
    table = build_table(routes)
    for paths in (*table.hosts.values(), *table.wildcards.values(), table.any_host):
        for start, alike in paths.patterns.items():
            for one in islice(alike.values(), PATTERNS_MAX, PATTERNS_MAX + 1):
                name = in_order(one.place)[0].name
                what = f"more than {PATTERNS_MAX} patterns of one host begin with {start.decode() + '/'!r}"
                yield name, f"{what}, and all are tried for a request there; begin them otherwise, or use path_prefix"


def useless(routes: Sequence[Route]) -> Iterator[tuple[str, str]]:
    """Yields (name, why) of routes that no request can reach."""
    for route in routes:
        if (why := _never(route)) is not None:
            yield route.name, why
    table = build_table(routes)
    for place in all_places(table):
        yield from _hidden(place)
    for paths in (*table.hosts.values(), *table.wildcards.values(), table.any_host):
        takers = [one for alike in paths.patterns.values() for text, found in alike.items() if text in _ALL
                  for one in in_order(found.place) if not one.methods and not one.conditions]  # fmt: skip
        for taker in takers[:1]:
            for place in paths.prefix.values():
                for route in in_order(place):
                    yield route.name, f"takes nothing: {taker.name!r} takes all, and patterns come before prefixes"


def _never(route: Route) -> str | None:
    host = (route.host or "").removeprefix("*.")
    if not host.startswith("[") and ":" in host:
        return f"takes nothing: a host is matched without its port; write {host.partition(':')[0]!r}"
    if "*" in host or "/" in host:
        return f"takes nothing: {route.host!r} is no host; a wildcard is *. and then a name"
    path = route.path or route.path_prefix or ""
    if "?" in path or "#" in path:
        return "takes nothing: a path is matched without its query; say query: beside it"
    if _DOTS.search(path):
        return "takes nothing: dot segments are resolved before a path is matched; write the path without them"
    exact: dict[tuple[Kind, bytes], bytes] = {}
    for one in route.conditions:
        if not isinstance(one, FieldIs) or one.how != "exact":
            continue
        if exact.setdefault((one.kind, one.name), one.value) != one.value:
            return f"takes nothing: {one.kind} {one.name.decode()} cannot be two values at once"
    return None


def _hidden(place: Place) -> Iterator[tuple[str, str]]:
    routes = in_order(place)
    for at, route in enumerate(routes):
        for earlier in routes[max(0, at - COMPARED_MAX) : at]:
            covers = not earlier.methods or (bool(route.methods) and route.methods <= earlier.methods)
            if covers and implies(route.conditions, earlier.conditions):
                same = route.methods == earlier.methods and implies(earlier.conditions, route.conditions)
                what = "the same match as" if same else "all that it could take goes to"
                yield route.name, f"takes nothing: {what} {earlier.name!r}, which comes first; remove one of them"
                break
