"""RFC 9111 as decisions, by its sections."""

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meridian.core import caching
from meridian.core.caching import Freshness, Terms, Use
from meridian.core.fields import Headers

UNIX = 1_800_000_000.0
TERMS = Terms(30.0, 0.0, 0.0, 1024)


def fields(*lines: str) -> Headers:
    return [(name.lower().encode(), value.encode()) for name, _, value in (line.partition(": ") for line in lines)]


def at(seconds: float) -> str:
    return formatdate(UNIX + seconds, usegmt=True)


def lifetime(*lines: str, status: int = 200, request: Headers | None = None) -> float | None:
    found = caching.freshness(request or [], status, fields(*lines), TERMS, UNIX)
    return found.lifetime if found is not None else None


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((), 30), (("Cache-Control: max-age=5",), 5), (("Cache-Control: max-age=5, s-maxage=7",), 7),
        (("Cache-Control: public, MAX-AGE=9",), 9), (("Cache-Control: max-age=1, max-age=9",), 1),
        (('Cache-Control: max-age="5"',), 5), (("Cache-Control: max-age=x",), 0), (("Cache-Control: max-age=-1",), 0),
        (("Cache-Control: max-age=99999999999999999999999",), 0), (("Cache-Control: max-age=9999999999",), 2**31),
        ((f"Expires: {at(60)}",), 60), ((f"Date: {at(-40)}", f"Expires: {at(60)}"), 100), (("Expires: 0",), 0),
        ((f"Expires: {at(60)}", "Cache-Control: max-age=5"), 5), (("Cache-Control: no-store",), None),
        (("Cache-Control: private",), None), (('Cache-Control: private="x-a"',), None),
        (("Cache-Control: no-cache",), 30),
        (("Set-Cookie: a=b", "Cache-Control: max-age=9"), None),
        (("Set-Cookie: a=b", "Cache-Control: public, max-age=9"), 9), (("Vary: *",), None),
        (("Vary: accept, *",), None),
        (("Vary: Accept",), 30), (('Cache-Control: ext="a, no-store", max-age=4',), 4),
        (("Cache-Control: max-age=5", "Cache-Control: no-store"), None),
    ],
)  # fmt: skip
def test_what_may_be_kept_and_for_how_long(lines: tuple[str, ...], expected: float | None) -> None:
    assert lifetime(*lines) == expected


@pytest.mark.parametrize(
    ("status", "lines", "expected"),
    [(404, (), 30), (500, (), None), (302, (), None), (302, ("Cache-Control: max-age=5",), 5), (206, (), None),
     (206, ("Cache-Control: max-age=5",), None), (304, ("Cache-Control: max-age=5",), None), (100, (), None),
     (500, ("Cache-Control: public",), 30)],
)  # fmt: skip
def test_statuses(status: int, lines: tuple[str, ...], expected: float | None) -> None:
    assert lifetime(*lines, status=status) == expected


def test_an_authorised_answer_is_kept_only_if_it_says_so() -> None:
    request = fields("Authorization: Basic x")
    assert lifetime("Cache-Control: max-age=5", request=request) is None
    for word in ("public", "s-maxage=5", "must-revalidate"):
        assert lifetime(f"Cache-Control: max-age=5, {word}", request=request) == 5
    assert lifetime(request=fields("Cache-Control: no-store")) is None


def test_age_is_what_it_says_or_what_its_date_shows() -> None:
    for lines, age in (((), 0), (("Age: 7",), 7), ((f"Date: {at(-9)}", "Age: 7"), 9), ((f"Date: {at(9)}",), 0),
                       (("Age: x",), 0), (("Date: never",), 0)):  # fmt: skip
        found = caching.freshness([], 200, fields(*lines), TERMS, UNIX)
        assert found is not None and found.age == age


@pytest.mark.parametrize(
    ("resident", "asked", "use"),
    [
        (9, "", Use.FRESH), (10, "", Use.REFRESH), (15, "", Use.REFRESH), (15.1, "", Use.ASK), (1, "no-cache", Use.ASK),
        (3, "max-age=2", Use.ASK), (2, "max-age=2", Use.FRESH), (8, "min-fresh=3", Use.ASK),
        (7, "min-fresh=2", Use.FRESH), (99, "max-stale", Use.STALE), (14, "max-stale=4", Use.STALE),
        (20, "max-stale=4", Use.ASK),
        (1, "x=y", Use.FRESH),
    ],
)  # fmt: skip
def test_use(resident: float, asked: str, use: Use) -> None:
    kept = Freshness(10.0, 0.0, 5.0, 20.0)
    said = caching.directives(fields(f"Cache-Control: {asked}"))
    assert caching.judge(kept, resident, said) is use
    assert caching.bears_errors(kept, resident, said) is (resident <= 30 and asked != "no-cache")


