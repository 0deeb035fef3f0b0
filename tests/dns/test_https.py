"""DNS over HTTPS as its proxy speaks it to us: methods, media types, sizes, freshness, and for whom an answer is."""

import base64
import http.client
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.edns
import dns.message
import dns.rcode
import pytest
from tests.dns.running import Running, running
from tests.dns.world import make_view, make_zones

from meridian_dns.https import message_in
from meridian_dns.message import PADDING_BLOCK_BYTES
from meridian_dns.server import DnsServer

DNS = "application/dns-message"


class Proxy(http.client.HTTPConnection):
    """A connection to the Unix socket at `path`."""

    def __init__(self, path: str) -> None:
        super().__init__("dns.example")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(5)
        self.sock.connect(self._path)


@pytest.fixture(params=["asyncio", "uvloop"])
def here(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Running, Proxy]]:
    server = DnsServer(make_zones(), make_view(), None, draw=lambda: 0)
    path = str(tmp_path / "dns.sock")
    with running(server, loop=request.param, https_path=path) as started:
        proxy = Proxy(path)
        yield started, proxy
        proxy.close()
    assert server.counters.errors == 0


def wire_of(name: str, type_: str = "A", **options: Any) -> bytes:
    return dns.message.make_query(f"{name}.gw.example.com", type_, id=0, **options).to_wire()


def ask(
    proxy: Proxy, wire: bytes, method: str = "POST", *, client: str = "203.0.113.7", type_: str = DNS
) -> tuple[http.client.HTTPResponse, bytes]:
    headers = {"x-real-ip": client} | ({"content-type": type_} if type_ else {})
    coded = base64.urlsafe_b64encode(wire).rstrip(b"=").decode()
    path, body = ("/dns-query", wire) if method == "POST" else (f"/dns-query?x=1&dns={coded}", None)
    proxy.request(method, path, body, headers)
    response = proxy.getresponse()
    return response, response.read()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_asks_by_either_method_on_one_connection(here: tuple[Running, Proxy], method: str) -> None:
    started, proxy = here
    for _ in range(3):
        response, body = ask(proxy, wire_of("fixed", use_edns=0), method)
        assert (response.status, response.headers["content-type"]) == (200, DNS)
        assert len(dns.message.from_wire(body).answer[0]) == 2
        assert len(body) % PADDING_BLOCK_BYTES == 0, "nobody on the way learns its length"
    assert started.server.counters.queries["https"] == 3
    response, body = ask(proxy, wire_of("fixed"), "HEAD")
    assert (response.status, body) == (200, b"") and int(response.headers["content-length"]) > 12


@pytest.mark.parametrize(
    ("name", "type_", "rcode", "cache"),
    [
        ("fixed", "A", dns.rcode.NOERROR, "max-age=60"),
        ("www", "A", dns.rcode.NOERROR, "private, max-age=30"),  # of 300 and 30; steered
        ("missing", "A", dns.rcode.NXDOMAIN, "max-age=60"),
        ("fixed", "TXT", dns.rcode.NOERROR, "max-age=60"),
        ("mars", "A", dns.rcode.SERVFAIL, "max-age=0"),
        ("x.example.net", "AXFR", dns.rcode.REFUSED, "max-age=0"),
    ],
)
def test_answers_are_fresh_for_as_long_as_their_records(
    here: tuple[Running, Proxy], name: str, type_: str, rcode: int, cache: str
) -> None:
    response, body = ask(here[1], wire_of(name, type_))
    answer = dns.message.from_wire(body)
    assert answer.rcode() == rcode and response.headers["cache-control"] == cache
    if not answer.answer and answer.authority:
        assert answer.authority[0].ttl == 60


