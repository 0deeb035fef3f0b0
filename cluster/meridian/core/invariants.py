"""The invariants as predicates: plain data in, violations out (sentences; none means it held).

Simulation, tests and chaos probes all call these, and none of them shares a line with the code that they check.
Numbers are those of ARCHITECTURE section 5.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from meridian.core.health import Sight
from meridian.core.verdicts import Evidence, Standing, Verdict

SILENT_SECONDS = 1.5
STALE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Tenure:
    """One stretch of acting as leader, in seconds of one clock that all observers share."""

    node_id: str
    fence: int
    began: float
    ended: float


def admission_violations(times: Iterable[float], rate_per_second: float, burst: int) -> list[str]:
    """Invariant 2: in every window W at most rate * W + burst are admitted. `times` are seconds of one clock."""
    lowest, lowest_at = float("inf"), 0.0
    for index, time in enumerate(sorted(times)):
        start = index - rate_per_second * time
        if start < lowest:
            lowest, lowest_at = start, time
        admitted = index + 1 - rate_per_second * time - lowest  # above what the rate gives, in the worst window
        if admitted > burst + 1e-6:
            over = admitted - burst
            return [f"{rate_per_second}/s burst {burst}: {over:.2f} too many from {lowest_at:.3f} to {time:.3f} s"]
    return []


def leadership_violations(tenures: Iterable[Tenure]) -> list[str]:
    """Invariant 3: no two tenures overlap, and every later one has a greater fence."""
    found = []
    for one, two in pairwise(sorted(tenures, key=lambda tenure: tenure.began)):
        if two.began < one.ended:
            found.append(
                f"two leaders at {two.began:.3f} s: {one.node_id} (fence {one.fence}) and {two.node_id} ({two.fence})"
            )
        if two.fence <= one.fence:
            found.append(f"fence {two.fence} of {two.node_id} follows fence {one.fence} of {one.node_id}")
    return found


def sequence_violations(verdicts: Sequence[Verdict]) -> list[str]:
    """What one reader may see, in order: (fence, version) rises, no version means two things, DNS never runs empty."""
    found = []
    for before, after in pairwise(verdicts):
        if (after.fence, after.version) <= (before.fence, before.version):
            found.append(f"({after.fence}, {after.version}) follows ({before.fence}, {before.version})")
        if after.version < before.version:
            found.append(f"version {after.version} follows {before.version}")
        if after.version == before.version and (after.nodes, after.regions) != (before.nodes, before.regions):
            found.append(f"version {after.version} has two contents")
        if published(before) and not published(after) and set(after.nodes) >= set(published(before)):
            found.append(f"version {after.version} leaves nobody for DNS to answer")
    return found


def judgement_violations(before: Verdict, after: Verdict, evidence: Evidence, now: float) -> list[str]:
    """Invariant 5 for one judgement: who went was silent and outvoted; who came back speaks; someone remains."""
    found = []
    fresh = {
        name: heard.report
        for name, heard in evidence.heard.items()
        if now - heard.made <= STALE_SECONDS
        and (name not in before.nodes or before.nodes[name].standing is not Standing.WITHDRAWN)
    }
    for name, node in after.nodes.items():
        old = before.nodes.get(name)
        heard = evidence.heard.get(name)
        speaks = heard is not None and heard.report.serving and now - heard.made <= SILENT_SECONDS
        if node.standing is Standing.WITHDRAWN and (old is None or old.standing is not Standing.WITHDRAWN):
            if speaks:
                found.append(f"{name} was withdrawn while it spoke")
            others = {n for n, v in before.nodes.items() if v.standing is not Standing.WITHDRAWN} - {name, after.leader}
            witnesses = {n for n, r in fresh.items() if n != name and r.sights.get(name) is Sight.DOWN}
            if not (witnesses - {after.leader} if others else witnesses):
                found.append(f"{name} was withdrawn and no other node sees it down")
        stayed = old is not None and old.standing in (Standing.SERVING, Standing.DRAINING)
        if node.standing is Standing.SERVING and not speaks and not stayed:
            found.append(f"{name} came back without a word of its own")
    for region in after.regions.values():
        was = before.regions.get(region.name)
        if region.standing is not Standing.WITHDRAWN or was is None or was.standing is Standing.WITHDRAWN:
            continue
        if was.standing is Standing.DRAINING:
            continue  # it served nobody
        others = set(evidence.regions or {node.region for node in after.nodes.values()}) - {region.name}
        gone = [
            n.name
            for n in after.nodes.values()
            if n.region == region.name and before.nodes[n.name].standing in (Standing.SERVING, Standing.SUSPECT)
        ]
        votes = {r.region for r in fresh.values() if all(r.sights.get(name) is Sight.DOWN for name in gone)} & others
        if len(votes) < 2 or 2 * len(votes) <= len(others):
            found.append(f"region {region.name} was withdrawn by {len(votes)} of {len(others)} other regions")
    if published(before) and not published(after) and any(name in after.nodes for name in published(before)):
        found.append("nobody is left for DNS to answer")
    return found


def published(verdict: Verdict) -> tuple[str, ...]:
    """Returns the names of the nodes that DNS answers."""
    return tuple(n.name for n in verdict.nodes.values() if n.standing in (Standing.SERVING, Standing.SUSPECT))
