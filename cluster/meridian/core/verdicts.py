"""One judgement of all nodes and regions, made from what every node sees of every other.

Invariant (5 of the architecture): what serves is never judged away by one voice, and never all of it.
- A **node** goes when its own signal stopped (or says that it does not serve) and one other node sees it down. The
  judge is no such other unless there is nobody else: silence is his own observation already, and a leader that is cut
  off hears nobody and sees one after the other go down.
- The last nodes of a **region** go only by a majority of all other regions, one vote each, and never fewer than two
  votes: with one observer region left they are SUSPECT instead, which DNS answers last, but answers.
- Nobody goes unless a node that is well remains. So when all is down, the last good set stays.
- No report means unknown, never down. Who sees all of several others down abstains: it is he who is cut off.
- The way back is slow: a node that was judged down or SUSPECT returns when it speaks for itself and more of those who
  report see it up than down; the counting (`rise`) happens in the observers' probes (core/health).

Silence alone is judged by reports, not by the member key: a node that the store forgot but that speaks is not silent
(invariant 4: store health is not serving health). A node that was DRAINING and whose key went has left on purpose.

A judgement starts from the verdict before it and from the evidence; there is no other memory, so that a new leader that
takes the stored verdict goes on where the old one stopped.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from enum import Enum

from meridian.core.health import Sight

REPORT_PERIOD_SECONDS = 0.5  # reports come on change at once, else at this pace
SILENT_SECONDS = 1.5  # three reports missed: one lost packet, or a pause of a second, is no silence
STALE_SECONDS = 2.0  # an older report is no evidence about others
VOTES_MIN = 2  # for a region: one observer is never enough without a witness outside both
GONE_MAX = 256  # withdrawn nodes without a member key that are remembered; machines come and go under new names


class Standing(Enum):
    """How a node or region stands in the verdict. Values equal those of health.proto."""

    SERVING = 0
    SUSPECT = 1  # kept, but answered last
    DRAINING = 2
    WITHDRAWN = 3


PUBLISHED = frozenset({Standing.SERVING, Standing.SUSPECT})


@dataclass(frozen=True, slots=True)
class NodeVerdict:
    """The judgement of one node. `addresses` are what DNS answers for it."""

    name: str
    region: str
    addresses: tuple[str, ...]
    standing: Standing
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RegionVerdict:
    """The judgement of one region."""

    name: str
    standing: Standing
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One judgement of everything. Greater (fence, version) wins; readers refuse anything else."""

    fence: int = 0
    version: int = 0
    nodes: Mapping[str, NodeVerdict] = field(default_factory=dict)
    regions: Mapping[str, RegionVerdict] = field(default_factory=dict)
    leader: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What one node sees of all others, and says of itself. Reports of one node are ordered by (epoch, sequence)."""

    observer: str
    region: str
    node_id: str
    epoch: int
    sequence: int
    sights: Mapping[str, Sight]
    draining: bool = False
    serving: bool = True
    age_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Heard:
    """A report and when it was made, by the receiver's clock: arrival less the age that it claimed."""

    report: Report
    made: float


