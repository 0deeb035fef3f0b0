"""HTTP/1.1: each message split at every byte, h11 as the oracle, and a table of what smugglers try."""

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meridian.wire import http1_parts
from meridian.wire.events import (
    TUNNEL,
    ConnectionEnded,
    Data,
    End,
    Event,
    Headers,
    Refused,
    RequestHead,
    Reset,
    Trailers,
)
from meridian.wire.http1 import Http1Server
from meridian.wire.http1_parts import MalformedError


def joined(events: list[Event]) -> list[Event]:
    """Neighbouring pieces of a body as one, so that splits do not show."""
    out: list[Event] = []
    for event in events:
        if isinstance(event, Data) and out and isinstance(out[-1], Data):
            out[-1] = Data(event.stream_id, out[-1].data + event.data)
        else:
            out.append(event)
    return out


def receive(raw: bytes, *, split: int | None = None, step: int | None = None) -> tuple[Http1Server, list[Event]]:
    """What a server makes of `raw`, whole, in two pieces, or in steps."""
    server = Http1Server(b"http")
    if step:
        pieces = [raw[at : at + step] for at in range(0, len(raw), step)]
    else:
        pieces = [raw[:split], raw[split:]] if split is not None else [raw]
    events: list[Event] = []
    for piece in pieces:
        events += server.receive(piece)
    return server, joined(events)


def respond_all(server: Http1Server, events: list[Event]) -> list[Event]:
    """Answers every request and collects what was pipelined behind it."""
    seen: list[Event] = []
    while events:
        seen += events
        for event in events:
            if isinstance(event, End):
                server.respond(event.stream_id, 200, [(b"content-length", b"2")], end=False)
                server.send_data(event.stream_id, b"ok", end=True)
        events = server.receive(b"") if server.ready else []
    return seen


GET = (
    b"GET /a?b=c HTTP/1.1\r\nHost: Shop.Example.com:80\r\nX-One:  1 \t\r\nX-one: 2\r\n"
    b"Connection: x-gone\r\nX-Gone: 1\r\n\r\n"
)
POST = b"POST / HTTP/1.1\r\nhost: a\r\nContent-Length: 10\r\nExpect: 100-Continue\r\n\r\n0123456789"
CHUNKED = (
    b"PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\nTE: trailers\r\n\r\n"
    b"5;ext=1\r\nhello\r\nB\r\n world, all\r\n0\r\nX-Sum: 1\r\nHost: evil\r\n\r\n"
)
EXPECTED: dict[bytes, list[Event]] = {
    GET: [
        RequestHead(1, b"GET", b"http", b"shop.example.com:80", b"/a?b=c", [(b"x-one", b"1"), (b"x-one", b"2")],
                    False, 0, b"1.1"),
        End(1),
    ],
    POST: [
        RequestHead(1, b"POST", b"http", b"a", b"/", [], True, 10, b"1.1", expects_continue=True),
        Data(1, b"0123456789"),
        End(1),
    ],
    CHUNKED: [
        RequestHead(1, b"PUT", b"http", b"a", b"/x", [], True, None, b"1.1"),
        Data(1, b"hello world, all"),
        Trailers(1, [(b"x-sum", b"1")]),
        End(1),
    ],
}  # fmt: skip


@pytest.mark.parametrize("raw", EXPECTED, ids=["get", "post", "chunked"])
def test_a_request_means_the_same_split_anywhere(raw: bytes) -> None:
    for split in range(len(raw) + 1):
        assert receive(raw, split=split)[1] == EXPECTED[raw], split
    assert receive(raw, step=1)[1] == EXPECTED[raw]


