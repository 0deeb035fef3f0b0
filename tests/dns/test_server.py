"""The server over real UDP and TCP sockets, asked by dnspython and dig."""

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rdtypes.svcbbase
import pytest
from tests.dns.mmdb import write_mmdb
from tests.dns.running import Running, running
from tests.dns.world import make_view, make_zones

from meridian_dns.edns import CookieJar
from meridian_dns.geo import GeoData, Place
from meridian_dns.server import DnsServer
from meridian_dns.throttle import Throttle
from meridian_dns.zone import ZoneSet

EU1, EU2, US1, ASIA1 = "192.0.2.11", "192.0.2.12", "192.0.2.21", "192.0.2.31"


@pytest.fixture(params=["asyncio", "uvloop"])
def here(request: pytest.FixtureRequest) -> Iterator[Running]:
    with running(DnsServer(make_zones(), make_view(), None, draw=lambda: 0), loop=request.param) as started:
        yield started
    assert started.server.counters.errors == 0


def ask(
    here: Running,
    name: str,
    type_: str = "A",
    *,
    subnet: str | None = None,
    tcp: bool = False,
    **options: object,
) -> dns.message.Message:
    if subnet is not None:
        address, _, prefix = subnet.partition("/")
        options["options"] = [dns.edns.ECSOption(address, int(prefix))]
    query = dns.message.make_query(f"{name}.gw.example.com", type_, **options)  # type: ignore[arg-type]  # options
    return send(here, query, tcp=tcp)


def send(here: Running, query: dns.message.Message, *, tcp: bool = False) -> dns.message.Message:
    if tcp:
        return dns.query.tcp(query, here.host, port=here.port, timeout=5)
    return dns.query.udp(query, here.host, port=here.port, timeout=5)


def addresses(reply: dns.message.Message) -> list[str]:
    return [
        record.address for rrset in reply.answer for record in rrset if rrset.rdtype in (1, 28)
    ]  # in the order of the wire


def test_udp_and_tcp_give_the_same_steered_answer(here: Running) -> None:
    for tcp in (False, True):
        reply = ask(here, "Shop", subnet="203.0.113.0/24", tcp=tcp)
        assert reply.rcode() == dns.rcode.NOERROR
        assert reply.flags & dns.flags.AA
        assert not reply.flags & dns.flags.RA
        assert addresses(reply) == [EU1, EU2, US1, ASIA1]
        assert str(reply.question[0].name) == "Shop.gw.example.com."
        assert reply.options == (dns.edns.ECSOption("203.0.113.0", 24, 25),), "asia is near to one half of this /24"
        assert reply.payload == 1232
    assert addresses(ask(here, "shop", subnet="198.51.100.0/24")) == [US1, ASIA1, EU1, EU2]
    assert addresses(ask(here, "www", "AAAA", subnet="198.51.100.0/24"))[0] == "2001:db8::21"


