"""Seeds: whole control planes under everything that may happen. A failure prints the story of the shrunk faults.

Run one alone with `scripts/simulate --seed 7`, thousands with `scripts/simulate --seeds 10000`.
"""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace

import pytest
from tests.scale import seeds
from tests.simulation.__main__ import BUGS, story_of
from tests.simulation.faults import KINDS, LEADER, Fault, Plan, draw
from tests.simulation.registry import entries
from tests.simulation.seeds import play
from tests.simulation.shrinking import fewest, shrink, told
from tests.support import ROOT

SEEDS = seeds(300)


@pytest.fixture(scope="module")
def stories() -> Iterator[Mapping[int, "Future[str]"]]:
    """All seeds, played on all cores while the tests wait for one after the other."""
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        yield {seed: pool.submit(story_of, seed) for seed in SEEDS}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_invariants_hold(stories: Mapping[int, "Future[str]"], seed: int) -> None:
    story = stories[seed].result()
    assert not story, story


def test_everything_that_may_happen_happens() -> None:
    drawn = [draw(seed) for seed in SEEDS]
    assert {fault.kind for plan in drawn for fault in plan.faults} == KINDS.keys()
    assert {plan.storm for plan in drawn} == {True, False}


# Stories of seeds that failed once, shrunk: so that they stay mended whatever later plans draw.
MENDED: Mapping[str, Plan] = {
    "who the nodes took back while no leader wrote is counted on when it stops": replace(
        draw(3185),
        storm=True,
        faults=(
            Fault(1.2, "island", "a2", "b1", 6.5, 0.0),
            Fault(8.1, "unanswered", LEADER, "a1", 4.5, 0.0),
            Fault(8.9, "drain_region", "us", "a2", 6.5, 0.0),
            Fault(11.2, "leave", "a2", "b1", 4.4, 0.0),
        ),
        lasting=None,
    ),
    "who stops does not let itself go by what it merged itself": replace(
        draw(1113),
        storm=True,
        faults=(
            Fault(3.01, "island", "b", "c", 7.3, 0.0),
            Fault(3.05, "drain", "a", "b", 3.66, 0.0),
            Fault(5.37, "maintain", "c", "b", 6.35, 0.0),
            Fault(8.59, "pause", LEADER, "b", 2.19, 0.0),
            Fault(9.88, "leave", "c", "a", 5.41, 0.0),
        ),
        lasting=None,
    ),
    "a stale word of one that drains is no word": replace(
        draw(1096),
        storm=False,
        faults=(Fault(2.1, "maintain", "b", "a", 6.1, 0.0),),
        lasting=Fault(2.1, "mute", "b", "c", 0.0, 0.0),
    ),
}


@pytest.mark.parametrize("story", MENDED)
def test_what_was_mended_stays_so(story: str) -> None:
    assert play(MENDED[story].seed, plan=MENDED[story]).violations == []


TRANSCRIPT = """
import hashlib
from tests.simulation.seeds import play
print(hashlib.sha256(repr(play({})).encode()).hexdigest())
"""


@pytest.mark.parametrize("seed", [1, 4])
def test_a_seed_replays_identically(seed: int) -> None:
    """Also in another process, where sets of strings are in another order."""
    command = [sys.executable, "-c", TRANSCRIPT.format(seed)]
    digests = {
        subprocess.run(
            command, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": order}, capture_output=True, text=True, check=True
        ).stdout
        for order in ("1", "2")
    }
    assert len(digests) == 1
    assert play(seed) == play(seed)


def _fault(at: float) -> Fault:
    return Fault(at, "kill", "a", "b", 1.0, 0.0)


@pytest.mark.parametrize("guilty", [(3.0,), (0.0, 9.0), (2.0, 3.0, 7.0), ()])
def test_only_the_guilty_faults_are_left(guilty: Sequence[float]) -> None:
    faults = [_fault(float(at)) for at in range(10)]
    found = fewest(faults, lambda some: set(guilty) <= {fault.at for fault in some})
    assert [fault.at for fault in found] == list(guilty)


