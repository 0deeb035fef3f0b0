"""What HTTP/2 and HTTP/3 share. The codecs' tests go through most of it; here is what holds for all input."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meridian.wire.bounds import USUAL
from meridian.wire.events import TUNNEL, Headers
from meridian.wire.fields import (
    Budget,
    MalformedError,
    UnwantedError,
    bodiless,
    check_trailers,
    request_head,
    response_fields,
)

PSEUDO: Headers = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", b"/")]

names = st.one_of(
    st.sampled_from([b":path", b"cookie", b"host", b"te", b"content-length", b"connection", b"x-a", b"expect"]),
    st.binary(max_size=6),
)
values = st.one_of(st.sampled_from([b"a", b"1", b"trailers", b"100-continue", b""]), st.binary(max_size=8))


@given(st.lists(st.tuples(names, values), max_size=6), st.booleans(), st.binary(max_size=8), st.binary(max_size=8))
def test_whatever_passes_can_be_written_as_http1(extra: Headers, ended: bool, target: bytes, authority: bytes) -> None:
    fields = [*PSEUDO[:2], (b":authority", authority), (b":path", b"/" + target), *extra]
    try:
        head = request_head(1, fields, b"2", ended=ended)
    except (MalformedError, UnwantedError):
        return
    line = b"%b %b HTTP/1.1\r\nhost: %b" % (head.method, head.target, head.authority)
    assert line.count(b" ") == 3
    for name, value in head.headers:
        assert name == name.lower()
        assert not set(name) & set(b" :\r\n\0\t")
        assert not set(value) & set(b"\r\n\0")
        assert value == value.strip(b" \t")
        assert name not in (b"host", b"connection", b"transfer-encoding", b"te", b"upgrade")
    lengths = [value for name, value in head.headers if name == b"content-length"]
    assert len(lengths) <= 1
    assert not lengths or head.body_length == int(lengths[0])
    assert head.has_body is not ended
    assert not (ended and head.body_length)
    assert [name for name, _ in head.headers].count(b"cookie") <= 1


OF_A_TUNNEL: Headers = [(b":method", b"CONNECT"), (b":authority", b"A.example:443")]


def test_a_proxy_takes_connect() -> None:
    head = request_head(1, [*OF_A_TUNNEL, (b"proxy-authorization", b"Basic x")], b"2", ended=False, is_proxy=True)
    assert (head.method, head.authority, head.target, head.protocol) == (b"CONNECT", b"a.example:443", b"*", TUNNEL)
    assert head.has_body and head.headers == [(b"proxy-authorization", b"Basic x")]
    with pytest.raises(UnwantedError):
        request_head(1, OF_A_TUNNEL, b"2", ended=False)


@pytest.mark.parametrize("fields", [
    [*OF_A_TUNNEL, (b":scheme", b"https")], [*OF_A_TUNNEL, (b":path", b"/")], OF_A_TUNNEL[:1],
    [OF_A_TUNNEL[0], (b"host", b"a:443")],
    [*OF_A_TUNNEL, (b"content-length", b"1")], [*OF_A_TUNNEL, (b"expect", b"100-continue")],
    [OF_A_TUNNEL[0], (b":authority", b"a@b:1")],
])  # fmt: skip
def test_a_proxy_takes_no_other_connect(fields: Headers) -> None:
    with pytest.raises(MalformedError):
        request_head(1, fields, b"2", ended=False, is_proxy=True)


def test_a_proxy_serves_no_end_no_websocket_and_no_https() -> None:
    with pytest.raises(MalformedError):
        request_head(1, OF_A_TUNNEL, b"2", ended=True, is_proxy=True)
    for fields, status in (
        ([*OF_A_TUNNEL, (b":protocol", b"websocket"), (b":scheme", b"https"), (b":path", b"/")], 501),
        (PSEUDO, 400),
    ):
        with pytest.raises(UnwantedError) as caught:
            request_head(1, fields, b"2", ended=False, is_proxy=True)
        assert caught.value.status == status


def test_expect_is_a_flag_and_only_with_a_body() -> None:
    fields = [*PSEUDO, (b"expect", b"100-Continue")]
    head = request_head(1, fields, b"2", ended=False)
    assert head.expects_continue
    assert head.headers == []
    assert not request_head(1, fields, b"2", ended=True).expects_continue


def test_asterisk_form_is_for_options() -> None:
    fields = [(b":method", b"OPTIONS"), *PSEUDO[1:3], (b":path", b"*")]
    assert request_head(1, fields, b"3", ended=True).target == b"*"


@pytest.mark.parametrize(
    "trailers",
    [[(b":path", b"/")], [(b"host", b"a")], [(b"content-length", b"1")], [(b"te", b"x\n")], [(b"a", b"b")] * 101],
)
def test_bad_trailers(trailers: Headers) -> None:
    with pytest.raises(MalformedError):
        check_trailers(trailers)
    assert len(trailers) <= USUAL.fields_max + 1


def test_responses() -> None:
    assert response_fields(404, [(b"connection", b"x"), (b"a", b"b")]) == [(b":status", b"404"), (b"a", b"b")]
    assert bodiless(b"HEAD", 200)
    assert bodiless(b"GET", 304)
    assert not bodiless(b"GET", 200)


def test_a_budget_has_a_burst_and_comes_back() -> None:
    budget = Budget(burst=3, per_second=2)
    assert [budget.spend(100.0) for _ in range(4)] == [True, True, True, False]
    assert budget.spend(100.5)
    assert not budget.spend(100.6)
    assert [budget.spend(200.0) for _ in range(4)] == [True, True, True, False]


CONNECT: Headers = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *PSEUDO[1:]]


def test_an_extended_connect_is_a_get_that_asks_for_a_protocol() -> None:
    head = request_head(1, CONNECT, b"2", ended=False)
    assert (head.method, head.protocol, head.target, head.has_body) == (b"GET", b"websocket", b"/", True)
    assert request_head(1, PSEUDO, b"2", ended=True).protocol == b""


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([(b":method", b"CONNECT"), (b":authority", b"a:443")], 501),
        ([CONNECT[0], (b":protocol", b"connect-udp"), *CONNECT[2:]], 501),
        ([PSEUDO[0], (b":protocol", b"websocket"), *PSEUDO[1:]], None),
        ([*CONNECT[:2], *CONNECT[3:]], None),
        ([*CONNECT[:3], CONNECT[4]], None),
        (CONNECT[:4], None),
        ([*CONNECT, (b"content-length", b"0")], None),
    ],
    ids=["plain", "another protocol", "no CONNECT", "no scheme", "no authority", "no path", "a length"],
)
def test_what_is_no_extended_connect(fields: Headers, status: int | None) -> None:
    with pytest.raises((UnwantedError, MalformedError)) as caught:
        request_head(1, fields, b"2", ended=False)
    assert getattr(caught.value, "status", None) == status
    with pytest.raises((UnwantedError, MalformedError)):
        request_head(1, CONNECT, b"2", ended=True)
