"""A candidate's zones beside those in force: the answers stay those in force, and the differences are counted."""

from dataclasses import replace

import dns.message
import dns.rcode
import pytest
from tests.dns.world import make_view, make_zones

from meridian_dns.names import name_from_text
from meridian_dns.observing import TCP, UDP
from meridian_dns.server import DnsServer
from meridian_dns.trial import Compared
from meridian_dns.view import RegionView
from meridian_dns.zone import ZoneSet

WWW, MISSING = "shop.gw.example.com", "nobody.gw.example.com"


def made() -> DnsServer:
    return DnsServer(make_zones(), make_view(), None, draw=lambda: 0)


def ask(server: DnsServer, name: str, *, datagram: bool = True, **options: object) -> dns.message.Message:
    query = dns.message.make_query(name, "A", **options)  # type: ignore[arg-type]  # options
    reply = server.respond(query.to_wire(), "198.51.100.7", UDP if datagram else TCP)
    assert reply is not None
    return dns.message.from_wire(reply)


def without(zones: ZoneSet, name: str) -> ZoneSet:
    return ZoneSet(
        [
            replace(zone, names={n: here for n, here in zone.names.items() if n != name_from_text(name)})
            for zone in zones
        ]
    )


def compared(server: DnsServer) -> Compared:
    assert server.trial is not None
    return server.trial.compared


@pytest.mark.parametrize("candidate", ["no zone", "no name", "no region", "broken"])
def test_a_candidate_that_loses_answers_is_seen_and_no_client_meets_it(candidate: str) -> None:
    server = made()
    before = [ask(server, WWW).answer, ask(server, MISSING).rcode()]
    zones, view = make_zones(), make_view()
    if candidate == "no zone":
        zones = ZoneSet()
    elif candidate == "no name":
        zones = without(zones, WWW)
    elif candidate == "no region":
        view = RegionView(1, {})
    else:
        view = None  # type: ignore[assignment]  # what no check has foreseen
    server.try_out(zones, view, 1.0)
    for _ in range(10):
        assert [ask(server, WWW).answer, ask(server, MISSING).rcode()] == before
    found = compared(server)
    assert found.questions == 20
    if candidate == "broken":
        assert found.failed >= 10
    else:
        assert (found.failed, found.unanswered, found.unanswered_in_force) == (0, 10, 0)
    assert server.counters.errors == 0
    server.end_trial()
    assert server.trial is None and [ask(server, WWW).answer, ask(server, MISSING).rcode()] == before


def test_a_candidate_that_gains_answers_is_counted_the_other_way_round() -> None:
    server = DnsServer(without(make_zones(), WWW), make_view(), None, draw=lambda: 0)
    server.try_out(make_zones(), make_view(), 1.0)
    assert ask(server, WWW).rcode() == dns.rcode.NXDOMAIN
    assert compared(server) == Compared(1, 0, 0, 1)


def test_equal_zones_differ_in_nothing_whatever_is_asked() -> None:
    server = made()
    server.try_out(make_zones(), make_view(), 1.0)
    for name in (WWW, MISSING, "gw.example.com", "elsewhere.example"):
        for options in ({}, {"use_edns": 0, "payload": 512}, {"want_dnssec": True}):
            ask(server, name, **options)
            ask(server, name, datagram=False, **options)
    server.respond(b"\0" * 7, "198.51.100.7")
    assert compared(server) == Compared(24)


def test_a_share_is_compared_and_a_view_is_taken_when_it_changes() -> None:
    draws = iter([0, 2**31 - 1, 0, 2**31, 0, 0, 0, 0])
    server = DnsServer(make_zones(), make_view(), None, draw=lambda: next(draws))
    server.try_out(make_zones(), make_view(), 0.5)
    ask(server, WWW)
    ask(server, WWW)
    assert compared(server).questions == 1
    assert server.trial is not None
    server.trial.swap(RegionView(2, {}))
    ask(server, WWW)
    assert compared(server) == Compared(2, 0, 1, 0)
