"""A node's workers as its agent sees them: one channel to each, the state they all get, what they answered.

Invariant: every worker that is connected holds, or is about to get, the latest of each kind of state; a worker that
comes (again) gets all of it anew. Nothing here waits for a worker.

In an upgrade there are workers beside those in their places: such as will take over, and such as finish. They get all
state but what limits are spent by; nobody waits for their answers, and what they say of limits is not heard.
"""

import math
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from meridian.control.messages import verdict_to_proto
from meridian.core.judging import Arms, merged
from meridian.core.rollout import Part
from meridian.core.verdicts import Verdict
from meridian.nodes import clock
from meridian.nodes.channel import STATE, Channel
from meridian.nodes.reports import metrics_from_proto, spans_from_proto
from meridian.nodes.trials import arms_from_proto
from meridian.telemetry.metrics import Series
from meridian.telemetry.spans import SpanRecord
from meridian_proto.v1.channel_pb2 import (
    Config,
    ConfigAck,
    DownEndpoint,
    Drain,
    EndpointHealth,
    Explained,
    Frame,
    Hello,
    Tallies,
    Trial,
)

SPENDING = ("allowance", "spenders", "letters")  # only for who serves in its place: two may not spend one part

_log = structlog.get_logger("meridian.crew")


@dataclass(slots=True)
class WorkerState:
    """What is known of one worker. `refused` is why it keeps `config_version` instead of `answered`.

    `heard`: when it said something last, by the node's clock; one in this process needs not to be listened for.
    """

    kind: str
    slot: int
    connected: bool = False
    pid: int = 0
    heard: float = math.inf
    config_version: int = 0
    answered: int = 0
    refused: str = ""
    series: Sequence[Series] = field(default_factory=tuple)
    proofs_held: int = 0  # the revision that it answers with
    candidate: int = 0  # that was answered last
    candidate_refused: str = ""
    tallies: Tallies = field(default_factory=Tallies)

    @property
    def label(self) -> str:
        """For logs and metrics."""
        return f"{self.kind}-{self.slot}"

    def acknowledge(self, ack: ConfigAck) -> None:
        """Takes the worker's answer to a document."""
        self.answered, self.refused = ack.version, ack.refused
        if not ack.refused:
            self.config_version = ack.version

    def acknowledge_candidate(self, ack: ConfigAck) -> None:
        """Takes the worker's answer to a candidate."""
        self.candidate, self.candidate_refused = ack.version, ack.refused


class Crew(Protocol):
    """The workers of a node, in other processes or in this one."""

    @property
    def workers(self) -> Sequence[WorkerState]:
        """All workers that this node should have."""

    def send(self, frame: Frame, kind: str | None = None) -> None:
        """Gives state to all workers, or to those of one kind."""

    def send_to(self, kind: str, slot: int, frame: Frame) -> None:
        """Gives one worker what is for it alone; nothing happens if this node has no such worker."""


class Reporting(Protocol):
    """Who takes what workers say. On the loop, and quick."""

    def on_crew_changed(self) -> None:
        """A worker came, went, or answered to a document."""

    def on_spans(self, spans: Iterable[SpanRecord]) -> None:
        """Spans that have ended."""

    def on_spender(self, slot: int) -> None:
        """A gateway worker is there (again); no worker before it in this slot runs any more."""

    def on_spending(self, slot: int, frame: Frame) -> None:
        """What a gateway worker says of limits: an allowance confirmed, or letters to others."""

    def on_explained(self, told: Explained) -> None:
        """What a gateway worker would do with a request that it was asked about."""


