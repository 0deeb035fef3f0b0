"""What finding a route costs with ten routes and with ten thousand, by what tells them apart.

    .venv/bin/python -m bench.routing

Nanoseconds of one look-up, the best of several rounds, and the factor between the two tables.
"""

import time
from collections.abc import Callable

from meridian.core.matching import FieldIs
from meridian.core.patterns import compile_pattern
from meridian.core.routing import Route, build_table, route

FEW, MANY = 10, 10_000
LOOKUPS, ROUNDS = 20_000, 7
HEADERS = [(b"accept", b"*/*"), (b"user-agent", b"bench"), (b"x-tenant", b"t5"), (b"accept-encoding", b"gzip")]


def plain(number: int) -> Route:
    """Told apart by host and prefix."""
    return Route(f"r{number}", f"h{number % 100}.example.com", None, f"/api/s{number}", frozenset(), "app")


def by_header(number: int) -> Route:
    """Of one host and path, told apart by a header field."""
    is_tenant = FieldIs("header", b"x-tenant", "exact", b"t%d" % number)
    return Route(f"r{number}", None, None, "/api", frozenset(), "app", conditions=(is_tenant,))


def by_pattern(number: int) -> Route:
    """Told apart by patterns of one host."""
    text = f"/api/s{number}/[a-z]+"
    return Route(f"r{number}", None, None, None, frozenset(), "app", path_regex=text, pattern=compile_pattern(text))


def lookup_seconds(make: Callable[[int], Route], count: int) -> float:
    """Of one look-up that finds a route among `count`."""
    table = build_table(make(number) for number in range(count))
    target = b"/api/s5/x?y=1"
    assert isinstance(route(table, b"GET", b"h5.example.com:80", target, HEADERS, "192.0.2.1"), Route)
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(LOOKUPS):
            route(table, b"GET", b"h5.example.com:80", target, HEADERS, "192.0.2.1")
        best = min(best, (time.perf_counter() - began) / LOOKUPS)
    return best


def main() -> None:
    print(f"{'told apart by':<16}{FEW:>10,} routes{MANY:>10,} routes  factor")
    for name, make in (("host and prefix", plain), ("header", by_header), ("pattern", by_pattern)):
        few, many = lookup_seconds(make, FEW), lookup_seconds(make, MANY)
        print(f"{name:<16}{few * 1e9:>10,.0f} ns    {many * 1e9:>10,.0f} ns    {many / few:>7.2f}")


if __name__ == "__main__":
    main()
