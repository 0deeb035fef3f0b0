"""An explanation is the decision that it explains: same answer, and words that fit what the steps did."""

from ipaddress import ip_address, ip_network
from itertools import product
from pathlib import Path

import pytest
from tests.dns.mmdb import write_mmdb
from tests.dns.world import make_view, make_zones

from meridian_dns.explain import Explanation, explain
from meridian_dns.geo import GeoData
from meridian_dns.message import ClientSubnet, parse
from meridian_dns.names import name_from_text
from meridian_dns.policy import Question, answer
from meridian_dns.records import AAAA, HTTPS, TYPES, A
from meridian_dns.responder import Holdings, decide, locate
from meridian_dns.view import Network

ZONES = make_zones()
CHANGES = (
    "",
    "eu1 down",
    "eu out, us suspect",
    "eu out, us out, asia out",
    "eu share=0.3",
    "asia suspect, us share=0.1",
)
NAMES = (
    "shop",
    "one",
    "pair",
    "mars",
    "svc",
    "weighted",
    "failover",
    "multi",
    "sticky",
    "latency",
    "quick",
    "x.wildgeo",
    "www2",
)


def told(explanation: Explanation, topic: str) -> str:
    return "\n".join(step.text for step in explanation.steps if step.topic == topic)


def about(name: str, type_: str = "A", source: str = "10.9.9.9", subnet: Network | None = None, change: str = "",
          geo: GeoData | None = None, draw: int = 0) -> Explanation:  # fmt: skip
    return explain(Holdings(ZONES, make_view(change), geo), Question.of(name, type_), source, subnet, draw)


@pytest.mark.parametrize("change", CHANGES)
def test_the_answer_is_the_servers_and_the_candidates_are_those_of_the_answer(change: str) -> None:
    view = make_view(change)
    holdings = Holdings(ZONES, view, None)
    for label, type_, source, draw in product(NAMES, (A, AAAA, HTTPS), ("203.0.113.7", "198.51.100.7"), range(4)):
        question = Question(name_from_text(f"{label}.gw.example.com"), type_)
        found = explain(holdings, question, source, None, draw)
        zone = ZONES.find(question.name)
        assert zone is not None
        assert found.decided == answer(zone, view, question, locate(None, source, None), draw)
        wire = b"".join(rdata for records in found.decided.answer for rdata in records.rdatas)
        for candidate in found.candidates:
            packed = [ip_address(address).packed for address in candidate.addresses]
            assert candidate.answered == any(address in wire for address in packed)
            serves = candidate.reason.startswith("serves") and not candidate.reason.startswith("serves, but")
            assert not serves or candidate.answered
            assert candidate.reason


def test_a_subnet_that_is_passed_on_counts_as_on_the_wire() -> None:
    network = ip_network("203.0.113.0/24")
    payload = ClientSubnet.of(network).payload
    opt = b"\0\0\x29\x10\0\0\0\0\0" + (len(payload) + 4).to_bytes(2, "big")
    option = b"\0\x08" + len(payload).to_bytes(2, "big") + payload
    query = parse(b"\0\1\0\0\0\1\0\0\0\0\0\1" + name_from_text("shop.gw.example.com") + b"\0\1\0\1" + opt + option)
    assert query is not None and query.edns is not None and query.edns.subnet == ClientSubnet(payload)
    found = about("shop.gw.example.com", source="198.51.100.7", subnet=network)
    assert found.decided == decide(query, Holdings(ZONES, make_view(), None), "198.51.100.7", 0)
    assert "passed on by the resolver" in told(found, "client") and found.decided.scope == 25


def test_the_walk_through_the_zone_is_told() -> None:
    for name, words in (
        ("www2.gw.example.com", "the search goes on at shop.gw.example.com."),
        ("a.wild.gw.example.com", "*.wild.gw.example.com. stands for it"),
        ("a.sub.gw.example.com", "at or below sub.gw.example.com., which is delegated"),
        ("nope.empty.gw.example.com", "the nearest name that exists is empty.gw.example.com."),
        ("note.gw.example.com", "exists, but has no records of type A"),
        ("round.gw.example.com", "lead in a circle"),
        ("out.gw.example.com", "www.example.net. lies outside this zone"),
    ):
        assert words in told(about(name), "name"), name
    assert "lies in no zone of this server" in told(about("example.net"), "zone")
    assert told(about("example.net"), "answer") == "REFUSED; extended error 20 (Not Authoritative)"


def test_places_come_with_the_data_that_says_so(tmp_path: Path) -> None:
    write_mmdb(tmp_path / "geo.mmdb", {"192.0.2.0/25": {"country_code": "TR"}})
    geo = GeoData.open(tmp_path / "geo.mmdb")
    found = about("shop.gw.example.com", source="192.0.2.1", geo=geo)
    assert "geo data (test, built 1970-01-01) puts its /25 into TR" in told(found, "client")
    assert "eu (near: country/TR), asia (near: continent/AS), us (as given)" in told(found, "steering")
    assert "does not know where that is" in told(about("shop.gw.example.com", geo=geo), "client")


def test_doubt_chance_shares_and_limits_are_told() -> None:
    assert "fail open" in told(about("shop.gw.example.com", change="eu out, us out, asia out"), "steering")
    assert "one of 8 draws" in told(about("weighted.gw.example.com"), "steering")
    (left, *_) = about("one.gw.example.com", source="203.0.113.5", change="eu share=0.3").candidates
    assert left.reason == "its region keeps 30% of its clients, and this one is not among them"
    (_, second, *_) = about("one.gw.example.com", source="203.0.113.5").candidates
    assert second.reason == "serves, but answers_max is 1"
    nested = about("nested.gw.example.com", source="203.0.113.5")
    assert "west is a group: geo, " in told(nested, "steering")
    assert "us (as given)" in told(nested, "steering") and "europe (near: 203.0.113.0/24)" in told(nested, "steering")
    assert [candidate.region for candidate in nested.candidates] == ["eu", "eu", "us", "asia"]
    assert "5 ms from eu" in told(about("latency.gw.example.com", source="203.0.113.5"), "steering")


def test_how_far_regions_are_is_told_with_whence_it_is_known() -> None:
    quick = told(about("quick.gw.example.com", source="198.51.100.5"), "steering")
    assert "us (the client's own), asia (60.5 ms from us, measured and so for 3 min), eu (not measured)" in quick
    given = told(about("latency.gw.example.com", source="203.0.113.5"), "steering")
    assert "eu (5 ms from eu, as given), asia (40 ms from eu, as given)" in given


def test_every_type_can_be_asked_for() -> None:
    for word in TYPES:
        assert about("gw.example.com", word).steps[-1].topic == "answer"