def test_dig_agrees(here: Running) -> None:
    def dig(*words: str) -> str:
        command = ["dig", f"@{here.host}", "-p", str(here.port), "+tries=1", "+time=5", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout

    assert dig("+short", "+subnet=198.51.100.0/24", "shop.gw.example.com", "A").split() == [US1, ASIA1, EU1, EU2]
    assert dig("+short", "+tcp", "+subnet=203.0.113.128/25", "shop.gw.example.com", "A").split()[0] == ASIA1
    full = dig("+subnet=203.0.113.0/24", "shop.gw.example.com", "A")
    assert "CLIENT-SUBNET: 203.0.113.0/24/25" in full
    assert "warning" not in full.lower().replace(";; warning: recursion requested but not available", "")
    assert "status: NOERROR" in dig("+subnet=0", "shop.gw.example.com", "A")
    assert "status: BADVERS" in dig("+edns=1", "+noednsnegotiation", "shop.gw.example.com", "A")
    assert "status: REFUSED" in dig("version.bind", "TXT", "CH")
    assert "status: REFUSED" in dig("www.example.net", "A")
    assert "; Transfer failed." in dig("gw.example.com", "AXFR")
    big = dig("+ignore", "+bufsize=512", "big.gw.example.com", "TXT")
    assert "flags: qr aa tc" in big
    retried = dig("big.gw.example.com", "TXT")
    assert "Truncated, retrying in TCP mode" in retried
    assert "x" * 255 in retried


def test_negative_answers_carry_the_soa(here: Running) -> None:
    for name, type_, rcode in (("missing", "A", dns.rcode.NXDOMAIN), ("empty", "A", dns.rcode.NOERROR)):
        reply = ask(here, name, type_)
        assert reply.rcode() == rcode
        assert not reply.answer
        assert reply.authority[0].rdtype == dns.rdatatype.SOA
        assert reply.authority[0].ttl == reply.authority[0][0].minimum == 60


def test_delegation_over_the_wire(here: Running) -> None:
    reply = ask(here, "host.sub")
    assert not reply.flags & dns.flags.AA
    assert [str(record) for record in reply.authority[0]] == ["ns.sub.gw.example.com.", "ns.other.example.net."]
    assert str(reply.additional[0][0]) == "192.0.2.53"


def test_refuses_what_is_not_its_own(here: Running) -> None:
    for query, rcode in (
        (dns.message.make_query("example.net", "A"), "REFUSED"),
        (dns.message.make_query(".", "NS"), "REFUSED"),
        (dns.message.make_query("version.bind", "TXT", "CH"), "REFUSED"),
        (dns.message.make_query("shop.gw.example.com", "A", "CH"), "REFUSED"),
        (dns.message.make_query("gw.example.com", "AXFR"), "REFUSED"),
        (dns.message.make_query("gw.example.com", "IXFR"), "REFUSED"),
    ):
        assert dns.rcode.to_text(send(here, query).rcode()) == rcode
    for opcode in (dns.opcode.NOTIFY, dns.opcode.STATUS):
        query = dns.message.make_query("gw.example.com", "SOA")
        query.set_opcode(opcode)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(5)
            client.sendto(query.to_wire(), (here.host, here.port))
            reply = client.recv(4096)
        assert reply[3] & 0xF == dns.rcode.NOTIMP


def test_edns(here: Running) -> None:
    plain = ask(here, "shop", use_edns=-1)
    assert plain.edns == -1
    do = ask(here, "shop", want_dnssec=True)
    assert do.ednsflags & dns.flags.DO
    assert ask(here, "shop", use_edns=1).rcode() == dns.rcode.BADVERS
    unknown = ask(here, "shop", options=[dns.edns.GenericOption(dns.edns.OptionType.make(65001), b"whatever")])
    assert unknown.rcode() == dns.rcode.NOERROR
    assert unknown.options == ()


def generic(code: int, payload: bytes = b"") -> dns.edns.GenericOption:
    return dns.edns.GenericOption(dns.edns.OptionType.make(code), payload)


def wire_options(reply: dns.message.Message) -> dict[int, bytes]:
    return {int(option.otype): option.to_wire() or b"" for option in reply.options}


def test_who_answered_cookies_and_keepalive_for_those_who_ask() -> None:
    jar = CookieJar([b"0123456789abcdef"], lambda: 1_700_000_000)
    with running(DnsServer(make_zones(), make_view(), None, server_id=b"node-1", cookies=jar)) as here:
        wanted = [generic(3), generic(10, b"c" * 8), generic(11)]
        for name, rcode in (("shop", 0), ("missing", 3), ("host.sub", 0)):
            by_udp = wire_options(ask(here, name, options=wanted))
            assert by_udp[3] == b"node-1"
            assert jar.is_valid(by_udp[10], "127.0.0.1")
            assert 11 not in by_udp, "keepalive has no meaning over UDP"
            reply = ask(here, name, options=wanted, tcp=True)
            assert reply.rcode() == rcode
            assert wire_options(reply) == by_udp | {11: (100).to_bytes(2, "big")}
        assert wire_options(ask(here, "shop", use_edns=0)) == {}
        assert ask(here, "shop", options=[generic(10, b"short")]).rcode() == dns.rcode.FORMERR
        command = ["dig", f"@{here.host}", "-p", str(here.port), "+nsid", "+tries=1", "+time=5", "shop.gw.example.com"]
        shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
        assert '("node-1")' in shown
        assert "(good)" in shown, "dig checks that its cookie came back"


def test_says_why_where_it_can_be_said(here: Running) -> None:
    def why(reply: dns.message.Message) -> list[tuple[int, str | None]]:
        return [(int(option.code), option.text) for option in reply.options if isinstance(option, dns.edns.EDEOption)]

    for name, class_, code in (("example.net", "IN", 20), ("gw.example.com", "CH", 21)):
        reply = send(here, dns.message.make_query(name, "A", class_, use_edns=0))
        assert reply.rcode() == dns.rcode.REFUSED
        assert why(reply) == [(code, None)]
        assert why(send(here, dns.message.make_query(name, "A", class_, use_edns=-1))) == []
    notify = dns.message.make_query("gw.example.com", "SOA", use_edns=0)
    notify.set_opcode(dns.opcode.NOTIFY)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.sendto(notify.to_wire(), (here.host, here.port))
        reply = dns.message.from_wire(client.recv(4096))
    assert reply.rcode() == dns.rcode.NOTIMP
    assert why(reply) == [(21, None)]
    assert why(ask(here, "mars", use_edns=0)) == [(14, None)]
    assert why(ask(here, "shop", use_edns=0)) == []
    here.on_loop(lambda: here.server.swap(view=make_view("eu out, us out, asia out")))
    assert why(ask(here, "shop", subnet="203.0.113.0/24")) == [(0, "no region is known to serve: all are answered")]


def test_every_kind_of_record_reads_back(here: Running) -> None:
    shown = {
        ("mail", "MX"): "10 mx.wildmail.gw.example.com. 20 mx.example.net.",
        ("_sip._tcp", "SRV"): "10 0 5060 shop.gw.example.com.",
        ("x.wildmail", "MX"): "10 mx.wildmail.gw.example.com.",
        ("eastsvc", "HTTPS"): '1 . alpn="h2" ipv4hint="192.0.2.31"',
    }
    for (name, type_), text in shown.items():
        for _ in range(2):
            reply = ask(here, name, type_)
            assert " ".join(record.to_text() for record in reply.answer[0]) == text
    (service,) = ask(here, "svc", "HTTPS", subnet="198.51.100.0/24").answer[0]
    hints = service.params[dns.rdtypes.svcbbase.ParamKey.IPV4HINT]
    assert list(hints.addresses) == addresses(ask(here, "shop", subnet="198.51.100.0/24"))


@pytest.mark.parametrize("payload", [512, 900, 1232, 4096])
def test_truncates_to_the_clients_size_and_the_rest_comes_by_tcp(here: Running, payload: int) -> None:
    query = dns.message.make_query("big.gw.example.com", "TXT", payload=payload)
    reply = send(here, query)
    assert reply.flags & dns.flags.TC
    assert len(reply.to_wire()) <= payload
    whole, by_tcp = dns.query.udp_with_fallback(query, here.host, port=here.port, timeout=5)
    assert by_tcp
    assert b"".join(whole.answer[0][0].strings) == b"x" * 2000


def test_swap_is_seen_by_the_next_query(here: Running) -> None:
    def first() -> list[str]:
        return addresses(ask(here, "shop", subnet="203.0.113.0/25"))

    assert first() == [EU1, EU2, US1, ASIA1]
    here.on_loop(lambda: here.server.swap(view=make_view("eu1 down", version=2)))
    assert first() == [EU2, US1, ASIA1]
    here.on_loop(lambda: here.server.swap(view=make_view("eu out, us out, asia out", version=3)))
    assert first() == [EU1, EU2, US1, ASIA1], "fails open"
    here.on_loop(lambda: here.server.swap(zones=ZoneSet()))
    assert ask(here, "shop").rcode() == dns.rcode.REFUSED
    assert here.server.holdings.view.version == 3


def test_geo_data_decides_and_its_network_is_the_scope(here: Running, tmp_path: Path) -> None:
    path = tmp_path / "geo.mmdb"
    write_mmdb(path, {"81.16.0.0/12": {"country_code": "CA"}, "127.0.0.0/8": {"country_code": "JP"}})
    assert addresses(ask(here, "shop", subnet="81.17.18.0/24"))[0] == EU1, "without geo data: the record's order"
    here.on_loop(lambda: here.server.swap(geo=GeoData.open(path)))
    reply = ask(here, "shop", subnet="81.17.18.0/24")
    assert addresses(reply) == [US1, ASIA1, EU1, EU2]
    assert reply.options == (dns.edns.ECSOption("81.17.18.0", 24, 12),)
    assert addresses(ask(here, "shop"))[0] == ASIA1, "without a subnet the resolver's own place counts"
    hidden = ask(here, "shop", subnet="0.0.0.0/0")
    assert addresses(hidden)[0] == ASIA1
    assert hidden.options == (dns.edns.ECSOption("0.0.0.0", 0, 0),)
    fixed = ask(here, "fixed", subnet="81.17.18.0/24")
    assert fixed.options == (dns.edns.ECSOption("81.17.18.0", 24, 0),), "this answer is the same for all"


def test_answers_leave_from_the_address_that_was_asked() -> None:
    hosts = ("127.0.0.1", "127.0.0.2", "::1")
    with running(DnsServer(make_zones(), make_view(), None), hosts=hosts) as here:
        for host in hosts:
            query = dns.message.make_query("fixed.gw.example.com", "A")
            for ask_by in (dns.query.udp, dns.query.tcp):
                # dnspython raises if the answer comes from another address.
                assert ask_by(query, host, port=here.port, timeout=5).rcode() == dns.rcode.NOERROR


def test_chance_turns_the_members_of_a_region() -> None:
    with running(DnsServer(make_zones(), make_view(), None)) as here:
        seen = {tuple(addresses(ask(here, "shop", subnet="203.0.113.0/25"))) for _ in range(60)}
    assert seen == {(EU1, EU2, US1, ASIA1), (EU2, EU1, US1, ASIA1)}


class _BrokenGeo(GeoData):
    """Stands for any bug behind the handler."""

    def find(self, address: str) -> Place | None:
        raise RuntimeError(f"no luck with {address}")


def test_the_unexpected_is_servfail_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    broken = _BrokenGeo(None)  # type: ignore[arg-type]  # never read
    with running(DnsServer(make_zones(), make_view(), broken)) as here:
        for tcp in (False, True, False, False, False):
            assert ask(here, "shop", tcp=tcp).rcode() == dns.rcode.SERVFAIL
        assert ask(here, "fixed").rcode() == dns.rcode.NOERROR
        assert here.server.counters.errors == 5
    assert len(caplog.records) == 3, "the first, second and fourth"


def test_throttled_clients_are_told_to_use_tcp() -> None:
    server = DnsServer(make_zones(), make_view(), None, throttle=Throttle(0.001, 2, slip=1))
    with running(server) as here:
        replies = [ask(here, "shop") for _ in range(4)]
        assert [bool(reply.flags & dns.flags.TC) for reply in replies] == [False, False, True, True]
        assert not replies[3].answer
        query = dns.message.make_query("shop.gw.example.com", "A")
        reply, by_tcp = dns.query.udp_with_fallback(query, here.host, port=here.port, timeout=5)
        assert by_tcp
        assert len(addresses(reply)) == 4
        assert server.counters.throttled == 3


def test_a_cookie_lifts_the_throttle() -> None:
    jar = CookieJar([b"0123456789abcdef"], lambda: 1_700_000_000)
    server = DnsServer(make_zones(), make_view(), None, throttle=Throttle(0.001, 1, slip=1), cookies=jar)
    with running(server) as here:
        first = ask(here, "fixed", options=[generic(10, b"c" * 8)])
        cookie = wire_options(first)[10]
        assert ask(here, "fixed", options=[generic(10, b"c" * 8)]).flags & dns.flags.TC, "a client part proves nothing"
        assert not ask(here, "fixed", options=[generic(10, cookie)]).flags & dns.flags.TC
        assert server.counters.throttled == 1


def test_counters(here: Running) -> None:
    ask(here, "shop")
    ask(here, "shop")
    ask(here, "missing", "TXT")
    ask(here, "shop", "TYPE4711")
    ask(here, "big", "TXT", use_edns=-1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"garbage", (here.host, here.port))
    ask(here, "shop", tcp=True)
    here.on_loop(lambda: None)  # messages are counted when their turn is over
    counters = here.server.counters
    assert counters.answers == {(1, 0): 3, (16, 3): 1, (0, 0): 1, (16, 0): 1}
    assert (counters.dropped, counters.truncated, counters.errors) == (1, 1, 0)
    assert counters.queries == {"udp": 6, "tcp": 1}