@pytest.mark.parametrize("step", [1, 3, 7, 1000])
def test_pipelined_requests_wait_and_come_in_order(step: int) -> None:
    server = Http1Server(b"http")
    raw = GET + b"\r\n" + POST + CHUNKED + GET
    events: list[Event] = []
    for at in range(0, len(raw), step):
        events += respond_all(server, server.receive(raw[at : at + step]))
    heads = [event for event in events if isinstance(event, RequestHead)]
    assert [head.method for head in heads] == [b"GET", b"POST", b"PUT", b"GET"]
    assert [head.stream_id for head in heads] == [1, 2, 3, 4]
    assert server.take_output().count(b"HTTP/1.1 200 OK\r\n") == 4 and not server.held


def test_what_is_pipelined_is_not_looked_at() -> None:
    server, events = receive(GET + b"garbage\0\r\n\r\n")
    assert events == EXPECTED[GET] and server.held and not server.closing
    server.respond(1, 204, [], end=True)
    assert isinstance(server.receive(b"")[-1], Refused)


HOST = b"Host: a\r\n"
REFUSED = {
    "both framings": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both, other order": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n",
    "two equal lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\n",
    "a list of lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4, 4\r\n\r\n",
    "a signed length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\n",
    "a negative length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -4\r\n\r\n",
    "a hexadecimal length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x4\r\n\r\n",
    "an empty length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n",
    "a huge length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "chunked in 1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "chunked not last": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
    "nearly chunked": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
    "chunked after a tab": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
    "space before a colon": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n",
    "space before a name": b"POST / HTTP/1.1\r\n Host: a\r\n\r\n",
    "a folded line": b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n",
    "a folded framing line": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n",
    "LF alone": b"GET / HTTP/1.1\nHost: a\n\r\n\r\n",
    "LF alone after a field": b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\nContent-Length: 3\r\n\r\n",
    "CR alone in a value": b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\rContent-Length: 3\r\n\r\n",
    "NUL in a value": b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\x002\r\n\r\n",
    "a control byte in a value": b"GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n",
    "DEL in a value": b"GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n",
    "a name that is no token": b"GET / HTTP/1.1\r\nHost: a\r\nX(1): 1\r\n\r\n",
    "no name": b"GET / HTTP/1.1\r\nHost: a\r\n: 1\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "a host with a path": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "a host with userinfo": b"GET / HTTP/1.1\r\nHost: me@a\r\n\r\n",
    "a list of hosts": b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
    "another host in the target": b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "userinfo in the target": b"GET http://me:pw@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "a fragment": b"GET /#x HTTP/1.1\r\nHost: a\r\n\r\n",
    "a target without slash": b"GET a HTTP/1.1\r\nHost: a\r\n\r\n",
    "a star without OPTIONS": b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    "two spaces": b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a tab": b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "a space at the end": b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
    "a space at the start": b" GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "two empty lines before": b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "an LF before": b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a byte above 127": b"GET /\xe9 HTTP/1.1\r\nHost: a\r\n\r\n",
    "no version": b"GET /\r\nHost: a\r\n\r\n",
    "version 0.9": b"GET / HTTP/0.9\r\nHost: a\r\n\r\n",
    "version 2.0": b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "version 1.2": b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
    "an unknown method": b"GARBAGE / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a method in lower case": b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
}
_CHUNKS = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
REFUSED_BODIES = {
    "a size that is no number": b"g\r\n",
    "a size with a prefix": b"0x5\r\nhello\r\n",
    "a signed size": b"+5\r\nhello\r\n",
    "an empty size": b"\r\nhello\r\n",
    "a space after the size": b"5 \r\nhello\r\n",
    "a space before the size": b" 5\r\nhello\r\n",
    "a huge size": b"fffffffffffffffff\r\n",
    "LF after the size": b"5\nhello\r\n",
    "CR in an extension": b"5;a\rb\r\nhello\r\n",
    "a long extension": b"5;" + b"a" * 300 + b"\r\nhello\r\n",
    "a chunk that is longer": b"5\r\nhello!\r\n",
    "a chunk without CR": b"5\r\nhello\n",
    "a trailer that is none": b"0\r\nnonsense\r\n\r\n",
    "a folded trailer": b"0\r\nX: 1\r\n 2\r\n\r\n",
    "LF in trailers": b"0\r\nX: 1\n\r\n",
    "too many trailers": b"0\r\n" + b"X: 1\r\n" * 101 + b"\r\n",
    "an endless trailer": b"0\r\nX: " + b"a" * 70_000,
}


