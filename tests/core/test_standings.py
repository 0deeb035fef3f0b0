"""What follows from reports alone: who is lost, and whether a judge hears enough."""

import pytest

from meridian.core.health import Sight
from meridian.core.standings import Evidence, Heard, Member, Report, cut_off

NOW = 100.0


@pytest.mark.parametrize(
    ("sights", "lost"), [("--", True), ("--?", True), ("--+", False), ("-", False), ("-?", False), ("", False)]
)
def test_lost_is_who_sees_several_and_all_of_them_down(sights: str, lost: bool) -> None:
    letters = {"+": Sight.UP, "-": Sight.DOWN, "?": Sight.UNKNOWN}
    report = Report("a", "eu", "a.1", 1, 1, {str(i): letters[letter] for i, letter in enumerate(sights)})
    assert report.lost is lost
    assert report.down == {str(i) for i, letter in enumerate(sights) if letter == "-"}


@pytest.mark.parametrize(
    ("regions", "heard", "cut"),
    [
        (("eu", "us", "ap"), "", True),
        (("eu", "us", "ap"), "b", False),
        (("eu", "us"), "", False),  # half: neither side is the smaller one
        (("eu",), "", False),  # the last one alive is not cut off
        (("eu", "eu", "eu", "us", "ap"), "bc", True),  # its own region is one voice, however many stand there
        (("eu", "eu", "eu", "us", "ap"), "d", False),
        (("eu", "eu", "eu"), "", True),
        (("eu", "eu", "eu"), "b", False),
    ],
)
def test_cut_off_is_who_hears_of_less_than_half(regions: tuple[str, ...], heard: str, cut: bool) -> None:
    members = {name: Member(name, region, ()) for name, region in zip("abcdefg", regions, strict=False)}
    reports = {n: Heard(Report(n, members[n].region, "", 1, 1, {}), NOW - 1.9) for n in heard}
    stale = {n: Heard(Report(n, members[n].region, "", 1, 1, {}), NOW - 2.1) for n in members if n not in heard}
    assert cut_off(Evidence({**reports, **stale}, members, frozenset(), 0.0), "a", NOW) is cut
