"""HTTP/1.1 to upstreams: each response split at every byte, and what ends a connection's use."""

import pytest
from tests.wire.test_http1 import joined

from meridian.wire.events import (
    Data,
    End,
    Event,
    Informational,
    Reset,
    ResponseHead,
    Trailers,
)
from meridian.wire.http1_client import Http1Client
from meridian.wire.http1_parts import MalformedError

RESPONSES: dict[bytes, tuple[list[Event], bool]] = {
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: 1\r\n\r\nhello": (
        [ResponseHead(7, 200, [(b"x", b"1"), (b"content-length", b"5")], True, 5, True), Data(7, b"hello"), End(7)],
        True,
    ),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n"
    b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n": (
        [ResponseHead(7, 200, [], True, None, True), Data(7, b"hello"), Trailers(7, [(b"x-sum", b"1")]), End(7)],
        True,
    ),
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n": (
        [Informational(7, 100, []), Informational(7, 103, [(b"link", b"x")]),
         ResponseHead(7, 204, [], False, None, True), End(7)],
        True,
    ),
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n": (
        [ResponseHead(7, 200, [(b"content-length", b"0")], False, 0, False), End(7)],
        False,
    ),
    b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab": (
        [ResponseHead(7, 200, [(b"content-length", b"2")], True, 2, False), Data(7, b"ab"), End(7)],
        False,
    ),
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nab": (
        [ResponseHead(7, 200, [(b"content-length", b"2")], True, 2, True), Data(7, b"ab"), End(7)],
        True,
    ),
}  # fmt: skip


def asked(method: bytes = b"GET") -> Http1Client:
    """A client codec that awaits a response."""
    client = Http1Client()
    client.request(7, method, b"a", b"/", [], body_length=0, has_body=False)
    client.take_output()
    return client


@pytest.mark.parametrize("raw", RESPONSES)
def test_a_response_means_the_same_split_anywhere(raw: bytes) -> None:
    expected, reusable = RESPONSES[raw]
    for split in range(len(raw) + 1):
        client = asked()
        events = client.receive(raw[:split]) if split else []
        events += client.receive(raw[split:]) if raw[split:] else []
        assert joined(events) == expected, split
        assert client.is_reusable() is reusable
    client = asked()
    assert joined([event for at in range(len(raw)) for event in client.receive(raw[at : at + 1])]) == expected


def test_the_answer_to_head_has_no_body_whatever_it_says() -> None:
    for framing in (b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b""):
        client = asked(b"HEAD")
        events = client.receive(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n")
        assert [type(event) for event in events] == [ResponseHead, End] and client.is_reusable()
        client.receive(b"hello")
        assert not client.is_reusable(), "bytes that nobody asked for"


def test_a_body_until_the_close_is_whole_only_by_the_close() -> None:
    client = asked()
    assert [type(event) for event in client.receive(b"HTTP/1.1 200 OK\r\n\r\nhel")] == [ResponseHead, Data]
    assert client.receive(b"lo") == [Data(7, b"lo")]
    assert client.receive_eof() == [End(7)] and not client.is_reusable()
    client = asked()
    client.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")
    assert [type(event) for event in client.receive_eof()] == [Reset]


def test_a_response_before_the_end_of_the_request_is_not_followed_by_another() -> None:
    client = Http1Client()
    client.request(1, b"POST", b"a", b"/", [], body_length=10, has_body=True)
    assert client.receive(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")[-1] == End(1)
    assert not client.is_reusable()


def test_requests_are_framed_by_what_is_known_of_them() -> None:
    client = Http1Client()
    client.request(1, b"POST", b"a", b"/", [(b"x", b"1")], body_length=None, has_body=True)
    client.send_data(1, b"abc", end=False)
    client.send_trailers(1, [(b"x-sum", b"1"), (b"host", b"evil")])
    assert client.take_output() == (
        b"POST / HTTP/1.1\r\nhost: a\r\nx: 1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n"
    )
    client = Http1Client()
    client.request(1, b"POST", b"a", b"/", [], body_length=0, has_body=False)
    assert client.take_output() == b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"


def test_a_line_break_in_a_field_is_never_written() -> None:
    client = Http1Client()
    for bad in (b"1\n2", b"1\r2", b"1\r\n"):
        with pytest.raises(MalformedError):
            client.request(1, b"GET", b"a", b"/", [(b"x", bad)], body_length=0, has_body=False)
    assert client.take_output() == b"" and client.is_reusable()


def test_an_upstream_agrees_only_to_what_was_asked_for() -> None:
    agreed = b"HTTP/1.1 101 \r\nConnection: upgrade\r\nUpgrade: websocket\r\nX: 1\r\n\r\n"
    client = Http1Client()
    client.request(1, b"GET", b"a", b"/", [], body_length=None, has_body=False, protocol=b"websocket")
    assert client.take_output().endswith(b"\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
    assert client.receive(agreed + b"raw") == [ResponseHead(1, 101, [(b"x", b"1")], True, None, False), Data(1, b"raw")]
    client.send_data(1, b"raw", end=False)
    assert client.take_output() == b"raw" and client.upgraded
    assert client.receive_eof() == [End(1)] and not client.is_reusable()
    for protocol, raw in ((b"", agreed), (b"websocket", agreed.replace(b"websocket", b"h2c"))):
        client = Http1Client()
        client.request(1, b"GET", b"a", b"/", [], body_length=None, has_body=False, protocol=protocol)
        (reset,) = client.receive(raw)
        assert isinstance(reset, Reset) and client.malformed and not client.upgraded