@pytest.mark.parametrize("raw", REFUSED.values(), ids=REFUSED)
def test_what_can_be_read_in_two_ways_is_refused(raw: bytes) -> None:
    for step in (None, 1):
        server, events = receive(raw, step=step)
        assert len(events) == 1 and isinstance(events[0], Refused) and events[0].status == 400, events
        assert server.closing
        output = server.take_output()
        assert output.startswith(b"HTTP/1.1 400 Bad Request\r\n") and b"connection: close\r\n" in output
        assert server.receive(GET) == [], "nothing is read after it"


@pytest.mark.parametrize("raw", REFUSED_BODIES.values(), ids=REFUSED_BODIES)
def test_a_body_that_is_not_chunked_well_is_refused(raw: bytes) -> None:
    for step in (None, 1):
        server, events = receive(_CHUNKS + raw, step=step)
        assert isinstance(events[-2], Reset) and isinstance(events[-1], Refused), events
        assert not any(isinstance(event, End) for event in events)
        assert server.take_output().startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /" + b"a" * 16_384 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET /" + b"a" * 20_000, 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 65_536 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 11_000, 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 100 + b"\r\n", 431),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
    ],
)
def test_limits_have_a_status_of_their_own(raw: bytes, status: int) -> None:
    _, events = receive(raw)
    assert [event.status for event in events if isinstance(event, Refused)] == [status]


def test_what_is_just_within_the_limits_is_taken() -> None:
    target = b"/" + b"a" * (16 * 1024 - 1)
    raw = b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 99 + b"\r\n"
    head = receive(raw)[1][0]
    assert isinstance(head, RequestHead) and head.target == target and len(head.headers) == 99


@pytest.mark.parametrize(
    ("line", "host", "authority", "target"),
    [
        (b"GET http://A:81/x?y HTTP/1.1", b"a:81", b"a:81", b"/x?y"),
        (b"GET HTTPS://a HTTP/1.1", b"a", b"a", b"/"),
        (b"GET http://a?x HTTP/1.1", b"a", b"a", b"/?x"),
        (b"OPTIONS http://a HTTP/1.1", b"a", b"a", b"*"),
        (b"OPTIONS * HTTP/1.1", b"a", b"a", b"*"),
        (b"GET //x HTTP/1.1", b"[::1]:8080", b"[::1]:8080", b"//x"),
        (b"GET / HTTP/1.1", b"", b"", b"/"),
    ],
)
def test_the_forms_of_a_target(line: bytes, host: bytes, authority: bytes, target: bytes) -> None:
    head = receive(line + b"\r\nHost: " + host + b"\r\n\r\n")[1][0]
    assert isinstance(head, RequestHead) and (head.authority, head.target) == (authority, target)


def test_an_upgrade_does_not_hide_the_body() -> None:
    raw = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc" + GET
    server, events = receive(raw)
    head = events[0]
    assert isinstance(head, RequestHead) and head.method == b"POST" and head.headers == []
    assert events[1:] == [Data(1, b"abc"), End(1)] and server.held == GET


# Answers


def answer(raw: bytes, headers: Headers, *pieces: bytes, status: int = 200) -> tuple[bytes, Http1Server]:
    """What goes out for one request."""
    server, _ = receive(raw)
    server.respond(1, status, headers, end=not pieces)
    for at, piece in enumerate(pieces):
        server.send_data(1, piece, end=at == len(pieces) - 1)
    return server.take_output(), server


