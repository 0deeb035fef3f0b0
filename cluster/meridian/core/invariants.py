"""The invariants as predicates: plain data in, violations out (sentences; none means it held).

Simulation, tests and chaos probes all call these, and none of them shares a line with the code that they check.
Numbers are those of ARCHITECTURE section 5.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise

from meridian.core.capacity import PARTS, STEP_PARTS
from meridian.core.health import Sight
from meridian.core.standings import Evidence, Report, Standing, Verdict

SILENT_SECONDS = 1.5
STALE_SECONDS = 2.0
BACK_SECONDS = 1.0
GUARD_SECONDS = 30.0
PENALTY_HALF_SECONDS, PENALTY_MAX, HELD_SECONDS_MAX = 60.0, 3.0, 600.0


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
    """What one reader may see, in order: (fence, version) rises, no version means two things, DNS never runs empty.

    What a reader merged itself stands upon the fenced verdict before it, and gives way to that one or to a greater.
    """
    found = []
    base = verdicts[0] if verdicts else Verdict()
    for before, after in pairwise(verdicts):
        number = (after.fence, after.version)
        if after.fallback:
            if number != (base.fence, base.version) or after.fallback <= before.fallback:
                found.append(f"fallback {after.fallback} of {number} follows {before.fallback} of {base.version}")
        else:
            again = before.fallback > 0 and number == (base.fence, base.version)
            if number <= (base.fence, base.version) and not again:
                found.append(f"{number} follows ({base.fence}, {base.version})")
            if after.version < base.version:
                found.append(f"version {after.version} follows {base.version}")
            if after.version == base.version and (after.nodes, after.regions) != (base.nodes, base.regions):
                found.append(f"version {after.version} has two contents")
            base = after
        if published(before) and not published(after) and set(after.nodes) >= set(published(before)):
            found.append(f"version {after.version} leaves nobody for DNS to answer")
    return found


def judgement_violations(before: Verdict, after: Verdict, evidence: Evidence, now: float) -> list[str]:
    """Invariant 5 for one judgement: who went was outvoted, and silent, dark or told of; who came back speaks; someone
    remains; a second region goes by all voices; who fell too often waits.
    """
    found = []
    fresh = {
        name: heard.report
        for name, heard in evidence.heard.items()
        if now - heard.made <= STALE_SECONDS
        and (name not in before.nodes or before.nodes[name].standing is not Standing.WITHDRAWN)
    }
    voices = {n: r for n, r in fresh.items() if not _back_for_less(BACK_SECONDS, before, n, now)}
    lost = {n for n, r in fresh.items() if len(sights := _known(r)) >= 2 and set(sights) == {Sight.DOWN}}
    for name, node in after.nodes.items():
        old = before.nodes.get(name)
        heard = evidence.heard.get(name)
        speaks = (
            heard is not None and heard.report.serving and now - _last_sign(name, evidence, fresh) <= SILENT_SECONDS
        )
        if node.standing is Standing.WITHDRAWN and (old is None or old.standing is not Standing.WITHDRAWN):
            lookers = [
                r for n, r in voices.items() if n != name and r.sights.get(name, Sight.UNKNOWN) is not Sight.UNKNOWN
            ]
            told = _told(name, fresh)
            if speaks and not told:
                dark = [r for r in lookers if name in r.dark]
                if len(dark) < 2 or any(r not in dark and r.observer not in lost for r in lookers):
                    found.append(f"{name} was withdrawn while it spoke, by {len(dark)} of {len(lookers)}")
            others = {n for n, v in before.nodes.items() if v.standing is not Standing.WITHDRAWN} - {name, after.leader}
            witnesses = {n for n, r in fresh.items() if n != name and r.sights.get(name) is Sight.DOWN}
            if not (witnesses - {after.leader} if others else witnesses) and not (told and not speaks):
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
        configured = set(evidence.regions or {node.region for node in after.nodes.values()})
        others = configured - {region.name}
        gone = [
            n.name
            for n in after.nodes.values()
            if n.region == region.name and before.nodes[n.name].standing in (Standing.SERVING, Standing.SUSPECT)
        ]
        asked = [name for name in gone if not _told(name, fresh)]  # of the others, the same rules were asked before
        against = {r.region for r in voices.values() if all(r.sights.get(name) is Sight.DOWN for name in asked)}
        votes = against & others
        witnesses = {r.region for n, r in voices.items() if r.witness and n not in lost} - configured
        joined = votes | (against & witnesses)
        own_majority = len(votes) >= 2 and 2 * len(votes) > len(others)
        joint_majority = votes and len(joined) >= 2 and 2 * len(joined) > len(others) + len(witnesses)
        if asked and not own_majority and not joint_majority:
            found.append(f"region {region.name} was withdrawn by {len(votes)} of {len(others)} other regions")
        guards = [r for r in before.regions.values() if r.standing is Standing.WITHDRAWN and r.name != region.name]
        up = [n for n, r in fresh.items() if n not in lost and any(r.sights.get(name) is Sight.UP for name in gone)]
        if any(now - r.changed < GUARD_SECONDS for r in guards) and any(fresh[n].region != region.name for n in up):
            found.append(f"region {region.name} was withdrawn soon after another while {up} saw it up")
    speaking = {
        name
        for name, heard in evidence.heard.items()
        if heard.report.serving and now - _last_sign(name, evidence, fresh) <= SILENT_SECONDS
    }
    found += _returns_too_soon(before, after, speaking, now)
    found += _share_violations(before, after, speaking)
    if published(before) and not published(after) and any(name in after.nodes for name in published(before)):
        found.append("nobody is left for DNS to answer")
    return found


def _returns_too_soon(before: Verdict, after: Verdict, speaking: Set[str], now: float) -> list[str]:
    """Who fell again and again and serves already, although others that served are well."""
    others = [n for n, v in after.nodes.items() if v.standing is Standing.SERVING and n in before.nodes]
    if not any(before.nodes[name].standing is Standing.SERVING and name in speaking for name in others):
        return []
    found = []
    for name in others:
        old = before.nodes[name]
        rest = old.penalty * 0.5 ** ((now - old.changed) / PENALTY_HALF_SECONDS)
        held = rest > PENALTY_MAX and now - old.changed <= HELD_SECONDS_MAX
        if old.standing is Standing.WITHDRAWN and held:
            found.append(f"{name} came back with a penalty of {rest:.2f}")
    return found


def _share_violations(before: Verdict, after: Verdict, speaking: Set[str]) -> list[str]:
    """A region has a share only while one of it speaks; who should go keeps on only for that; shares move by steps."""
    found = []
    for region in after.regions.values():
        nodes = [node for node in after.nodes.values() if node.region == region.name]
        if region.share is not None:
            if not 0.0 < region.share <= 1.0:
                found.append(f"region {region.name} has a share of {region.share}")
            if not any(node.answered and node.name in speaking for node in nodes):
                found.append(f"region {region.name} has a share, and nobody who serves it")
            was = before.regions.get(region.name)
            if was is not None and abs(region.share - was.part) > STEP_PARTS / PARTS + 1e-9:
                found.append(f"the share of {region.name} moved from {was.part} to {region.share}")
        for node in nodes:
            if node.keeps and (node.standing is not Standing.DRAINING or region.share is None):
                found.append(f"{node.name} keeps on without a share")
            if node.keeps and node.name not in speaking:
                found.append(f"{node.name} keeps on and is silent")
    return found


def _back_for_less(seconds: float, before: Verdict, name: str, now: float) -> bool:
    """Whether the node was withdrawn and serves again only since so many seconds."""
    node = before.nodes.get(name)
    return node is not None and node.standing is Standing.SERVING and node.penalty > 0 and now - node.changed < seconds


def _told(name: str, fresh: Mapping[str, Report]) -> bool:
    """Whether another withdrew it already, while no leader was heard."""
    return any(name in report.withdrawn for observer, report in fresh.items() if observer != name)


def _known(report: Report) -> list[Sight]:
    return [sight for sight in report.sights.values() if sight is not Sight.UNKNOWN]


def _last_sign(name: str, evidence: Evidence, fresh: Mapping[str, Report]) -> float:
    """When the node was last heard of by anyone, by the judge's clock."""
    told = [evidence.heard[n].made - r.heard[name] for n, r in fresh.items() if n != name and name in r.heard]
    own = evidence.heard.get(name)
    return max([*told, own.made if own is not None else float("-inf")])


def published(verdict: Verdict) -> tuple[str, ...]:
    """Returns the names of the nodes that DNS answers."""
    return tuple(n.name for n in verdict.nodes.values() if n.standing in (Standing.SERVING, Standing.SUSPECT))