@dataclass(frozen=True, slots=True)
class Member:
    """What the judgement needs of a member record."""

    name: str
    region: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a judgement rests on besides the verdict before it.

    `since` is when the judge began to listen without a break: silence before it is his own. `regions` are those of the
    operator's document; if it names none, those of the nodes count.
    """

    heard: Mapping[str, Heard]
    members: Mapping[str, Member]
    regions: frozenset[str]
    since: float


def greater(candidate: Verdict, held: Verdict) -> bool:
    """Whether a reader that holds `held` accepts `candidate`."""
    return (candidate.fence, candidate.version) > (held.fence, held.version)


def newer(report: Report, held: Heard | None, now: float) -> bool:
    """Whether a receiver accepts `report` over the one it holds of the same observer.

    A node that starts while the store is away has no epoch yet; its reports count once its former boot has gone stale.
    """
    if held is None or (report.epoch, report.sequence) > (held.report.epoch, held.report.sequence):
        return True
    return report.node_id != held.report.node_id and now - held.made > STALE_SECONDS


def judge(previous: Verdict, evidence: Evidence, now: float, *, leader: str, fence: int) -> Verdict:
    """Returns the verdict after `evidence` at `now` (monotonic seconds).

    It is `previous` itself if nothing changed, has the same version under the new fence if only the leader changed, and
    else the next version. Rules: design/verdicts.md; in the heading of this file in words.
    """
    nodes = _Case(previous, evidence, now, leader).nodes()
    regions = _regions(previous, nodes)
    version = previous.version + (nodes != previous.nodes or regions != previous.regions)
    if (version, fence, leader) == (previous.version, previous.fence, previous.leader):
        return previous
    return Verdict(fence, version, nodes, regions, leader)


class _Wish(Enum):
    """What the evidence about one node alone asks for, before the rules about what must remain."""

    SERVE = 0
    DOUBT = 1  # silent, and seen down only by those who abstain; or not yet back
    DRAIN = 2
    DOWN = 3  # silent, and another sees it down
    AWAY = 4  # withdrawn before, and not back


class _Case:
    """One judgement under way: the evidence, read in the ways the rules ask for. Lives for one call of `judge`."""

    def __init__(self, previous: Verdict, evidence: Evidence, now: float, leader: str) -> None:
        self.previous = previous
        self.evidence = evidence
        self.now = now
        self.leader = leader
        self.observers = [
            heard.report
            for name, heard in sorted(evidence.heard.items())
            if now - heard.made <= STALE_SECONDS and not self._was(name, Standing.WITHDRAWN)
        ]
        self.voters = [report for report in self.observers if not _sees_all_down(report)]
        self.ups = _count(self.observers, Sight.UP)
        self.downs = _count(self.observers, Sight.DOWN)
        self.witnesses = _count((report for report in self.voters if report.observer != leader), Sight.DOWN)
        self.standing = {n for n, node in previous.nodes.items() if node.standing is not Standing.WITHDRAWN}
        self.wishes = {name: wish for name in self._names() if (wish := self._wish(name)) is not None}

    def nodes(self) -> dict[str, NodeVerdict]:
        """Returns the nodes of the new verdict: each its wish, unless nobody well would remain."""
        standings: dict[str, tuple[Standing, str]] = {}
        well = {name for name, wish in self.wishes.items() if wish is _Wish.SERVE and not self._silent(name)}
        standings |= self._drains(well)
        well |= {name for name, (standing, _) in standings.items() if standing is Standing.SERVING}
        for region in {self._region(name) for name in self.wishes}:
            standings |= self._standings_in(region, well)
        nodes = {name: self._verdict(name, *standings[name]) for name in sorted(standings)}
        forgotten = _forgotten(nodes, self.evidence.members)
        return {name: node for name, node in nodes.items() if name not in forgotten}

    def _standings_in(self, region: str, well: Set[str]) -> dict[str, tuple[Standing, str]]:
        """The rule of two levels: down nodes go while their region has one that is well, else with their region."""
        wishes = {n: w for n, w in self.wishes.items() if self._region(n) == region and w is not _Wish.DRAIN}
        down = [name for name, wish in wishes.items() if wish is _Wish.DOWN]
        doubted = [name for name, wish in wishes.items() if wish is _Wish.DOUBT]
        if any(name in well for name in wishes):
            goes, why = True, "silent, and seen down"
        else:
            goes = bool(well) and not doubted and self._outvoted(region, down)
            why = "silent, and most other regions see it down" if goes else "silent; too few observers to withdraw it"
        standings = {name: (Standing.SERVING, "") for name, wish in wishes.items() if wish is _Wish.SERVE}
        standings |= {name: (Standing.WITHDRAWN, "not back yet") for name, w in wishes.items() if w is _Wish.AWAY}
        standings |= dict.fromkeys(doubted, (Standing.SUSPECT, "silent; too few observers to withdraw it"))
        return standings | dict.fromkeys(down, (Standing.WITHDRAWN if goes else Standing.SUSPECT, why))

    def _outvoted(self, region: str, down: Iterable[str]) -> bool:
        """Whether a majority of all other regions, and at least two, see every one of `down` down."""
        others = set(self.evidence.regions) or {self._region(name) for name in self.wishes}
        others -= {region}
        votes = 0
        for other in others:
            voices = [report for report in self.voters if report.region == other]
            against = sum(all(report.sights.get(name) is Sight.DOWN for name in down) for report in voices)
            votes += 2 * against > len(voices)
        return votes >= max(VOTES_MIN, len(others) // 2 + 1)

    def _wish(self, name: str) -> _Wish | None:
        """None: not in the verdict (not yet, or left on purpose)."""
        before = self.previous.nodes.get(name)
        back = self._speaks(name) and self._welcome(name)
        if before is None:
            return _Wish.SERVE if name in self.evidence.members and back and not self._says_draining(name) else None
        if before.standing is Standing.DRAINING and name not in self.evidence.members:
            return None
        if before.standing is Standing.WITHDRAWN and not back:
            return _Wish.AWAY
        if before.standing is not Standing.DRAINING and self._silent(name):
            if self.witnesses[name] or (self._judge_is_the_only_other(name) and self._judge_sees_down(name)):
                return _Wish.DOWN
            if self.downs[name]:
                return _Wish.DOUBT
        if before.standing is Standing.SUSPECT and not back:
            return _Wish.DOUBT
        return _Wish.DRAIN if self._says_draining(name) else _Wish.SERVE

    def _names(self) -> list[str]:
        return sorted({*self.previous.nodes, *self.evidence.members})

    def _drains(self, well: Set[str]) -> dict[str, tuple[Standing, str]]:
        """All who ask drain. If nobody else is well, one must stay: not one that drains already, so no taking turns."""
        drainers = [name for name, wish in self.wishes.items() if wish is _Wish.DRAIN]
        standings = dict.fromkeys(drainers, (Standing.DRAINING, "asked to drain"))
        able = [name for name in drainers if self._speaks(name) or not self._was(name, Standing.DRAINING)]
        if able and not well:
            stays = min(able, key=lambda name: (self._was(name, Standing.DRAINING), name))
            standings[stays] = (Standing.SERVING, "asked to drain, but nobody else serves")
        return standings

    def _was(self, name: str, standing: Standing) -> bool:
        before = self.previous.nodes.get(name)
        return before is not None and before.standing is standing

    def _region(self, name: str) -> str:
        member = self.evidence.members.get(name)
        return member.region if member else self.previous.nodes[name].region

    def _speaks(self, name: str) -> bool:
        """Whether the node's own signal says that it serves."""
        heard = self.evidence.heard.get(name)
        return heard is not None and heard.report.serving and self.now - heard.made <= SILENT_SECONDS

    def _silent(self, name: str) -> bool:
        """Whether its signal stopped, or says that it does not serve. Neither speaking nor silent: not heard yet."""
        heard = self.evidence.heard.get(name)
        if heard is not None and not heard.report.serving:
            return True
        made = heard.made if heard is not None else self.evidence.since
        return self.now - max(made, self.evidence.since) > SILENT_SECONDS

    def _says_draining(self, name: str) -> bool:
        heard = self.evidence.heard.get(name)
        return heard.report.draining if heard is not None else self._was(name, Standing.DRAINING)

    def _judge_is_the_only_other(self, name: str) -> bool:
        return self.standing <= {name, self.leader}

    def _judge_sees_down(self, name: str) -> bool:
        return any(r.observer == self.leader and r.sights.get(name) is Sight.DOWN for r in self.voters)

    def _welcome(self, name: str) -> bool:
        """Whether more of the others see it up than down, or there are no others."""
        alone = all(report.observer == name for report in self.observers)
        return alone or self.ups[name] > self.downs[name]

    def _verdict(self, name: str, standing: Standing, reason: str) -> NodeVerdict:
        before, member = self.previous.nodes.get(name), self.evidence.members.get(name)
        if before is not None and before.standing is standing:
            reason = before.reason if standing is not Standing.SERVING else reason  # why it changed, not why it stayed
        if member is None:
            assert before is not None
            return replace(before, standing=standing, reason=reason)
        return NodeVerdict(name, member.region, member.addresses, standing, reason)