class ProcessCrew:
    """Workers in processes of their own, over channels that the launcher makes."""

    def __init__(self, kinds: Mapping[str, int], reporting: Reporting) -> None:
        """`kinds`: how many workers of each kind this node has."""
        self._reporting = reporting
        self._links = {
            (kind, slot): _Link(WorkerState(kind, slot), reporting)
            for kind, count in kinds.items()
            for slot in range(count)
        }
        self._beside: dict[tuple[str, int, int], _Link] = {}  # by kind, slot and generation

    @property
    def workers(self) -> Sequence[WorkerState]:
        """All workers that this node should have."""
        return [link.state for link in self._links.values()]

    @property
    def dropped(self) -> int:
        """Reports to workers that were dropped because they did not read them."""
        return sum(link.channel.outbox.dropped for link in self._links.values())

    async def attach(self, kind: str, slot: int, sock: socket.socket, generation: int = 0, serves: bool = True) -> None:
        """Takes a fresh channel to a worker: the one that `serves` in its place, or one beside it."""
        if serves:
            self.succeeded(kind, slot, generation)
            link = self._links[kind, slot]
        else:
            link = self._beside_of(kind, slot, generation)
        try:
            await link.channel.attach(sock)
        except OSError as error:  # it died meanwhile: the launcher makes another channel
            _log.info("channel not opened", kind=kind, slot=slot, reason=str(error))

    def succeeded(self, kind: str, slot: int, generation: int) -> None:
        """The worker of this generation serves in its place from now on; the one before finishes."""
        old = self._links[kind, slot]
        if old.generation == generation:
            return
        new = self._beside_of(kind, slot, generation)
        del self._beside[kind, slot, generation]
        self._links[kind, slot], self._beside[kind, slot, old.generation] = new, old
        old.beside, new.beside = True, False
        for frame in old.channel.outbox.state(SPENDING):
            new.channel.send(frame)
        if kind == "gateway" and new.state.connected:
            self._reporting.on_spender(slot)
        self._reporting.on_crew_changed()

    def _beside_of(self, kind: str, slot: int, generation: int) -> "_Link":
        """A link beside the place, with the state that all get; those whose worker has gone are forgotten."""
        self._beside = {key: link for key, link in self._beside.items() if not link.over}
        link = self._beside.get((kind, slot, generation))
        if link is None:
            link = _Link(WorkerState(kind, slot), self._reporting, generation, beside=True)
            self._beside[kind, slot, generation] = link
            serving = self._links[kind, slot].channel.outbox
            for frame in serving.state([one for one in STATE if one not in SPENDING]):
                link.channel.send(frame)
        return link

    def send(self, frame: Frame, kind: str | None = None) -> None:
        """Gives state to all workers, or to those of one kind. The frame is the channels' afterwards."""
        spending = frame.WhichOneof("body") in SPENDING
        for link in [*self._links.values(), *(() if spending else self._beside.values())]:
            if kind in (None, link.state.kind):
                own = Frame()
                own.CopyFrom(frame)  # each channel writes its own number into it
                link.channel.send(own)

    def send_to(self, kind: str, slot: int, frame: Frame) -> None:
        """Gives one worker what is for it alone. The frame is the channel's afterwards."""
        if (link := self._links.get((kind, slot))) is not None:
            link.channel.send(frame)

    def close(self) -> None:
        """Ends all channels."""
        for link in [*self._links.values(), *self._beside.values()]:
            link.channel.close()


class _Link:
    """One worker and its channel; the channel's listener."""

    def __init__(
        self, state: WorkerState, reporting: Reporting, generation: int = 0, *, beside: bool = False
    ) -> None:  # fmt: skip
        self.state = state
        self.generation = generation
        self.beside = beside  # it does not serve yet, or not any more
        self.over = False
        self.channel = Channel(_hello, self)
        self._reporting = reporting

    def on_hello(self, hello: Hello) -> None:
        self.state.connected, self.state.pid, self.state.heard = True, hello.pid, clock.now()
        # What it serves now; it will answer to the document that is sent anew, and only then counts as having it.
        self.state.config_version, self.state.answered, self.state.refused = hello.config_version, 0, ""
        self.over = False
        if self.state.kind == "gateway" and not self.beside:
            self._reporting.on_spender(self.state.slot)
        self.state.candidate, self.state.candidate_refused, self.state.tallies = 0, "", Tallies()
        self.state.proofs_held = 0
        self._reporting.on_crew_changed()

    def on_lost(self, reason: str) -> None:
        log = _log.info if self.beside else _log.warning
        log("worker lost", lost=self.state.label, pid=self.state.pid, reason=reason)
        self.state.connected, self.over = False, True
        self._reporting.on_crew_changed()

    def on_frame(self, frame: Frame) -> None:
        self.state.heard = clock.now()
        match frame.WhichOneof("body"):
            case "config_ack":
                self.state.acknowledge(frame.config_ack)
                self._reporting.on_crew_changed()
            case "candidate_ack":
                self.state.acknowledge_candidate(frame.candidate_ack)
                self._reporting.on_crew_changed()
            case "proofs_held":
                self.state.proofs_held = frame.proofs_held.revision
                self._reporting.on_crew_changed()
            case "tallies":
                self.state.tallies = frame.tallies
            case "metrics":
                self.state.series = metrics_from_proto(frame.metrics)
            case "spans":
                self._reporting.on_spans(spans_from_proto(frame.spans))
            case "confirmed" | "letters" if not self.beside:
                self._reporting.on_spending(self.state.slot, frame)
            case "explained":
                self._reporting.on_explained(frame.explained)


