"""Rise and fall by conversation: probes' results go in, sights come out."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meridian.core.health import Due, Health, Policy, Probe, Probed, Sight, Turned, deadline, step

POLICY = Policy(interval_seconds=0.5, suspect_interval_seconds=0.2, timeout_seconds=0.4, rise=3, fall=3)
EVEN = 0.5  # a draw without jitter


def feed(health: Health, results: str, seconds: float = 0.01) -> tuple[Health, list[Sight]]:
    """Feeds '+' and '-', each result `seconds` after its probe was due; returns the turns too."""
    turns = []
    for result in results:
        due = deadline(health)
        assert due is not None
        begun = step(health, Due(), due)
        assert begun.commands == (Probe(),)
        ended = step(begun.state, Probed(result == "+", EVEN), due + seconds)
        health = ended.state
        turns += [command.sight for command in ended.commands if isinstance(command, Turned)]
    return health, turns


@pytest.mark.parametrize(
    ("results", "turns"),
    [
        ("+", [Sight.UP]),
        ("--", []),
        ("---", [Sight.DOWN]),
        ("+--+--+", [Sight.UP]),
        ("+---", [Sight.UP, Sight.DOWN]),
        ("+---++-++", [Sight.UP, Sight.DOWN]),
        ("+---+++", [Sight.UP, Sight.DOWN, Sight.UP]),
    ],
)
def test_sights_turn_after_results_in_a_row(results: str, turns: list[Sight]) -> None:
    assert feed(Health(POLICY), results)[1] == turns


def test_a_suspect_is_probed_sooner_and_a_slow_answer_does_not_slow_the_pace() -> None:
    up, _ = feed(Health(POLICY), "+")
    assert deadline(up) == pytest.approx(0.5)
    suspect, _ = feed(up, "-", seconds=0.1)
    assert suspect.in_doubt
    assert deadline(suspect) == pytest.approx(0.7)
    late, _ = feed(suspect, "-", seconds=0.4)
    assert deadline(late) == pytest.approx(1.1)  # the answer took longer than the pace: at once
    down, _ = feed(late, "-")
    assert down.sight is Sight.DOWN
    assert not down.in_doubt
    returning, _ = feed(down, "+")
    assert returning.in_doubt  # a return is proven at the quicker pace too


def test_the_pace_is_spread_by_the_policys_jitter_both_ways() -> None:
    for jitter in (0.0, 0.1, 0.5):
        begun = step(Health(replace(POLICY, jitter=jitter)), Due(), 0.0).state
        dues = [deadline(step(begun, Probed(True, draw), 0.0).state) for draw in (0.0, 0.5, 0.999)]
        assert dues == pytest.approx([0.5 * (1 - jitter), 0.5, 0.5 * (1 + jitter)], rel=0.01)


def test_no_probe_begins_while_one_is_under_way() -> None:
    probing = step(Health(POLICY), Due(), 0.0).state
    assert deadline(probing) is None
    assert step(probing, Due(), 9.0).commands == ()


def test_it_knows_since_when_it_is_dark() -> None:
    up, _ = feed(Health(POLICY), "+")
    assert up.good_at == pytest.approx(0.01)
    down, _ = feed(up, "----")
    assert down.good_at == up.good_at
    glimpse, _ = feed(down, "+")
    assert glimpse.sight is Sight.DOWN
    assert glimpse.good_at > up.good_at


@given(st.text(alphabet="+-", max_size=40), st.floats(0, 0.999))
def test_a_turn_needs_its_row_and_time_never_stands_still(results: str, draw: float) -> None:
    health, history = Health(POLICY), ""
    for result in results:
        now = deadline(health)
        assert now is not None
        ended = step(step(health, Due(), now).state, Probed(result == "+", draw), now + 0.001)
        history += result
        for command in ended.commands:
            assert isinstance(command, Turned)
            if command.sight is Sight.DOWN:
                assert history.endswith("---")
            elif health.sight is Sight.DOWN:
                assert history.endswith("+++")
        health = ended.state
        after = deadline(health)
        assert after is not None
        assert 0.17 < after - now < 0.56