LENGTH_5: Headers = [(b"content-length", b"5")]
HTTP_10 = b"GET / HTTP/1.0\r\n\r\n"
HTTP_10_KEPT = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("output", "closing", "sent"),
    [
        (answer(GET, LENGTH_5, b"hel", b"lo"), False, OK + b"content-length: 5\r\n\r\nhello"),
        (answer(GET, [], b"hel", b"lo"), False,
         OK + b"transfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"),
        (answer(GET, [], b"hel", b""), False, OK + b"transfer-encoding: chunked\r\n\r\n3\r\nhel\r\n0\r\n\r\n"),
        (answer(GET, []), False, OK + b"content-length: 0\r\n\r\n"),
        (answer(CLOSE, LENGTH_5, b"hello"), True, OK + b"content-length: 5\r\nconnection: close\r\n\r\nhello"),
        (answer(HTTP_10, LENGTH_5, b"hello"), True, OK + b"content-length: 5\r\nconnection: close\r\n\r\nhello"),
        (answer(HTTP_10_KEPT, LENGTH_5, b"hello"), False,
         OK + b"content-length: 5\r\nconnection: keep-alive\r\n\r\nhello"),
        (answer(HTTP_10_KEPT, [], b"hel", b"lo"), True, OK + b"connection: close\r\n\r\nhello"),
        (answer(HEAD, LENGTH_5), False, OK + b"content-length: 5\r\n\r\n"),
        (answer(HEAD, []), False, OK + b"\r\n"),
        (answer(GET, LENGTH_5, status=204), False, b"HTTP/1.1 204 No Content\r\n\r\n"),
        (answer(GET, LENGTH_5, status=304), False, b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n"),
        (answer(GET, [], status=599), False, b"HTTP/1.1 599 \r\ncontent-length: 0\r\n\r\n"),
    ],
)  # fmt: skip
def test_how_a_response_is_framed(output: tuple[bytes, Http1Server], closing: bool, sent: bytes) -> None:
    assert output[0] == sent and output[1].closing is closing


def test_trailers_go_to_clients_that_take_them() -> None:
    for raw, expected in ((CHUNKED, b"0\r\nx-sum: 1\r\n\r\n"), (GET, b"0\r\n\r\n")):
        server, _ = receive(raw)
        server.respond(1, 200, [], end=False)
        server.send_data(1, b"x", end=False)
        server.send_trailers(1, [(b"x-sum", b"1"), (b"content-length", b"3")])
        assert server.take_output().endswith(b"1\r\nx\r\n" + expected)


def test_an_answer_before_the_end_of_the_request_ends_the_connection() -> None:
    server, _ = receive(POST[:-4])
    server.respond(1, 403, [], end=True)
    assert server.closing and server.unread and b"connection: close" in server.take_output()
    assert server.receive(b"6789" + GET) == []


def test_informational_answers_and_drain() -> None:
    server, _ = receive(POST)
    server.inform(1, 100, [])
    server.shut_down()
    assert not server.closing
    server.respond(1, 200, [], end=True)
    assert server.take_output() == (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    )
    assert server.closing
    server, _ = receive(HTTP_10)
    server.inform(1, 103, [])
    assert server.take_output() == b""


def test_a_line_break_in_a_field_is_never_written() -> None:
    server, _ = receive(GET)
    with pytest.raises(MalformedError):
        server.respond(1, 200, [(b"x", b"1\r\ncontent-length: 3")], end=True)


def test_the_end_of_the_connection() -> None:
    server, _ = receive(POST[:-4])
    assert [type(event) for event in server.receive_eof()] == [Reset, ConnectionEnded]
    server = Http1Server(b"http")
    assert [type(event) for event in server.receive_eof()] == [ConnectionEnded]


# The oracle