def test_an_answer_is_for_the_client_that_the_proxy_names(here: tuple[Running, Proxy]) -> None:
    def first(client: str, **options: Any) -> str:
        answer = dns.message.from_wire(ask(here[1], wire_of("shop", **options), client=client)[1])
        return str(answer.answer[0][0])

    assert (first("203.0.113.7"), first("198.51.100.7"), first("2001:db8:e::1")) == (
        "192.0.2.11", "192.0.2.21", "192.0.2.11",
    )  # fmt: skip
    subnet = dns.edns.ECSOption("198.51.100.0", 24)
    assert first("203.0.113.7", options=[subnet]) == "192.0.2.21", "unless the query names another"


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status"),
    [
        ("PUT", "/dns-query", {"content-type": DNS}, wire_of("fixed"), 405),
        ("DELETE", "/dns-query", {}, None, 405),
        ("POST", "/dns-query", {"content-type": "text/plain"}, wire_of("fixed"), 415),
        ("POST", "/dns-query", {}, wire_of("fixed"), 415),
        ("POST", "/dns-query", {"content-type": DNS}, bytes(65_536), 413),
        ("POST", "/dns-query", {"content-type": DNS}, b"", 400),
        ("POST", "/dns-query", {"content-type": DNS}, b"short", 400),
        ("POST", "/dns-query", {"content-type": DNS}, wire_of("fixed")[:2] + b"\x80" + wire_of("fixed")[3:], 400),
        ("GET", "/dns-query", {}, None, 400),
        ("GET", "/dns-query?dns", {}, None, 400),
        ("GET", "/dns-query?dns=", {}, None, 400),
        ("GET", "/dns-query?dns=AAA%2B", {}, None, 400),
        ("GET", "/dns-query?dns=AAAA=", {}, None, 400),
    ],
)
def test_what_can_be_no_query_is_told_by_its_status(
    here: tuple[Running, Proxy], method: str, path: str, headers: dict[str, str], body: bytes | None, status: int
) -> None:
    started, proxy = here
    proxy.request(method, path, body, {"x-real-ip": "203.0.113.7", **headers})
    response = proxy.getresponse()
    assert (response.status, response.read()) == (status, b"")
    assert response.headers["cache-control"] == "no-store"
    assert status != 405 or response.headers["allow"] == "GET, HEAD, POST"
    assert ask(proxy, wire_of("fixed"))[0].status == 200, "the connection lives"
    assert started.server.counters.dropped <= 1


def test_who_does_not_say_for_whom_it_asks_is_not_our_proxy(here: tuple[Running, Proxy]) -> None:
    for client in ("", "somebody", "127.0.0.1, 203.0.113.7"):
        assert ask(here[1], wire_of("fixed"), client=client)[0].status == 400


def test_media_types_have_parameters_and_bodies_come_in_pieces(here: tuple[Running, Proxy]) -> None:
    _, proxy = here
    assert ask(proxy, wire_of("fixed"), type_="Application/DNS-Message; v=1")[0].status == 200
    wire = wire_of("fixed")
    head = {"content-type": DNS, "x-real-ip": "203.0.113.7", "transfer-encoding": "chunked"}
    proxy.request("POST", "/", iter([wire[:5], wire[5:]]), head, encode_chunked=True)
    response = proxy.getresponse()
    assert response.status == 200 and len(dns.message.from_wire(response.read()).answer[0]) == 2


def test_who_waits_to_be_asked_for_the_body_is_asked(here: tuple[Running, Proxy]) -> None:
    _, proxy = here
    proxy.connect()
    wire = wire_of("fixed")
    proxy.sock.sendall(
        b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\nx-real-ip: 192.0.2.1\r\ncontent-length: %d\r\n"
        b"content-type: application/dns-message\r\n\r\n" % len(wire)
    )
    assert proxy.sock.recv(100).startswith(b"HTTP/1.1 100")
    proxy.sock.sendall(wire)
    assert proxy.sock.recv(1000).startswith(b"HTTP/1.1 200 OK")


def test_what_is_no_http_is_told_so_and_closed(here: tuple[Running, Proxy]) -> None:
    _, proxy = here
    proxy.connect()
    proxy.sock.sendall(b"\0\1\2\3 hello\r\n\r\n")
    assert proxy.sock.recv(1000).startswith(b"HTTP/1.1 400")
    assert proxy.sock.recv(1000) == b""


def test_finds_the_message_among_other_variables() -> None:
    assert message_in(b"/q?a=b&dns=AAEC&c=d") == b"\0\1\2"
    assert message_in(b"/q?dns=_-8") == b"\xff\xef"
    assert message_in(b"/q?ddns=AAEC") is None
