"""How a candidate becomes the document in force: in stages, each judged before the next, and undone by itself.

    CHECKING --all nodes can run it--> CANARY --no worse--> REGION --no worse--> DONE
        |                                 |                    |
        +--a node refuses, or is silent-->+------- worse ------+--> UNDONE

Invariants. Nothing is served by the candidate before every node has compiled it. A stage ends only by a judgement of
enough exchanges, or by an operator (`promote`, `abort`: they end the rollout in the store, this machine is not asked).
Without enough exchanges it holds, and says so. Until DONE the version in force is the one before, so whatever dies
half way (the leader, the store, a node that restarts) leaves a cluster that can go on, and one that can go back.

What it watches is told by nodes (`NodeTrial`); the comparison is core/judging. The time of a stage counts from when
this leader saw it: a new leader waits a stage's time again.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from meridian.core.judging import HANDSHAKES, NOTHING, Arms, Finding, Tally, judge, merged, total
from meridian.core.machine import Step

CHECK_SECONDS = 30.0  # to compile a candidate; the largest document takes ten
HANDSHAKES_MIN = 10  # of changed certificates, where connections live long; a stage lasts up to twice as long for them
REGION_SHARE = 0.5  # of the region's exchanges: of two halves a difference is seen soonest


class Stage(StrEnum):
    """Where a rollout is; the last two are its ends."""

    CHECKING = "checking"
    CANARY = "canary"
    REGION = "region"
    DONE = "done"
    UNDONE = "undone"

    @property
    def over(self) -> bool:
        """Whether nothing follows."""
        return self in (Stage.DONE, Stage.UNDONE)


@dataclass(frozen=True, slots=True)
class Rules:
    """The document's `rollout`: percent of the exchanges on canary nodes, the region that follows ("": the first by
    name), how many exchanges of the candidate each stage wants, and how long it lasts at least."""

    canary_percent: float = 5.0
    region: str = ""
    min_exchanges: int = 200
    stage_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Rollout:
    """`generation` rises with each stage and from rollout to rollout, so that no count of one is taken for the next.
    `since`: monotonic seconds."""

    candidate: int
    base: int
    rules: Rules = Rules()
    stage: Stage = Stage.CHECKING
    generation: int = 1
    canaries: tuple[str, ...] = ()  # names of nodes, one of each region
    region: str = ""
    since: float = 0.0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class NodeTrial:
    """One member of the cluster that serves. `answered`: it has compiled the candidate, or says in `refused` why it
    cannot run it. `arms` are None unless they are of the present generation."""

    region: str
    answered: bool = False
    refused: str = ""
    arms: Arms | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """What the leader sees: all members that serve, by name."""

    nodes: Mapping[str, NodeTrial]


@dataclass(frozen=True, slots=True)
class Enter:
    """Command: write the new stage."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Command: make the candidate the version in force, and end."""


@dataclass(frozen=True, slots=True)
class Undo:
    """Command: end, with the version before still in force."""

    why: str


Command = Enter | Finish | Undo


@dataclass(frozen=True, slots=True)
class Part:
    """What one node has to do: compile `candidate` (0: nothing), and give it a `share` of its exchanges."""

    candidate: int = 0
    generation: int = 0
    share: float = 0.0


@dataclass(frozen=True, slots=True)
class Progress:
    """What a stage has seen, for people."""

    candidate: Tally = NOTHING
    current: Tally = NOTHING


def first_generation(candidate: int) -> int:
    """The generation that a rollout begins with: those of two candidates never meet."""
    return candidate * len(Stage)


def step(rollout: Rollout, event: Observed, now: float) -> Step[Rollout, Command]:
    """Returns the state after the leader looked."""
    if rollout.stage.over or not event.nodes:
        return Step(rollout)
    refused = [f"{name}: {node.refused}" for name, node in sorted(event.nodes.items()) if node.refused]
    if refused:
        return _undo(rollout, f"refused by {'; '.join(refused)}")
    if rollout.stage is Stage.CHECKING:
        return _check(rollout, event.nodes, now)
    return _watch(rollout, event.nodes, now)


def deadline(rollout: Rollout) -> float | None:
    """Returns when the state may change by time alone."""
    match rollout.stage:
        case Stage.CHECKING:
            return rollout.since + CHECK_SECONDS
        case Stage.CANARY | Stage.REGION:
            return rollout.since + rollout.rules.stage_seconds
        case _:
            return None