_token = st.text("abcdefgXYZ-", min_size=1, max_size=8).map(lambda name: b"x-" + name.encode())
_value = st.binary(max_size=20).map(lambda raw: bytes(b for b in raw if b in b"\t" or 32 <= b != 127).strip(b" \t"))
_fields = st.lists(st.tuples(_token, _value), max_size=8)
_pieces = st.lists(st.binary(min_size=1, max_size=300), max_size=5)


@settings(max_examples=150, deadline=None)
@given(_fields, _pieces, st.booleans(), st.integers(1, 50))
def test_what_h11_sends_is_read_alike(fields: Headers, pieces: list[bytes], chunked: bool, step: int) -> None:
    sender = h11.Connection(h11.CLIENT)
    body = b"".join(pieces)
    framing = (b"Transfer-Encoding", b"chunked") if chunked else (b"Content-Length", str(len(body)).encode())
    raw = sender.send(h11.Request(method="POST", target="/p", headers=[(b"Host", b"a"), framing, *fields])) or b""
    for piece in pieces:
        raw += sender.send(h11.Data(data=piece)) or b""
    raw += sender.send(h11.EndOfMessage()) or b""
    events = receive(raw, step=step)[1]
    head = events[0]
    assert isinstance(head, RequestHead)
    assert head.headers == [(name.lower(), value) for name, value in fields]
    assert b"".join(event.data for event in events if isinstance(event, Data)) == body and events[-1] == End(1)


@settings(max_examples=150, deadline=None)
@given(_fields, _pieces, st.booleans())
def test_what_we_send_h11_reads_alike(fields: Headers, pieces: list[bytes], chunked: bool) -> None:
    body = b"".join(pieces)
    length: Headers = [] if chunked else [(b"content-length", str(len(body)).encode())]
    lower = [(name.lower(), value) for name, value in fields]
    output, _ = answer(GET, [*length, *lower], *pieces, b"")
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(output)
    response = reader.next_event()
    assert isinstance(response, h11.Response)
    assert [tuple(field) for field in response.headers if field[0].startswith(b"x-")] == lower
    got = b""
    while isinstance(event := reader.next_event(), h11.Data):
        got += bytes(event.data)
    assert got == body and isinstance(event, h11.EndOfMessage)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([GET, POST, CHUNKED]), st.data())
def test_what_we_take_of_damaged_requests_h11_reads_alike(raw: bytes, data: st.DataObject) -> None:
    """Bytes are changed, removed and put in. We may refuse more than h11, never read something else."""
    damaged = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        byte = data.draw(st.sampled_from(list(b"\r\n :;,\t\x00\x0b\x7f\xff0a+")))
        match data.draw(st.sampled_from("cri")):
            case "c":
                damaged[at] = byte
            case "r":
                del damaged[at]
            case _:
                damaged.insert(at, byte)
    events = receive(bytes(damaged))[1]
    if not events or not isinstance(events[0], RequestHead) or not isinstance(events[-1], End):
        return
    oracle = h11.Connection(h11.SERVER)
    oracle.receive_data(bytes(damaged))
    request = oracle.next_event()
    assert isinstance(request, h11.Request)
    head = events[0]
    assert (request.method, request.http_version) == (head.method, head.version)
    got = b""
    while isinstance(event := oracle.next_event(), h11.Data):
        got += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage)
    assert got == b"".join(one.data for one in events if isinstance(one, Data))


@pytest.mark.parametrize("request_line", [b"GET / HTTP/1.1", b"HEAD / HTTP/1.1", b"GET / HTTP/1.0"])
@pytest.mark.parametrize("status", [200, 204, 304, 404])
@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize("body", [b"", b"abc"])
def test_a_whole_answer_is_what_its_parts_would_be(request_line: bytes, status: int, length: bool, body: bytes) -> None:
    headers: Headers = [(b"x", b"y"), *([(b"content-length", b"%d" % len(body))] if length else [])]
    whole, parts = Http1Server(b"http"), Http1Server(b"http")
    for codec in (whole, parts):
        codec.receive(request_line + b"\r\nhost: a\r\n\r\n")
    whole.answer(1, status, list(headers), body)
    parts.respond(1, status, list(headers), end=False)
    parts.send_data(1, body, end=True)
    assert whole.take_output() == parts.take_output() and whole.closing == parts.closing


