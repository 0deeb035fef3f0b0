"""Conditions of routes, one by one, on what clients may send."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meridian.core import fields
from meridian.core.matching import Ask, ClientIn, Condition, FieldIs, implies
from meridian.core.patterns import compile_pattern

HEADERS = [(b"a", b"1"), (b"b", b""), (b"a", b"2"), (b"cookie", b"c=1; d=x=y"), (b"cookie", b"c=2; e")]


def regex(text: str) -> FieldIs:
    return FieldIs("header", b"a", "regex", text.encode(), compile_pattern(text))


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (FieldIs("header", b"a", "exact", b"1, 2"), True), (FieldIs("header", b"a", "exact", b"1"), False),
        (FieldIs("header", b"b", "present"), True), (FieldIs("header", b"b", "absent"), False),
        (FieldIs("header", b"z", "absent"), True), (FieldIs("header", b"z", "present"), False),
        (FieldIs("header", b"z", "exact", b""), False), (FieldIs("header", b"b", "exact", b""), True),
        (FieldIs("header", b"a", "prefix", b"1,"), True), (FieldIs("header", b"z", "prefix", b""), False),
        (regex("1.*"), True), (regex("1"), False), (FieldIs("cookie", b"c", "exact", b"1"), True),
        (FieldIs("cookie", b"d", "exact", b"x=y"), True), (FieldIs("cookie", b"e", "present"), True),
        (FieldIs("query", b"q", "exact", b"a b&"), True), (FieldIs("query", b"q r", "exact", b"1"), True),
        (FieldIs("query", b"empty", "exact", b""), True), (FieldIs("query", b"", "present"), False),
        (ClientIn((ip_network("2001:db8::/32"), ip_network("10.0.0.0/8"))), True),
        (ClientIn((ip_network("0.0.0.0/0"),)), False),
    ],
)  # fmt: skip
def test_conditions(condition: Condition, holds: bool) -> None:
    ask = Ask(b"/p?q=a%20b%26&q=z&q+r=1&empty", HEADERS, "2001:db8::1")
    assert condition.holds(ask) is holds


def test_a_client_without_an_address_is_in_no_network() -> None:
    assert not ClientIn((ip_network("0.0.0.0/0"), ip_network("::/0"))).holds(Ask(b"/", [], "unix"))


@given(st.binary(max_size=30))
def test_no_query_is_too_odd(query: bytes) -> None:
    assert fields.query(b"/?" + query, b"a") is None or b"a" in query or b"%61" in query


_any = st.one_of(
    st.builds(FieldIs, st.just("header"), st.sampled_from([b"a", b"b"]), st.sampled_from(["exact", "prefix"]),
              st.sampled_from([b"1", b"12"])),
    st.builds(FieldIs, st.just("header"), st.sampled_from([b"a", b"b"]), st.sampled_from(["present", "absent"])),
    st.sampled_from([regex("1*"), regex(".2")]),
    st.sampled_from([ClientIn((ip_network(n),)) for n in ("10.0.0.0/8", "10.1.0.0/16", "::/0")]),
)  # fmt: skip
_headers = st.tuples(st.sampled_from([b"a", b"b"]), st.sampled_from([b"1", b"12", b"22"]))
_clients = st.sampled_from(["10.0.0.1", "10.1.0.1", "::1"])
_asks = st.builds(Ask, st.just(b"/"), st.lists(_headers, max_size=2), _clients)


def test_what_is_absent_implies_nothing_that_is_there() -> None:
    present, absent, exact = (FieldIs("header", b"a", how) for how in ("present", "absent", "exact"))
    assert implies([exact], [present]) and not implies([absent], [present]) and not implies([present], [exact])
    assert implies([present], []) and not implies([], [present])


@given(st.lists(_any, max_size=3), st.lists(_any, max_size=3), _asks)
def test_what_implies_is_true_of_every_request(narrow: list[Condition], wide: list[Condition], ask: Ask) -> None:
    if implies(narrow, wide) and all(one.holds(ask) for one in narrow):
        assert all(one.holds(ask) for one in wide)