def _count(reports: Iterable[Report], sight: Sight) -> Counter[str]:
    """Returns, by node, how many others see it so."""
    return Counter(
        name for report in reports for name, seen in report.sights.items() if seen is sight and name != report.observer
    )


def _sees_all_down(report: Report) -> bool:
    """Whether an observer of several nodes holds every one of them down: then it is he who is cut off."""
    known = [sight for sight in report.sights.values() if sight is not Sight.UNKNOWN]
    return len(known) >= 2 and all(sight is Sight.DOWN for sight in known)


def _forgotten(nodes: Mapping[str, NodeVerdict], members: Mapping[str, Member]) -> frozenset[str]:
    """Returns the withdrawn nodes beyond the limit that are no members any more."""
    gone = [name for name, node in nodes.items() if node.standing is Standing.WITHDRAWN and name not in members]
    return frozenset(gone[GONE_MAX:])


def _regions(previous: Verdict, nodes: Mapping[str, NodeVerdict]) -> dict[str, RegionVerdict]:
    """A region stands as well as its best node."""
    regions = {}
    for name in sorted({node.region for node in nodes.values()}):
        best = min((node for node in nodes.values() if node.region == name), key=lambda node: node.standing.value)
        before = previous.regions.get(name)
        kept = before is not None and before.standing is best.standing and best.standing is not Standing.SERVING
        reason = before.reason if kept and before is not None else best.reason
        regions[name] = RegionVerdict(name, best.standing, reason)
    return regions
