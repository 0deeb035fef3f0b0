"""Split horizon: clients of a view see its zones, nobody else does, and what the view has not is as for all."""

from ipaddress import ip_network

import dns.edns
import dns.message
import dns.rcode
import pytest
from tests.dns.signed_world import make_signer
from tests.dns.world import make_view

from meridian_dns.explain import explain
from meridian_dns.policy import Question
from meridian_dns.server import DnsServer
from meridian_dns.steering import Steer
from meridian_dns.zone import ClientView, Zone, ZoneError, ZoneSet, with_signer
from meridian_dns.zone_building import RecordSpec, build_zone

OFFICE = ClientView("office", (ip_network("10.0.0.0/8"), ip_network("2001:db8:f::/48")))
LAB = ClientView("lab", (ip_network("10.7.0.0/16"),))
INSIDE, IN_LAB, OUTSIDE = "10.1.2.3", "10.7.2.3", "198.51.100.7"


def zone(origin: str, address: str, view: str = "") -> Zone:
    shop = RecordSpec("shop", "A", 60, None, Steer("geo", ("us",)))
    return build_zone(
        origin, ["ns1.example.net"], [RecordSpec("www", "A", 60, address, None), shop], serial=1, view=view
    )


def zones() -> ZoneSet:
    return ZoneSet(
        [
            zone("example.com", "192.0.2.1"),
            zone("example.com", "10.0.0.1", "office"),
            zone("example.com", "10.7.0.1", "lab"),
            zone("example.org", "192.0.2.2"),
            zone("corp.example", "10.0.0.2", "office"),
        ],
        [OFFICE, LAB],
    )


def ask(server: DnsServer, name: str, source: str, *, subnet: str | None = None) -> tuple[str, list[str]]:
    options: list[dns.edns.Option] = [dns.edns.ECSOption(subnet, 24)] if subnet is not None else []
    query = dns.message.make_query(name, "A", use_edns=0, options=options)
    replies = [server.respond(query.to_wire(), source) for _ in range(2)]
    assert replies[0] is not None
    assert replies[0] == replies[1]
    reply = dns.message.from_wire(replies[0])
    return dns.rcode.to_text(reply.rcode()), [record.address for answer in reply.answer for record in answer]


def test_each_client_sees_the_zones_of_its_view_and_else_those_for_all() -> None:
    server = DnsServer(zones(), make_view(), None, draw=lambda: 0)
    for source, www in (
        (OUTSIDE, "192.0.2.1"),
        (INSIDE, "10.0.0.1"),
        ("::ffff:10.1.2.3", "10.0.0.1"),
        ("2001:db8:f::9", "10.0.0.1"),
        ("2001:db8:e::9", "192.0.2.1"),
        (IN_LAB, "10.7.0.1"),
    ):
        assert ask(server, "www.example.com", source) == ("NOERROR", [www]), source
        assert ask(server, "www.example.org", source) == ("NOERROR", ["192.0.2.2"])
        assert ask(server, "shop.example.com", source) == ("NOERROR", ["192.0.2.21"]), "steered by the same verdict"
    assert ask(server, "www.corp.example", INSIDE) == ("NOERROR", ["10.0.0.2"])
    assert ask(server, "www.corp.example", IN_LAB) == ("REFUSED", [])
    assert ask(server, "www.corp.example", OUTSIDE) == ("REFUSED", [])


def test_a_network_that_is_passed_on_opens_no_door() -> None:
    server = DnsServer(zones(), make_view(), None, draw=lambda: 0)
    assert ask(server, "www.example.com", OUTSIDE, subnet="10.1.2.0") == ("NOERROR", ["192.0.2.1"])
    assert ask(server, "www.corp.example", OUTSIDE, subnet="10.1.2.0") == ("REFUSED", [])
    assert ask(server, "www.example.com", INSIDE, subnet="198.51.100.0") == ("NOERROR", ["10.0.0.1"])


def test_a_swap_of_the_verdict_reaches_all_views_and_one_of_the_zones_ends_them() -> None:
    server = DnsServer(zones(), make_view(), None, draw=lambda: 0)
    assert ask(server, "shop.example.com", INSIDE)[1] == ["192.0.2.21"]
    server.swap(view=make_view("us1 down"))
    assert ask(server, "shop.example.com", INSIDE) == ask(server, "shop.example.com", OUTSIDE)
    server.swap(zones=ZoneSet([zone("example.com", "192.0.2.9")]))
    assert ask(server, "www.example.com", INSIDE)[1] == ["192.0.2.9"]


def test_a_candidate_is_compared_on_the_zones_for_all_alone() -> None:
    server = DnsServer(zones(), make_view(), None, draw=lambda: 0)
    server.try_out(zones(), make_view(), 1.0)
    assert server.trial is not None
    ask(server, "www.corp.example", INSIDE)
    assert server.trial.compared.questions == 0
    ask(server, "www.example.com", OUTSIDE)
    assert (server.trial.compared.questions, server.trial.compared.unanswered) == (2, 0)


def test_all_views_of_a_zone_are_signed_alike() -> None:
    signer, name = make_signer(), "gw.example.com"
    plain = zone(name, "192.0.2.1"), zone(name, "10.0.0.1", "office")
    both = [with_signer(one, signer) for one in plain]
    server = DnsServer(ZoneSet(both, [OFFICE]), make_view(), None, draw=lambda: 0)
    for source, address in ((OUTSIDE, "192.0.2.1"), (INSIDE, "10.0.0.1")):
        query = dns.message.make_query(f"www.{name}", "A", want_dnssec=True)
        reply = server.respond(query.to_wire(), source)
        assert reply is not None
        answered = {answer.rdtype.name: answer for answer in dns.message.from_wire(reply).answer}
        assert answered["A"][0].address == address
        assert "RRSIG" in answered


def test_two_of_a_kind_are_refused_and_the_views_are_told() -> None:
    with pytest.raises(ZoneError, match="given twice"):
        ZoneSet([zone("example.com", "192.0.2.1", "office"), zone("example.com", "192.0.2.2", "office")]).of_view(
            "office"
        )
    holdings = DnsServer(zones(), make_view(), None).holdings
    told = {
        source: [step.text for step in explain(holdings, Question.of("www.example.com", "A"), source, None, 0).steps]
        for source in (INSIDE, OUTSIDE)
    }
    assert "10.1.2.3 is in view office, and sees its zones" in told[INSIDE]
    assert "198.51.100.7 is in no view, and sees the zones for all" in told[OUTSIDE]
