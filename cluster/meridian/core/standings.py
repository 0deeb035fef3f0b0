"""What nodes say of each other, and what is judged of it: reports, evidence and verdicts, as data. Pure.

Invariant: everything here means the same to every node. Times (`made`, `changed`) are monotonic seconds of the clock of
whoever holds the value; between nodes and in the store they travel as ages (control/messages), so no two clocks are
ever compared. What is late on its way looks younger than it is, which only makes the rules more careful.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from meridian.core.health import Sight

REPORT_PERIOD_SECONDS = 0.5  # reports come on change at once, else at this pace
SILENT_SECONDS = 1.5  # three reports missed: one lost packet, or a pause of a second, is no silence
STALE_SECONDS = 2.0  # an older report is no evidence about others
DARK_SECONDS = 3.0  # no good probe for so long: six to eight misses in a row, which 5 % of lost packets do not make


class Standing(Enum):
    """How a node or region stands in the verdict. Values equal those of health.proto."""

    SERVING = 0
    SUSPECT = 1  # kept, but answered last
    DRAINING = 2
    WITHDRAWN = 3


PUBLISHED = frozenset({Standing.SERVING, Standing.SUSPECT})


@dataclass(frozen=True, slots=True)
class NodeVerdict:
    """The judgement of one node. `addresses` are what DNS answers for it.

    `changed` is when it came to stand so, `penalty` what its withdrawals weighed at that moment: the memory of the
    rules, which goes with the record from leader to leader. Neither makes a verdict another one. `keeps`: it is
    DRAINING, but still serves the share of clients that its region keeps.
    """

    name: str
    region: str
    addresses: tuple[str, ...]
    standing: Standing
    reason: str = ""
    changed: float = field(default=0.0, compare=False)
    penalty: float = field(default=0.0, compare=False)
    keeps: bool = False

    @property
    def answered(self) -> bool:
        """Whether DNS gives its addresses."""
        return self.standing in PUBLISHED or self.keeps


@dataclass(frozen=True, slots=True)
class RegionVerdict:
    """The judgement of one region; `changed` as a node's.

    `share` is the part of the clients who come to it that it keeps (core/capacity); None: its standing alone decides.
    `moved` is when the share last changed, `demand` what came to the region in requests per second before it did: the
    rule's memory, as above.
    """

    name: str
    standing: Standing
    reason: str = ""
    changed: float = field(default=0.0, compare=False)
    share: float | None = None
    demand: float = field(default=0.0, compare=False)
    moved: float = field(default=float("-inf"), compare=False)

    @property
    def part(self) -> float:
        """Of the clients who come to it, how many stay: 0 to 1."""
        return self.share if self.share is not None else float(self.standing in PUBLISHED)


@dataclass(frozen=True, slots=True)
class Distance:
    """How long a round trip between two regions takes, and since when this figure holds (core/distances)."""

    seconds: float
    taken: float = field(default=0.0, compare=False)


Pair = tuple[str, str]
"""Two regions, in order of name."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One judgement of everything. Greater (fence, version) wins; readers refuse anything else.

    `fallback` counts what this node merged itself upon that version while the leader was silent; it is 0 in every
    verdict that a leader wrote, and no other verdict is ever told to another node or to the store.
    """

    fence: int = 0
    version: int = 0
    nodes: Mapping[str, NodeVerdict] = field(default_factory=dict)
    regions: Mapping[str, RegionVerdict] = field(default_factory=dict)
    leader: str = ""
    fallback: int = 0
    distances: Mapping[Pair, Distance] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    """What one node sees of all others, and says of itself. Reports of one node are ordered by (epoch, sequence).

    `heard`: by node, the age in seconds of the newest report that this observer holds of it. `dark`: nodes that it sees
    DOWN and has not reached for DARK_SECONDS. `withdrawn`: nodes that its fallback withdrew beyond the last fenced
    verdict, told so that the next leader does not bring them back without the slow path. `fence` and `version` are
    those of the fenced verdict in force there. A `witness` serves nobody: it only looks, votes and leads. `load` is
    what the observer serves, smoothed, `capacity` what it declares to carry (0: nothing), in requests per second.
    `round_trips`: by other region, in seconds, of its last probes there.

    `down` and `lost` (sees several, and every one of them down) follow from `sights`. They are made once, here: a judge
    of 500 nodes holds 250,000 sights and reads them twenty times a second.
    """

    observer: str
    region: str
    node_id: str
    epoch: int
    sequence: int
    sights: Mapping[str, Sight]
    draining: bool = False
    serving: bool = True
    age_seconds: float = 0.0
    heard: Mapping[str, float] = field(default_factory=dict)
    dark: frozenset[str] = frozenset()
    withdrawn: frozenset[str] = frozenset()
    witness: bool = False
    fence: int = 0
    version: int = 0
    load: float = 0.0
    capacity: float = 0.0
    round_trips: Mapping[str, float] = field(default_factory=dict)
    down: frozenset[str] = field(init=False, compare=False, repr=False)
    lost: bool = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        down = frozenset(name for name, sight in self.sights.items() if sight is Sight.DOWN)
        # Who sees one up is not lost, and that is found at once in nearly every report.
        lost = len(down) >= 2 and not any(sight is Sight.UP for sight in self.sights.values())
        object.__setattr__(self, "down", down)
        object.__setattr__(self, "lost", lost)


@dataclass(frozen=True, slots=True)
class Heard:
    """A report and when it was made, by the receiver's clock: arrival less the age that it claimed."""

    report: Report
    made: float


@dataclass(frozen=True, slots=True)
class Member:
    """What the judgement needs of a member record. A witness is never judged: nobody is sent to it."""

    name: str
    region: str
    addresses: tuple[str, ...]
    witness: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a judgement rests on besides the verdict before it.

    `since` is when the judge began to listen without a break: silence before it is his own. `regions` are those of the
    operator's document; if it names none, those of the nodes count. `capacities` are what it says that regions carry,
    in requests per second; `sharing`: every member can read shares (core/speech).
    """

    heard: Mapping[str, Heard]
    members: Mapping[str, Member]
    regions: frozenset[str]
    since: float
    capacities: Mapping[str, float] = field(default_factory=dict)
    sharing: bool = True


def greater(candidate: Verdict, held: Verdict) -> bool:
    """Whether a reader that holds `held` accepts `candidate`. What it merged itself never stands in the way."""
    return (candidate.fence, candidate.version) > (held.fence, held.version)


def newer(report: Report, held: Heard | None, now: float) -> bool:
    """Whether a receiver accepts `report` over the one it holds of the same observer.

    A node that starts while the store is away has no epoch yet; its reports count once its former boot has gone stale.
    """
    if held is None or (report.epoch, report.sequence) > (held.report.epoch, held.report.sequence):
        return True
    return report.node_id != held.report.node_id and now - held.made > STALE_SECONDS


def cut_off(evidence: Evidence, own: str, now: float) -> bool:
    """Whether the node `own` hears of fewer than half of those whom the store holds alive: then it is no judge of them.

    Counted are regions, as in the votes, or nodes if all stand in one region. Whoever is dead has no member key for
    long, so that the last one alive is not cut off, however alone.
    """
    members = evidence.members
    heard = {name for name, last in evidence.heard.items() if now - last.made <= STALE_SECONDS} | {own}
    regions = {member.region for member in members.values()}
    if len(regions) > 1:
        return 2 * len({members[name].region for name in heard & members.keys()}) < len(regions)
    return 2 * len(heard & members.keys()) < len(members)
