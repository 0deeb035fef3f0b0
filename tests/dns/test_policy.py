"""The policy, played from a transcript; and its invariants for any view."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.dns.transcript import play
from tests.dns.world import make_zone

from meridian_dns.policy import Client, Question, answer
from meridian_dns.view import Member, Region, RegionView

ZONE = make_zone()
CASES = Path(__file__).parent / "cases" / "policy.txt"


def test_the_transcript_holds() -> None:
    text = CASES.read_text()
    assert play(text, ZONE) == text


MEMBERS = st.lists(st.tuples(st.integers(1, 30), st.booleans()), max_size=4)
REGION_NAMES = ("eu", "us", "asia")


@st.composite
def views(draw: st.DrawFn) -> RegionView:
    regions = {}
    for name in REGION_NAMES:
        members = tuple(
            Member(f"{name}{index}", (f"192.0.2.{number}",), serving)
            for index, (number, serving) in enumerate(draw(MEMBERS))
        )
        near = tuple(draw(st.lists(st.sampled_from(["continent/EU", "country/TR", "10.0.0.0/8"]), max_size=2)))
        fallback = tuple(draw(st.lists(st.sampled_from(REGION_NAMES), max_size=2)))
        regions[name] = Region(name, members, draw(st.booleans()), draw(st.booleans()), near, fallback)
    return RegionView(1, regions)


@given(view=views(), draw=st.integers(0, 10_000), place=st.sampled_from([("DE", "EU"), ("TR", "AS"), (None, None)]))
def test_answers_all_that_serve_and_fails_open(
    view: RegionView, draw: int, place: tuple[str | None, str | None]
) -> None:
    client = Client("10.1.2.3", None, *place, place_prefix=16)
    question = Question.of("shop.gw.example.com", "A")
    got = answer(ZONE, view, question, client, draw)
    answered = {rdata for records in got.answer for rdata in records.rdatas}

    def addresses(serving: bool) -> set[bytes]:
        return {
            bytes(map(int, address.split(".")))
            for region in view.regions.values()
            for member in region.members
            if not serving or (region.serving and member.serving)
            for address in member.addresses
        }

    assert answered == (addresses(serving=True) or addresses(serving=False))
    assert sum(len(records.rdatas) for records in got.answer) == len(answered)
    assert answer(ZONE, view, question, client, draw + got.draws) == got


@pytest.mark.parametrize(("doubted", "ttl_seconds"), [((), 30), (("us",), 7), (("eu", "us"), 7)])
def test_answers_about_a_region_in_doubt_are_kept_for_less_long(doubted: tuple[str, ...], ttl_seconds: int) -> None:
    regions = {
        name: Region(name, (Member(name, (f"192.0.2.{i}",), True),), True, in_doubt=name in doubted)
        for i, name in enumerate(("eu", "us"))
    }
    found = RegionView(1, regions, doubt_ttl_seconds=7)
    got = answer(ZONE, found, Question.of("shop.gw.example.com", "A"), Client("10.1.2.3", None, "DE", "EU"), 0)
    assert [records.ttl_seconds for records in got.answer] == [ttl_seconds]