def test_what_must_be_asked_for_is_never_used_stale() -> None:
    for words in ("must-revalidate", "proxy-revalidate", "s-maxage=10", "no-cache"):
        headers = fields(f"Cache-Control: max-age=10, stale-while-revalidate=60, stale-if-error=60, {words}")
        kept = caching.freshness([], 200, headers, TERMS, UNIX)
        assert kept is not None
        assert caching.judge(kept, 11, {}) is Use.ASK and not caching.bears_errors(kept, 11, {})
        assert caching.judge(kept, 11, {b"max-stale": b""}) is Use.ASK
        assert caching.judge(kept, 1, {}) is (Use.ASK if words == "no-cache" else Use.FRESH)
    assert caching.directives(fields("Pragma: no-cache")) == {b"no-cache": b""}
    assert not caching.directives(fields("Pragma: no-cache", "Cache-Control: max-stale")).keys() & {b"no-cache"}


@pytest.mark.parametrize(
    ("request_lines", "same"),
    [
        (('If-None-Match: "a"',), True), (('If-None-Match: W/"a"',), True), (('If-None-Match: "b", "a"',), True),
        (("If-None-Match: *",), True), (('If-None-Match: "b"',), False), (("If-None-Match: a",), False),
        ((f"If-Modified-Since: {at(0)}",), True), ((f"If-Modified-Since: {at(-1)}",), False),
        (('If-None-Match: "b"', f"If-Modified-Since: {at(9)}"), False),
        (("If-Modified-Since: never",), False), ((), False),
    ],
)  # fmt: skip
def test_what_a_client_has_already(request_lines: tuple[str, ...], same: bool) -> None:
    kept = fields('ETag: "a"', f"Last-Modified: {at(0)}")
    assert caching.not_modified(fields(*request_lines), kept) is same


def test_validation() -> None:
    kept = fields('ETag: W/"a"', f"Last-Modified: {at(0)}", "Content-Type: a/b", "X: old", "Content-Length: 5")
    asked = caching.conditions(kept)
    assert asked == fields('If-None-Match: W/"a"', f"If-Modified-Since: {at(0)}")
    new = caching.updated(kept, fields("X: new", "Content-Length: 0", "Content-Type: c/d", "Cache-Control: max-age=1"))
    assert fields("Content-Type: a/b")[0] in new and fields("Content-Length: 5")[0] in new
    assert (
        fields("X: new")[0] in new and fields("X: old")[0] not in new and fields("Cache-Control: max-age=1")[0] in new
    )
    own = fields("If-None-Match: x", "If-Range: y", "Accept: z")
    assert caching.without_conditions(own) == fields("Accept: z")


def test_variants_and_tags() -> None:
    names = caching.vary_of(fields("Vary: Accept-Language, accept", "Vary: ACCEPT,"))
    assert names == (b"accept", b"accept-language")
    assert caching.variant(names, fields("Accept: a", "Accept: b")) == (b"a, b", None)
    assert caching.vary_of(fields("Vary: " + ",".join(f"x{n}" for n in range(17)))) is None
    assert caching.tags_of(fields("Cache-Tag: a, b c", "Surrogate-Key: d e")) == {b"a", b"b c", b"d", b"e"}


@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=60))
def test_no_field_is_too_odd(control: bytes, when: bytes, tags: bytes) -> None:
    headers = [(b"cache-control", control), (b"expires", when), (b"date", when), (b"age", when), (b"vary", tags)]
    kept = caching.freshness([], 200, headers, TERMS, UNIX)
    if kept is not None:
        assert 0 <= kept.lifetime <= 2**40 and kept.age >= 0
        caching.judge(kept, 5, caching.directives([(b"cache-control", control)]))
    caching.not_modified(
        [(b"if-none-match", tags), (b"if-modified-since", when)], [(b"etag", b'"a"'), (b"last-modified", when)]
    )
