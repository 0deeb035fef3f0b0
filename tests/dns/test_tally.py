"""What answers are counted under: the zone, the regions whose addresses they give, and no more tallies than allowed."""

import pytest
from tests.dns.world import make_view, make_zones

from meridian_dns.names import name_from_text
from meridian_dns.policy import Answer, Client, Question, answer
from meridian_dns.records import FORMERR, NOERROR, NXDOMAIN, REFUSED, SERVFAIL
from meridian_dns.responder import Holdings
from meridian_dns.tally import Clerk, Tallies, Tally

EUROPEAN = Client("203.0.113.7", None, None, None)
ZONE = "gw.example.com"


def tally(name: str, type_: str = "A", change: str = "", draw: int = 0) -> Tally:
    holdings = Holdings(make_zones(), make_view(change), None)
    question = Question.of(f"{name}.{ZONE}", type_)
    zone = holdings.zones.find_for(question.name, question.type)
    assert zone is not None
    return Clerk(Tallies(), holdings).tally_of(question, answer(zone, holdings.view, question, EUROPEAN, draw))


@pytest.mark.parametrize(
    ("found", "rcode", "regions", "error"),
    [
        (tally("shop"), NOERROR, ("eu", "us", "asia"), None),
        (tally("shop", "AAAA"), NOERROR, ("eu", "us"), None),
        (tally("www2"), NOERROR, ("eu", "us", "asia"), None),
        (tally("svc", "HTTPS"), NOERROR, ("eu", "us", "asia"), None),
        (tally("shop", change="eu out"), NOERROR, ("us", "asia"), None),
        (tally("failover", change="us out"), NOERROR, ("eu",), None),
        (tally("east", change="asia out"), NOERROR, ("asia",), 0),
        (tally("mars"), SERVFAIL, (), 14),
        (tally("fixed"), NOERROR, (), None),
        (tally("missing"), NXDOMAIN, (), None),
    ],
    ids=lambda value: value.zone if isinstance(value, Tally) else "",
)
def test_says_what_was_answered(found: Tally, rcode: int, regions: tuple[str, ...], error: int | None) -> None:
    assert (found.zone, found.rcode, found.regions, found.error) == (ZONE, rcode, regions, error)


def test_chance_shows_in_the_regions() -> None:
    assert {tally("weighted", draw=draw).regions for draw in range(4)} == {("eu",), ("us",)}


def test_what_is_no_answer_of_a_zone_names_none() -> None:
    clerk = Clerk(Tallies(), Holdings(make_zones(), make_view(), None))
    for rcode in (FORMERR, REFUSED):
        found = clerk.tally_of(Question.of(f"shop.{ZONE}", "A"), Answer(rcode))
        assert (found.zone, found.type, found.rcode) == ("", 1, rcode)
    assert clerk.tally_of(None, Answer(FORMERR)).type == 0
    assert clerk.tally_of(Question.of("www.example.net", "A"), Answer(NOERROR)).zone == ""
    assert clerk.tally_of(Question(name_from_text(ZONE), 4711), Answer(NOERROR)).type == 0


def test_zones_and_regions_without_number_are_counted_together() -> None:
    tallies = Tallies(tallies_max=3)
    for index in range(1000):
        tallies.of(1, NOERROR, f"zone{index}.example", ("eu",)).answers += 1
    assert len(tallies) == 4
    assert sum(found.answers for found in tallies) == 1000
    assert tallies.of(1, NOERROR).answers == 997
    assert tallies.of(1, NOERROR, "zone0.example", ("eu",)).answers == 1, "who has one keeps it"