def _hello() -> Hello:
    return Hello(kind="agent", pid=os.getpid())


def config_frame(version: int, document: bytes, files: Mapping[str, bytes]) -> Frame:
    """A document for workers."""
    return Frame(config=Config(version=version, document=document, files=dict(files)))


def candidate_frame(version: int, document: bytes, files: Mapping[str, bytes]) -> Frame:
    """A document that workers hold ready for a trial; version 0: none."""
    return Frame(candidate=Config(version=version, document=document, files=dict(files)))


def trial_frame(part: Part) -> Frame:
    """How much of the traffic the candidate takes."""
    return Frame(trial=Trial(version=part.candidate, generation=part.generation, share=part.share))


def verdict_frame(verdict: Verdict, now: float) -> Frame:
    """A verdict for workers, whose clock is this node's."""
    return Frame(verdict=verdict_to_proto(verdict, now))


def health_frame(down: Mapping[str, frozenset[str]]) -> Frame:
    """The endpoints that probes found down."""
    return Frame(
        endpoint_health=EndpointHealth(
            down=[
                DownEndpoint(upstream=upstream, address=address)
                for upstream, addresses in sorted(down.items())
                for address in sorted(addresses)
            ]
        )
    )


def drain_frame(on: bool) -> Frame:
    """Whether this node tells its clients to leave."""
    return Frame(drain=Drain(on=on))


def answered(workers: Sequence[WorkerState], version: int) -> str | None:
    """How the workers answered to a version: None while an answer is missing, "" if all took it, else why one did not.

    A worker that is away is not waited for: it gets the document when it is back. But one gateway must have answered.
    """
    present = [worker for worker in workers if worker.connected]
    if not any(worker.kind == "gateway" for worker in present):
        return None
    for worker in present:
        if worker.answered == version and worker.refused:
            return f"{worker.label}: {worker.refused}"
    return "" if all(worker.answered == version for worker in present) else None


def checked(workers: Sequence[WorkerState], version: int) -> str | None:
    """As `answered`, to a candidate."""
    present = [worker for worker in workers if worker.connected]
    if not any(worker.kind == "gateway" for worker in present):
        return None
    for worker in present:
        if worker.candidate == version and worker.candidate_refused:
            return f"{worker.label}: {worker.candidate_refused}"
    return "" if all(worker.candidate == version for worker in present) else None


def proofs_held(workers: Sequence[WorkerState], revision: int) -> int:
    """`revision`, if every worker that is there answers with the proofs up to it, else 0."""
    return revision if all(one.proofs_held == revision for one in workers if one.connected) else 0


def tried(workers: Sequence[WorkerState], part: Part) -> Arms | None:
    """What this node's workers have counted in the trial that `part` is of; None before they counted anything."""
    return merged(
        arms_from_proto(part.share, one.tallies)
        for one in workers
        if part.share and one.tallies.generation == part.generation
    )


def serves(workers: Sequence[WorkerState]) -> bool:
    """Whether clients of this node are answered at all: some gateway worker is there and has a document."""
    return any(worker.kind == "gateway" and worker.connected and worker.config_version > 0 for worker in workers)