def test_lines_that_are_known_are_read_as_if_they_were_new() -> None:
    for _ in range(2):
        for line, field in (
            (b"X-A:b", (b"x-a", b"b")), (b"x-a: \t b \t", (b"x-a", b"b")), (b"X-Empty:", (b"x-empty", b"")),
            (b"X-Colons: a: b", (b"x-colons", b"a: b")), (b"Connection: keep-alive", None), (b"TE: trailers", None),
        ):  # fmt: skip
            codec = Http1Server(b"http")
            for turn in range(2):  # llhttp, which all connections share, is of use again after each of them
                head, end = codec.receive(b"GET / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n")
                assert isinstance(head, RequestHead) and isinstance(end, End)
                assert head.headers == ([field] if field else []) and head.stream_id == turn + 1
                codec.answer(head.stream_id, 200, [], b"")


def test_ever_new_lines_do_not_fill_the_memory() -> None:
    codec = Http1Server(b"http")
    for number in range(300):
        lines = b"".join(b"x-%d: %d\r\n" % (number, field) for field in range(90))
        head = codec.receive(b"GET / HTTP/1.1\r\nhost: a\r\n" + lines + b"\r\n")[0]
        assert isinstance(head, RequestHead) and len(head.headers) == 90
        codec.answer(head.stream_id, 200, [], b"")
    assert len(http1_parts._known_lines) <= 4096


def test_a_secret_is_not_kept_beyond_its_request() -> None:
    lines = (b"GET / HTTP/1.1", b"host: a", b"x-plain: yes", b"Cookie: session=s3cret", b"authorization: Basic abc")
    Http1Server(b"http").receive(b"\r\n".join((*lines, b"", b"")))
    kept = b"".join(http1_parts._known_lines).lower()
    assert b"x-plain" in kept
    assert b"s3cret" not in kept
    assert b"basic" not in kept


UPGRADE = b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nX: 1\r\n\r\n"


def test_an_upgrade_is_asked_for_and_what_comes_behind_it_waits_for_the_answer() -> None:
    server = Http1Server(b"http")
    head = RequestHead(1, b"GET", b"http", b"a", b"/chat", [(b"x", b"1")], True, None, b"1.1", protocol=b"websocket")
    assert server.receive(UPGRADE + b"\x81\x00") == [head] and server.behind and not server.ready
    server.upgrade(1, [(b"x-own", b"2")])
    sent = b"HTTP/1.1 101 Switching Protocols\r\nx-own: 2\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    assert server.take_output() == sent
    assert server.ready and server.receive(b"") == [Data(1, b"\x81\x00")]
    assert server.receive(b"GET /") == [Data(1, b"GET /")]
    server.send_data(1, b"raw", end=False)
    server.send_data(1, b"", end=True)
    assert server.take_output() == b"raw" and server.closing


def test_an_upgrade_that_is_not_agreed_to_leaves_http_as_it_was() -> None:
    server = Http1Server(b"http")
    server.receive(UPGRADE + GET)
    server.answer(1, 403, [(b"content-length", b"2")], b"no")
    assert server.take_output().endswith(b"\r\n\r\nno") and server.ready and not server.closing
    assert [type(event) for event in server.receive(b"")] == [RequestHead, End]
    server.upgrade(2, [])
    assert server.take_output() == b"", "nobody has asked for it"