def part(rollout: Rollout | None, name: str, region: str) -> Part:
    """What the node `name` of `region` does in this rollout."""
    if rollout is None or rollout.stage.over:
        return Part()
    share = 0.0
    if rollout.stage is Stage.REGION and region == rollout.region:
        share = REGION_SHARE
    elif rollout.stage in (Stage.CANARY, Stage.REGION) and name in rollout.canaries:
        share = rollout.rules.canary_percent / 100
    return Part(rollout.candidate, rollout.generation, share)


def progress(rollout: Rollout, nodes: Mapping[str, NodeTrial]) -> Progress:
    """What the present stage has seen."""
    arms = merged(_arms(rollout, nodes))
    return Progress(total(arms.candidate), total(arms.current)) if arms else Progress()


def _check(rollout: Rollout, nodes: Mapping[str, NodeTrial], now: float) -> Step[Rollout, Command]:
    silent = sorted(name for name, node in nodes.items() if not node.answered)
    if not silent:
        return _enter(rollout, Stage.CANARY, nodes, now)
    if now >= rollout.since + CHECK_SECONDS:
        return _undo(rollout, f"{', '.join(silent)} did not say within {CHECK_SECONDS:.0f} s whether it can run it")
    return Step(replace(rollout, detail=f"waiting for {', '.join(silent)} to check it"))


def _watch(rollout: Rollout, nodes: Mapping[str, NodeTrial], now: float) -> Step[Rollout, Command]:
    lost = sorted(name for name in rollout.canaries if name not in nodes or not nodes[name].answered)
    if lost:
        return _undo(rollout, f"{', '.join(lost)} left or restarted while trying it; if that was not its fault, again")
    finding = _finding(rollout, nodes)
    if finding is not None:
        return _undo(rollout, str(finding))
    seen, wanted = progress(rollout, nodes).candidate.exchanges, rollout.rules.min_exchanges
    if seen < wanted:
        return Step(replace(rollout, detail=f"too little traffic to judge: {seen} of {wanted} exchanges"))
    if now < rollout.since + rollout.rules.stage_seconds:
        return Step(replace(rollout, detail=f"no worse in {seen} exchanges so far"))
    shown = _handshakes(rollout, nodes)
    if shown < HANDSHAKES_MIN and now < rollout.since + 2 * rollout.rules.stage_seconds:
        few = f"too few TLS handshakes to judge the changed certificates: {shown} of {HANDSHAKES_MIN}"
        return Step(replace(rollout, detail=few))
    if rollout.stage is Stage.CANARY and any(node.region == rollout.region for node in nodes.values()):
        return _enter(rollout, Stage.REGION, nodes, now)
    unseen = f"; of changed certificates only {shown} TLS handshakes were seen" if shown < HANDSHAKES_MIN else ""
    done = replace(rollout, stage=Stage.DONE, detail=f"no worse in {seen} exchanges{unseen}")
    return Step(done, (Finish(),))


def _enter(rollout: Rollout, stage: Stage, nodes: Mapping[str, NodeTrial], now: float) -> Step[Rollout, Command]:
    first: dict[str, str] = {}
    for name, node in sorted(nodes.items()):
        first.setdefault(node.region, name)
    canaries = rollout.canaries or tuple(first.values())
    region = rollout.region or (rollout.rules.region if rollout.rules.region in first else min(first))
    entered = replace(
        rollout, stage=stage, generation=rollout.generation + 1, canaries=canaries, region=region, since=now, detail=""
    )
    return Step(entered, (Enter(),))


def _undo(rollout: Rollout, why: str) -> Step[Rollout, Command]:
    return Step(replace(rollout, stage=Stage.UNDONE, detail=why), (Undo(why),))


def _finding(rollout: Rollout, nodes: Mapping[str, NodeTrial]) -> Finding | None:
    arms = merged(_arms(rollout, nodes))
    return judge(arms) if arms is not None else None


def _handshakes(rollout: Rollout, nodes: Mapping[str, NodeTrial]) -> float:
    """How many were shown certificates of the candidate that differ; without end if none differ."""
    arms = merged(_arms(rollout, nodes))
    sample = arms.samples.get(HANDSHAKES) if arms is not None else None
    return sample.candidate.exchanges if sample is not None else math.inf


def _arms(rollout: Rollout, nodes: Mapping[str, NodeTrial]) -> Iterable[Arms]:
    """Those that this stage is judged by: with the stage's own share, for one share only can be judged together."""
    for name, node in nodes.items():
        share = part(rollout, name, node.region).share
        own = rollout.stage is Stage.CANARY or node.region == rollout.region
        if own and share and node.arms is not None and node.arms.share == share:
            yield node.arms
