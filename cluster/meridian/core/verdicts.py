"""One judgement of all nodes and regions, made from what every node sees of every other.

Invariant (5 of the architecture): what serves is never judged away by one voice, and never all of it.
- A **node** goes when its own signal stopped (or says that it does not serve) and one other node sees it down. The
  judge is no such other unless there is nobody else: silence is his own observation already, and a leader that is cut
  off hears nobody and sees one after the other go down. Silent is whom nobody has heard, not only the judge.
- A node that speaks and says well goes when its data path is dead (**gray**): every eligible observer, and two at
  least, has not reached it for DARK_SECONDS.
- The last nodes of a **region** go only by a majority of all other regions, one vote each, and never fewer than two
  votes: with one observer region left they are SUSPECT instead, which DNS answers last, but answers. A **witness** (a
  node that serves nobody, in a region of its own) has a vote as a region has, but never without one of them. Within
  GUARD_SECONDS of another region's withdrawal every eligible observer must agree.
- Nobody goes unless a node that is well remains. So when all is down, the last good set stays.
- No report means unknown, never down. Who sees all of several others down, and hears no witness, abstains: it is he
  who is cut off. So does who was withdrawn until BACK_SECONDS ago: what it saw while it was away is no evidence.
- The way back is slow: a node that was judged down or SUSPECT returns when it speaks for itself and more of those who
  report see it up than down; the counting (`rise`) happens in the observers' probes (core/health). Who was withdrawn
  again and again stays out until its penalty has worn off, unless nobody else is well.
- A region that is drained or gray goes in steps while the others cannot carry its load (core/capacity). A silent one
  goes whatever the others carry.

Silence alone is judged by reports, not by the member key: a node that the store forgot but that speaks is not silent
(invariant 4: store health is not serving health). A node that was DRAINING and whose key went has left on purpose.

A judgement starts from the verdict before it and from the evidence; there is no other memory, so that a new leader that
takes the stored verdict goes on where the old one stopped. While no leader is heard every node merges for itself, by
the same rules and upon the last verdict; what it withdrew so is told in its reports and is no news to the next leader.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import replace
from enum import Enum

from meridian.core import capacity
from meridian.core.distances import survey
from meridian.core.health import Sight
from meridian.core.hearing import VOTES_MIN, Hearing
from meridian.core.standings import (
    DARK_SECONDS,
    PUBLISHED,
    REPORT_PERIOD_SECONDS,
    SILENT_SECONDS,
    STALE_SECONDS,
    Evidence,
    Heard,
    Member,
    NodeVerdict,
    RegionVerdict,
    Report,
    Standing,
    Verdict,
    cut_off,
    greater,
    newer,
)

__all__ = [
    "DARK_SECONDS",
    "PUBLISHED",
    "REPORT_PERIOD_SECONDS",
    "SILENT_SECONDS",
    "STALE_SECONDS",
    "Case",
    "Evidence",
    "Heard",
    "Member",
    "NodeVerdict",
    "RegionVerdict",
    "Report",
    "Standing",
    "Verdict",
    "cut_off",
    "greater",
    "judge",
    "merge",
    "newer",
]

GONE_MAX = 256  # withdrawn nodes without a member key that are remembered; machines come and go under new names
GUARD_SECONDS = 30.0  # after a region went, the next needs all voices: what takes two at once may be the network
PENALTY_HALF_SECONDS = 60.0
PENALTY_MAX = 3.0  # each withdrawal weighs 1: the fourth within two minutes exceeds it
HELD_SECONDS_MAX = 600.0  # however often it fell, a node that is well serves again after this

_SILENT = "silent, and seen down"
_GRAY = "it speaks, but nobody reaches it"
_TOLD = "silent, and withdrawn while no leader was heard"
_HELD = "well again, but it fell too often"
_FEW = "too few observers to withdraw it"


def judge(
    previous: Verdict, evidence: Evidence, now: float, *, leader: str, fence: int, rules: "type[Case] | None" = None
) -> Verdict:
    """Returns the verdict after `evidence` at `now` (monotonic seconds).

    It is `previous` itself if nothing changed, has the same version under the new fence if only the leader changed, and
    else the next version. Rules: design/verdicts.md; in the heading of this file in words. `rules` is for tests that
    plant a bug.
    """
    nodes, regions = (rules or Case)(previous, evidence, now, leader).verdicts()
    distances = survey(previous.distances, evidence, regions.keys(), now)
    judged = (nodes, regions, distances)
    version = previous.version + (judged != (previous.nodes, previous.regions, previous.distances))
    if (version, fence, leader) == (previous.version, previous.fence, previous.leader):
        return previous
    return Verdict(fence, version, nodes, regions, leader, distances=distances)


def merge(held: Verdict, evidence: Evidence, now: float, *, merger: str, rules: "type[Case] | None" = None) -> Verdict:
    """Returns what `merger` makes of its own evidence while no leader is heard: `held` itself, or its next fallback."""
    nodes, regions = (rules or Case)(held, evidence, now, merger).verdicts()
    if nodes == held.nodes and regions == held.regions:
        return held
    return replace(held, nodes=nodes, regions=regions, fallback=held.fallback + 1)


class _Wish(Enum):
    """What the evidence about one node alone asks for, before the rules about what must remain."""

    SERVE = 0
    DOUBT = 1  # silent, and seen down only by those who abstain; or not yet back
    DRAIN = 2
    DOWN = 3  # silent, and another sees it down
    GRAY = 4  # speaks, and all who look see its data path dead
    TOLD = 5  # silent, and withdrawn already by another who merged while no leader was heard
    AWAY = 6  # withdrawn before, and not back
    HELD = 7  # withdrawn before, back, and not trusted yet


_FALLING = frozenset({_Wish.DOWN, _Wish.GRAY})  # by the evidence here


class Case(Hearing):
    """One judgement under way: what is made of the evidence. Lives for one call of `judge`."""

    def __init__(self, previous: Verdict, evidence: Evidence, now: float, judge: str) -> None:
        super().__init__(previous, evidence, now, judge)
        self.wishes = {name: wish for name in self._names() if (wish := self._wish(name)) is not None}

    def verdicts(self) -> tuple[dict[str, NodeVerdict], dict[str, RegionVerdict]]:
        """Returns nodes and regions of the new verdict: each node its wish, unless nobody well would remain."""
        standings: dict[str, tuple[Standing, str]] = {}
        well = {name for name, wish in self.wishes.items() if wish is _Wish.SERVE and not self._silent(name)}
        standings |= self._drains(well)
        well |= {name for name, (standing, _) in standings.items() if standing is Standing.SERVING}
        if not well:
            self.wishes = {n: _Wish.SERVE if wish is _Wish.HELD else wish for n, wish in self.wishes.items()}
            well = {name for name, wish in self.wishes.items() if wish is _Wish.SERVE and self._speaks(name)}
        guarding = self._withdrawn_of_late()
        regions: defaultdict[str, dict[str, _Wish]] = defaultdict(dict)
        for name, wish in self.wishes.items():
            regions[self._region(name)][name] = wish
        for region, wishes in sorted(regions.items()):
            within = self._standings_in(region, wishes, well, guarding - {region})
            standings |= within
            if within and {standing for standing, _ in within.values()} == {Standing.WITHDRAWN}:
                falls = any(self.wishes[name] in _FALLING | {_Wish.TOLD} for name in within)
                guarding |= {region} if falls else set()
        rooms = self._rooms(standings)
        shares = capacity.share_out(rooms, self.now)
        kept = {room.name for room in rooms if room.leaving and room.name in shares and shares[room.name].part > 0.0}
        keeping = {n for n, found in standings.items() if self._region(n) in kept and self._leaves(n, *found)}
        standings |= {n: (Standing.SUSPECT, _GRAY) for n in keeping if standings[n][0] is Standing.WITHDRAWN}
        nodes = {name: self._verdict(name, *standings[name], name in keeping) for name in sorted(standings)}
        forgotten = _forgotten(nodes, self.evidence.members)
        nodes = {name: node for name, node in nodes.items() if name not in forgotten}
        return nodes, {
            name: capacity.shared(region, shares[name], leaves=name in kept) if name in shares else region
            for name, region in self._regions(nodes).items()
        }

    def _standings_in(
        self, region: str, asked: Mapping[str, _Wish], well: Set[str], guarding: Set[str]
    ) -> dict[str, tuple[Standing, str]]:
        """The rule of two levels: down nodes go while their region has one that is well, else with their region."""
        wishes = {name: wish for name, wish in asked.items() if wish is not _Wish.DRAIN}
        down = {name: wish for name, wish in wishes.items() if wish in _FALLING}
        doubted = [name for name, wish in wishes.items() if wish is _Wish.DOUBT]
        told = [name for name, wish in wishes.items() if wish is _Wish.TOLD]
        agreed = any(name in well for name in wishes) or not guarding or self._unanimous(region, [*down, *told])
        goes_told = self._remains(well) and agreed
        goes = goes_told and (any(n in well for n in wishes) or (not doubted and self._outvoted(region, down)))
        standings = {name: (Standing.SERVING, "") for name, wish in wishes.items() if wish is _Wish.SERVE}
        standings |= {name: (Standing.WITHDRAWN, "not back yet") for name, w in wishes.items() if w is _Wish.AWAY}
        standings |= {name: (Standing.WITHDRAWN, _HELD) for name, w in wishes.items() if w is _Wish.HELD}
        standings |= dict.fromkeys(doubted, (Standing.SUSPECT, f"silent; {_FEW}"))
        standings |= dict.fromkeys(told, (Standing.WITHDRAWN, _TOLD) if goes_told else (Standing.SUSPECT, _SILENT))
        for name, wish in down.items():
            why = _SILENT if wish is _Wish.DOWN else _GRAY
            standings[name] = (Standing.WITHDRAWN, why) if goes else (Standing.SUSPECT, f"{why}; {_FEW}")
        return standings

    def _remains(self, well: Set[str]) -> bool:
        """Whether somebody is left to serve when others go."""
        return bool(well)

    def _outvoted(self, region: str, down: Collection[str]) -> bool:
        """Whether a majority of all other regions, and at least two, see every one of `down` down; or such a majority
        of regions and of witnesses that are heard, with a region among them.
        """
        regions = set(self.evidence.regions) or {self._region(name) for name in self.wishes}
        others = regions - {region}
        votes = sum(self._votes_against(down, other) for other in others)
        if votes >= max(VOTES_MIN, len(others) // 2 + 1):
            return True
        witnesses = {report.region for report in self.voters if report.witness} - regions
        seconded = votes + sum(self._votes_against(down, witness) for witness in witnesses)
        return votes > 0 and seconded >= max(VOTES_MIN, (len(others) + len(witnesses)) // 2 + 1)

    def _votes_against(self, down: Collection[str], region: str) -> bool:
        """Whether most voices of `region` see every one of `down` down."""
        voices = [report for report in self.voters if report.region == region]
        return 2 * sum(report.down.issuperset(down) for report in voices) > len(voices)

    def _unanimous(self, region: str, down: Iterable[str]) -> bool:
        """Whether no eligible observer outside sees any of `down` up. Who has not seen it counts neither way."""
        outside = [report for report in self.voters if report.region != region]
        return not any(report.sights.get(name) is Sight.UP for report in outside for name in down)

    def _withdrawn_of_late(self) -> frozenset[str]:
        """Regions that went within the guard's time, whoever led then: the record says when."""
        return frozenset(
            region.name
            for region in self.previous.regions.values()
            if region.standing is Standing.WITHDRAWN and self.now - region.changed < GUARD_SECONDS
        )

    def _wish(self, name: str) -> _Wish | None:
        """None: not in the verdict (not yet, or left on purpose)."""
        before = self.previous.nodes.get(name)
        if before is None:
            joins = name in self.evidence.members and self._back(name) and not self._says_draining(name)
            return _Wish.SERVE if joins else None
        if before.standing is Standing.DRAINING and name not in self.evidence.members:
            return None
        if before.standing is Standing.WITHDRAWN and not self._back(name):
            return _Wish.AWAY
        if before.standing is Standing.WITHDRAWN and self._penalised(before):
            return _Wish.HELD
        if before.standing is not Standing.DRAINING:
            if self._silent(name) and name in self.claimed:
                return _Wish.TOLD
            if self._silent(name) or (name in self.claimed and not self._back(name)):
                if self.accusers[name] or (self._judge_is_the_only_other(name) and self._judge_sees_down(name)):
                    return _Wish.DOWN
                if self.downs[name]:
                    return _Wish.DOUBT
            elif self._dark(name):
                return _Wish.GRAY
        if before.standing is Standing.SUSPECT and not self._back(name):
            return _Wish.DOUBT
        return _Wish.DRAIN if self._says_draining(name) else _Wish.SERVE

    def _drains(self, well: Set[str]) -> dict[str, tuple[Standing, str]]:
        """All who ask drain. If nobody else is well, one must stay: not one that drains already, so no taking turns."""
        drainers = [name for name, wish in self.wishes.items() if wish is _Wish.DRAIN]
        standings = dict.fromkeys(drainers, (Standing.DRAINING, "asked to drain"))
        able = [name for name in drainers if self._speaks(name) or not self._was(name, Standing.DRAINING)]
        if able and not well:
            stays = min(able, key=lambda name: (self._was(name, Standing.DRAINING), name))
            standings[stays] = (Standing.SERVING, "asked to drain, but nobody else serves")
        return standings

    def _penalised(self, node: NodeVerdict) -> bool:
        """Whether it fell so often of late that it stays out although it is well."""
        held_seconds = self.now - node.changed
        return held_seconds <= HELD_SECONDS_MAX and _decayed(node, self.now) > PENALTY_MAX

    def _verdict(self, name: str, standing: Standing, reason: str, keeps: bool) -> NodeVerdict:
        before, member = self.previous.nodes.get(name), self.evidence.members.get(name)
        changed, penalty = self.now, 0.0
        keeps = keeps and standing is Standing.DRAINING  # else the standing says it
        if before is not None and before.standing is standing:
            changed, penalty = before.changed, before.penalty
            if standing is not Standing.SERVING and reason != _HELD:
                reason = before.reason  # why it changed, not why it stayed
        elif before is not None:
            penalty = _decayed(before, self.now) + (standing is Standing.WITHDRAWN)
        if member is None:
            assert before is not None
            return replace(before, standing=standing, reason=reason, changed=changed, penalty=penalty, keeps=keeps)
        return NodeVerdict(name, member.region, member.addresses, standing, reason, changed, penalty, keeps)

    def _regions(self, nodes: Mapping[str, NodeVerdict]) -> dict[str, RegionVerdict]:
        """A region stands as well as its best node."""
        regions = {}
        for name in sorted({node.region for node in nodes.values()}):
            best = min((node for node in nodes.values() if node.region == name), key=lambda node: node.standing.value)
            before = self.previous.regions.get(name)
            reason, changed = best.reason, self.now
            if before is not None and before.standing is best.standing:
                changed = before.changed
                if best.standing is not Standing.SERVING and before.share is None:
                    reason = before.reason
            regions[name] = RegionVerdict(name, best.standing, reason, changed)
        return regions

    def _rooms(self, standings: Mapping[str, tuple[Standing, str]]) -> list[capacity.Room]:
        """The regions that serve, as the rule of capacity sees them; none where nobody declares what it carries, or
        not all would understand what is made of it.
        """
        heard, declared = self.evidence.heard, self.evidence.capacities
        if not self.evidence.sharing or not (declared or any(last.report.capacity for last in heard.values())):
            return []
        staying, leaving = defaultdict[str, dict[str, Standing]](dict), defaultdict[str, dict[str, Standing]](dict)
        stay = {self._region(name) for name, (standing, _) in standings.items() if standing in PUBLISHED}
        for name, found in standings.items():
            if found[0] in PUBLISHED and self._speaks(name):
                staying[self._region(name)][name] = found[0]
            elif self._region(name) not in stay and self._leaves(name, *found):
                leaving[self._region(name)][name] = found[0]
        return [
            capacity.room(region, self.previous, self.evidence, nodes, leaving=region not in staying)
            for region, nodes in {**leaving, **staying}.items()
        ]

    def _leaves(self, name: str, standing: Standing, why: str) -> bool:
        """Whether a node should go that serves still: it is drained, or gray."""
        gray = standing is Standing.WITHDRAWN and why == _GRAY
        return (gray or standing is Standing.DRAINING) and self._speaks(name)


def _decayed(node: NodeVerdict, now: float) -> float:
    """Returns what is left of its penalty: half after PENALTY_HALF_SECONDS."""
    return float(node.penalty * 0.5 ** (max(0.0, now - node.changed) / PENALTY_HALF_SECONDS))


def _forgotten(nodes: Mapping[str, NodeVerdict], members: Mapping[str, Member]) -> frozenset[str]:
    """Returns the withdrawn nodes beyond the limit that are no members any more."""
    gone = [name for name, node in nodes.items() if node.standing is Standing.WITHDRAWN and name not in members]
    return frozenset(gone[GONE_MAX:])
