"""The rules of verdicts on whole control planes. A failure names its seed and its story."""

from collections.abc import Mapping

import pytest
from tests.simulation import verdict_stories as stories
from tests.simulation.kills import CASES, TARGET_SECONDS, measure
from tests.simulation.lossy_day import lossy
from tests.simulation.planted import PLANTED, finds
from tests.simulation.planted_more import PLANTED_MORE
from tests.simulation.story import THREE, Story, simulate, tell

from meridian.control.driver import ControlPlane


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "story",
    [
        stories.store_and_region_lost,
        stories.back_with_the_leader,
        stories.measured,
        stories.leader_stands_still,
        stories.late_beats,
        stories.leader_cannot_write,
        stories.fallback_and_return,
        stories.gray,
        stories.half_dark,
        stories.flapping,
        stories.split,
    ],
)
def test_three_regions(story: Story, seed: int) -> None:
    simulate(seed, THREE, story)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("story", [stories.gray, stories.split, stories.blind_observer])
def test_two_nodes_in_each_region(story: Story, seed: int) -> None:
    simulate(seed, stories.TWO_EACH, story)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("story", [stories.guarded, stories.one_hears_it])
def test_seven_regions(story: Story, seed: int) -> None:
    simulate(seed, stories.SEVEN, story)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("story", "names"),
    [
        (stories.witnessed, stories.TWO_AND_WITNESS),
        (stories.witnessed, stories.THREE_AND_WITNESS),
        (stories.witness_lost, stories.TWO_AND_WITNESS),
        (stories.deaf_leader, THREE),
    ],
)
def test_witnesses_and_deaf_leaders(story: Story, names: Mapping[str, str], seed: int) -> None:
    simulate(seed, names, story)


@pytest.mark.parametrize("bug", PLANTED_MORE)
def test_a_planted_bug_of_theirs_is_found(bug: type[ControlPlane]) -> None:
    names, story = PLANTED_MORE[bug]
    assert any(tell(seed, names, story, bug)[1] for seed in range(4))


@pytest.mark.parametrize("case", CASES)
def test_a_region_that_dies_is_out_in_time_whoever_led(case: str) -> None:
    rising, violations = measure(case, range(8))
    assert not violations
    assert rising[-1] <= TARGET_SECONDS


def test_loss_and_jitter_withdraw_nobody() -> None:
    simulate(1, THREE, lossy(180.0))


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(bug: type[ControlPlane]) -> None:
    assert any(finds(seed, bug) for seed in range(8))
