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
from tests.simulation.faults import KINDS, Fault, draw
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
    found = play(FOUND["LeadsUntilTold"], BUGS["LeadsUntilTold"])
    shrunk = shrink(found, BUGS["LeadsUntilTold"])
    assert shrunk.violations
    assert len(shrunk.plan.faults) <= 3 < len(found.plan.faults)
    assert all(str(fault) in told(shrunk) for fault in shrunk.plan.faults)
    assert play(found.plan.seed, plan=replace(found.plan, faults=shrunk.plan.faults)).violations == []


# The first seed of `scripts/simulate --planted` that finds each bug.
# Whoever changes what a seed draws looks for new ones.
FOUND: Mapping[str, int] = {
    "LeaseNotReplaced": 0,
    "LeaseFromAnswer": 29,
    "WholeLease": 10,
    "LeadsUntilTold": 22,
    "KeyOverwritten": 0,
    "ForgottenIsSilent": 8,
    "SeatTakenTwice": 0,
    "FloorGivenUp": 0,
    "SeatNotKept": 4,
    "NoColdStart": 4,
    "FirstCopyOnly": 15,
    "ReadOnce": 13,
    "LeavesAtOnce": 2,
    "OrderNeverEnds": 2,
}

# Not found by the first 40 seeds, and why.
MISSED: Mapping[str, str] = {
    "LateWriteUnseen": "a record must change twice within the second in which its first write is late",
    "RecordGivenUp": "the store must go in the 50 ms between a document's arrival and its acknowledgement",
    "Unfenced": "a leader's write must land between its lease's end and its successor's first write",
    "NoWarmUp": "reports are warm on every node, and nobody goes without a witness: the rules about silence cover it",
    "SleptThrough": "as NoWarmUp: who slept has no witness against the others",
}

# Not yet sought among enough seeds to say either: `scripts/simulate --planted --seeds 300` does.
UNSOUGHT = frozenset(
    {
        "NoWitness",
        "LostTakeBelieved",
        "LeaseOutlived",
        "OverAnyVerdict",
        "AnyVerdict",
        "StaleCounts",
        "NobodyRemains",
        "CompactedSkipped",
        "OrdersUnread",
        "RegionNotObeyed",
    }
)


def test_every_planted_bug_is_accounted_for() -> None:
    assert BUGS.keys() == FOUND.keys() | MISSED.keys() | UNSOUGHT
    assert len(BUGS) == len(FOUND) + len(MISSED) + len(UNSOUGHT)
    assert max(FOUND.values()) in SEEDS
    listed = list(entries())
    assert len({(entry.world, entry.name) for entry in listed}) == len(listed)
    assert all(1 <= entry.invariant <= 8 and entry.rule for entry in listed)


@pytest.mark.parametrize("bug", FOUND)
def test_a_planted_bug_is_found(bug: str) -> None:
    assert play(FOUND[bug], BUGS[bug]).violations
