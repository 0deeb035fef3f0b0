"""The most specific route wins, whatever the order in the document; checked against a plain search."""

from hypothesis import given
from hypothesis import strategies as st

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


_hosts = st.sampled_from([None, "a.com", "b.a.com", "*.a.com", "*.b.a.com", "*.com"])
_paths = st.sampled_from(["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab"])
_methods = st.sets(st.sampled_from([b"GET", b"PUT"]))


@st.composite
def _routes(draw: st.DrawFn) -> list[Route]:
    made = []
    for number in range(draw(st.integers(0, 8))):
        path = draw(_paths)
        exact = draw(st.booleans())
        made.append(
            Route(str(number), draw(_hosts), path if exact else None, None if exact else path,
                  frozenset(draw(_methods)), "app")
        )  # fmt: skip
    return made


def _rank(one: Route, method: bytes, host: str, path: str) -> tuple[int, int, int, int] | None:
    """How well a route fits, None if not at all: host, kind of path and its length, method."""
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
        by_path = (1, 0)
    else:
        prefix = (one.path_prefix or "/").rstrip("/")
        if path != prefix and not path.startswith(prefix + "/"):
            return None
        by_path = (0, len(prefix))
    if one.methods and method not in one.methods:
        return None
    return by_host, *by_path, 1 if one.methods else 0


@given(_routes(), st.sampled_from([b"GET", b"PUT", b"POST"]),
       st.sampled_from(["a.com", "b.a.com", "c.b.a.com", "x.com", "y"]),
       st.sampled_from(["/", "/a", "/a/", "/a/b", "/a/b/", "/a/b/c/d", "/abc", "/ab"]))  # fmt: skip
def test_the_index_finds_what_a_plain_search_finds(table: list[Route], method: bytes, host: str, path: str) -> None:
    ranked = [(rank, -int(one.name), one) for one in table if (rank := _rank(one, method, host, path)) is not None]
    found = route(build_table(table), method, host.encode(), path.encode())
    if ranked:
        best = max(ranked, key=lambda item: item[:2])[2]
        assert isinstance(found, Route) and found.name == best.name
    else:
        assert isinstance(found, NoRoute)