def test_a_failure_is_shrunk_and_told() -> None:
    found = play(FOUND["LeadsUntilTold"][0], BUGS["LeadsUntilTold"])
    shrunk = shrink(found, BUGS["LeadsUntilTold"])
    assert shrunk.violations
    assert len(shrunk.plan.faults) <= 3 < len(found.plan.faults)
    assert all(str(fault) in told(shrunk) for fault in shrunk.plan.faults)
    assert play(found.plan.seed, plan=replace(found.plan, faults=shrunk.plan.faults)).violations == []


# The first four seeds from 1000 to 1399 that find each bug. Whatever changes the world's timing moves some of the
# stories: one of them is enough. Who leaves none looks for new ones.
FOUND: Mapping[str, Sequence[int]] = {
    "LeaseNotReplaced": (1001, 1002, 1003, 1005),
    "LateWriteUnseen": (1044,),
    "RecordGivenUp": (1079, 1092),
    "LeaseFromAnswer": (1032, 1132, 1154, 1193),
    "WholeLease": (1126, 1278, 1297),
    "LeadsUntilTold": (1000, 1001, 1005, 1009),
    "KeyOverwritten": (1000, 1001, 1002, 1003),
    "Unfenced": (1021, 1073, 1192),
    "AnyVerdict": (1002, 1003, 1006, 1007),
    "ForgottenIsSilent": (1004, 1018, 1020, 1045),
    "NoWitness": (1001, 1007, 1018, 1019),
    "NobodyRemains": (1003, 1005, 1008, 1019),
    "SeatTakenTwice": (1000, 1001, 1002, 1003),
    "FloorGivenUp": (1000, 1001, 1002, 1003),
    "SeatNotKept": (1005, 1006, 1008, 1011),
    "LostTakeBelieved": (1000, 1001, 1002, 1003),
    "LeaseOutlived": (1394,),
    "NoColdStart": (1006, 1008, 1011, 1015),
    "FirstCopyOnly": (1006, 1013, 1045, 1046),
    "CompactedSkipped": (1019, 1120, 1136, 1174),
    "ReadOnce": (1000, 1010, 1012, 1023),
    "LeavesAtOnce": (1004, 1011, 1013, 1014),
    "RegionNotObeyed": (1026, 1036, 1147, 1165),
    "OrderNeverEnds": (1002, 1005, 1006, 1012),
    "OverAnyRollout": (1037,),
    "FailuresUncounted": (1000, 1004, 1014, 1023),
    "NoWarmUp": (1000, 1001),
    "OrdersUnread": (1067, 1099),
    "StaleCounts": (1071, 1148),
    "EndUnheard": (1000, 1004, 1009, 1011),
}

# Not found by those seeds, and why, as traced.
MISSED: Mapping[str, str] = {
    "OverAnyVerdict": (
        "in the first 70 plans from 1000 on with late writes or lost answers no verdict landed over another than "
        "its own: the fence holds, and a leader whose write got no answer reads back before it writes again"
    ),
    "SleptThrough": (
        "in the 56 plans from 1000 to 1399 whose leader stands still it led on after 15 pauses, somebody was silent "
        "and accused by another after 5 of them; that they went then violated nothing that is checked"
    ),
    "RolloutUnfenced": (
        "every move of a rollout demands the record that was judged, too: in the plans that roll out from 1000 to 1089 "
        "no former leader's write came before the next one's first"
    ),
}


def test_every_planted_bug_is_accounted_for() -> None:
    assert BUGS.keys() == FOUND.keys() | MISSED.keys()
    assert len(BUGS) == len(FOUND) + len(MISSED)
    listed = list(entries())
    assert len({(entry.world, entry.name) for entry in listed}) == len(listed)
    assert all(1 <= entry.invariant <= 8 and entry.rule for entry in listed)


@pytest.mark.parametrize("bug", FOUND)
def test_a_planted_bug_is_found(bug: str) -> None:
    assert any(play(seed, BUGS[bug]).violations for seed in FOUND[bug])