@pytest.mark.parametrize(
    "raw",
    [
        UPGRADE.replace(b"keep-alive, Upgrade", b"keep-alive"),
        UPGRADE.replace(b"WebSocket", b"h2c"),
        UPGRADE.replace(b"GET", b"POST"),
        UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0"),
        UPGRADE.replace(b"X: 1", b"Content-Length: 0"),
        UPGRADE.replace(b"X: 1", b"Content-Length: 1") + b"x",
    ],
)
def test_what_asks_for_no_upgrade(raw: bytes) -> None:
    head = Http1Server(b"http").receive(raw)[0]
    asks = raw.endswith(b"Content-Length: 0\r\n\r\n")
    assert isinstance(head, RequestHead) and bool(head.protocol) is asks


@pytest.mark.parametrize(("raw", "authority", "target", "protocol"), [
    (b"GET http://A.example/b?c HTTP/1.1\r\nHost: other\r\n\r\n", b"a.example", b"/b?c", b""),
    (b"GET http://a.example:8080 HTTP/1.0\r\n\r\n", b"a.example:8080", b"/", b""),
    (b"GET /b HTTP/1.1\r\nHost: a.example\r\n\r\n", b"", b"/b", b""),
    (b"CONNECT A.example:443 HTTP/1.1\r\nHost: other\r\n\r\n", b"a.example:443", b"*", TUNNEL),
    (b"CONNECT [::1]:443 HTTP/1.0\r\n\r\n", b"[::1]:443", b"*", TUNNEL),
    (b"GET http://a/ HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", b"a", b"/", b""),
])  # fmt: skip
def test_a_proxy_takes_what_names_its_destination(raw: bytes, authority: bytes, target: bytes, protocol: bytes) -> None:
    for at in range(len(raw)):
        server = Http1Server(b"http", is_proxy=True)
        head = (server.receive(raw[:at]) + server.receive(raw[at:]))[0]
        assert isinstance(head, RequestHead)
        assert (head.authority, head.target, head.protocol) == (authority, target, protocol)
        assert head.has_body is bool(protocol)


@pytest.mark.parametrize("line", [
    b"GET https://a/ HTTP/1.1", b"GET ftp://a/ HTTP/1.1", b"GET http://u@a/ HTTP/1.1", b"GET http:///x HTTP/1.1",
    b"CONNECT / HTTP/1.1", b"CONNECT http://a:1/ HTTP/1.1", b"CONNECT a:1/x HTTP/1.1",
    b"CONNECT a:1 HTTP/1.1\r\nContent-Length: 1", b"CONNECT a:1 HTTP/1.1\r\nTransfer-Encoding: chunked",
])  # fmt: skip
def test_a_proxy_refuses_what_names_none(line: bytes) -> None:
    server = Http1Server(b"http", is_proxy=True)
    (event,) = server.receive(line + b"\r\nHost: x\r\n\r\n")
    assert isinstance(event, Refused) and event.status == 400 and server.closing


def test_a_tunnel_is_agreed_to_by_200_and_then_bytes() -> None:
    server = Http1Server(b"http", is_proxy=True)
    (head,) = server.receive(b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\nGET / HTTP/1.1\r\n\r\n")
    assert isinstance(head, RequestHead) and not server.ready, "what follows waits for the answer"
    server.upgrade(head.stream_id, [])
    assert server.take_output() == b"HTTP/1.1 200 OK\r\n\r\n" and server.ready
    assert server.receive(b"") == [Data(1, b"GET / HTTP/1.1\r\n\r\n")] and server.receive(b"\0") == [Data(1, b"\0")]
    server.send_data(1, b"any", end=True)
    assert server.take_output() == b"any" and server.closing


def test_a_tunnel_that_is_refused_leaves_the_connection_for_another_try() -> None:
    server = Http1Server(b"http", is_proxy=True)
    server.receive(b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n")
    server.answer(1, 407, [(b"content-length", b"1")], b"x")
    assert not server.closing
    (head,) = server.receive(b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nProxy-Authorization: Basic x\r\n\r\n")
    assert isinstance(head, RequestHead) and head.headers == [(b"proxy-authorization", b"Basic x")]
