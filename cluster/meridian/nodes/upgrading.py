"""An upgrade of a node: workers of a new generation beside those that serve, with the code that is installed now.

    preparing -> draining -> over      each successor takes over; those before finish their connections and leave
    preparing -> failed                one ended, refused the document or took too long: all successors are stopped

Invariant: until every successor could serve, nothing has changed for those that serve. What keeps it: a successor has
no listening socket, no part of any limit and no ledger before it is told to succeed, and all are told at once.
A worker that has not handed over in time is killed: two that spend one part of a limit would admit too much.
"""

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from meridian.nodes.line import Message
from meridian.nodes.supervision import Child

PREPARE_SECONDS = 60.0  # the largest document compiles in some ten seconds, and here in every new worker at once
HAND_OVER_SECONDS = 10.0  # a ledger is written to its end, and a million keys of limits go over
RETIRE_SECONDS = 300.0  # what connections may take to end, unless the operator says otherwise
RETIRE_SECONDS_MAX = 24 * 3600.0
RETIRED_MAX = 64  # workers that still finish: each is a process of some 60 MB


class Keeper(Protocol):
    """What an upgrade needs from the launcher."""

    def start(self, child: Child, now: float) -> bool:
        """Starts a process in a place. False: the machine will not, and the log says why."""

    def replace(self, child: Child, successor: Child) -> None:
        """From now on `successor` is the one in its place."""

    def tell(self, report: dict[str, Any]) -> None:
        """Says how an upgrade stands."""

    def agent_may_go(self) -> bool:
        """Lets the agent be started again with the new code; False if it holds what would be lost."""


@dataclass(slots=True)
class Report:
    """How an upgrade stands, for people."""

    number: int = 0  # of this launcher's upgrades
    state: str = "none"  # none, preparing, draining, over, failed
    reason: str = ""
    old_version: str = ""
    new_version: str = ""
    agent: str = ""
    workers: int = 0
    draining: int = 0  # workers that still finish
    connections: int = 0  # that the old workers had when they handed over
    cut: int = 0  # of them
    lost: int = 0  # old workers that ended without a word, and their connections with them

    def to_message(self) -> dict[str, Any]:
        """For a line."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(slots=True)
class _Succession:
    """One place in its hand-over."""

    old: Child
    heir: Child
    prepared: bool = False
    inherited: bool = False
    finished: bool = False


@dataclass(slots=True)
class Upgrading:
    """The upgrades of one launcher, one after the other. `retired` may be of several."""

    keeper: Keeper
    generation: int = 0
    report: Report = field(default_factory=Report)
    retired: list[Child] = field(default_factory=list)
    _places: list[_Succession] = field(default_factory=list)
    _deadline: float = 0.0
    _seconds: float = RETIRE_SECONDS

    @property
    def heirs(self) -> list[Child]:
        """Those that do not serve yet."""
        return [place.heir for place in self._places] if self.report.state == "preparing" else []

    def begin(self, places: Sequence[Child], now: float, seconds: float) -> str:
        """Starts successors of `places`, whose connections then have `seconds` to end. Returns why not, or ""."""
        if self.report.state == "preparing" or any(not place.inherited for place in self._places):
            return "an upgrade is under way already"
        if len(self.retired) + len(places) > RETIRED_MAX:
            return f"{len(self.retired)} workers of earlier upgrades still finish their connections; wait for them"
        if any(place.process is None for place in places):
            return "a worker is being restarted; try again when all serve"
        self.generation += 1
        self._seconds = min(seconds, RETIRE_SECONDS_MAX)
        self._deadline = now + PREPARE_SECONDS
        self._places = [_Succession(old, Child(old.role, old.slot, self.generation % 256, True)) for old in places]
        before = ", ".join(sorted({place.version for place in places}))
        self.report = Report(self.report.number + 1, "preparing", old_version=before, workers=len(places))
        self.keeper.tell(self.report.to_message())
        for place in self._places:
            if not self.keeper.start(place.heir, now):
                self._fail("the machine starts no more processes")
                break
        if not places:  # a witness has no workers
            self._hand_over(now)
            self._all_inherited()
        return ""

    def hear(self, child: Child, message: Message, now: float) -> bool:
        """Takes what a worker says of the upgrade. False: it says something else."""
        place = next((one for one in self._places if child is one.heir), None)
        match message["say"]:
            case "prepared" if place is not None and self.report.state == "preparing":
                self.report.new_version = str(message["version"])
                place.prepared = True
                if all(one.prepared for one in self._places):
                    self._hand_over(now)
            case "failed" if place is not None and self.report.state == "preparing":
                self._fail(f"{child.label}: {message['reason']}")
            case "inherited" if place is not None:
                place.inherited = True
                if not message["limits"]:
                    _kill(place.old)
                self._all_inherited()
            case "finished" if child in self.retired:
                for one in self._places:
                    if one.old is child:
                        one.finished = True
                        self.report.connections += int(message["connections"])
                        self.report.cut += int(message["cut"])
            case _:
                return False
        return True

    def ended(self, child: Child) -> bool:
        """A process has been buried. False: it is none of this upgrade's."""
        if child in self.heirs:
            self._fail(f"{child.label} of the new version ended: {child.reason or 'its log says why'}")
            return True
        if child not in self.retired:
            return False
        self.retired.remove(child)
        child.forget()
        if any(place.old is child and not place.finished for place in self._places):
            self.report.lost += 1
        self._tell_drained()
        return True

    def step(self, now: float) -> None:
        """Does what is due."""
        if self.report.state == "preparing" and now >= self._deadline:
            late = [place.heir.label for place in self._places if not place.prepared]
            self._fail(f"not ready within {PREPARE_SECONDS:.0f} s: {', '.join(late)}")
        elif self.report.state == "draining" and now >= self._deadline:
            for place in self._places:
                if not place.inherited:  # the successor learns of it by the end of their connection
                    place.inherited = True
                    _kill(place.old)
                    self._all_inherited()

    def _hand_over(self, now: float) -> None:
        self.report.state = "draining"
        self._deadline = now + HAND_OVER_SECONDS
        for place in self._places:
            one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            for child, say in ((place.old, "retire"), (place.heir, "succeed")):
                if child.line is not None:
                    sock = one if child is place.old else other
                    child.line.send({"say": say, "seconds": self._seconds}, [sock])
            place.heir.succeeds = False  # should it end, the next one in its place starts as any other
            self.retired.append(place.old)
            self.keeper.replace(place.old, place.heir)
        self._tell_drained()

    def _all_inherited(self) -> None:
        if not self.report.agent and all(place.inherited for place in self._places):
            self.report.agent = "replaced" if self.keeper.agent_may_go() else "kept: it holds the store in its memory"
            self._tell_drained()

    def _tell_drained(self) -> None:
        report = self.report
        olds = [place.old for place in self._places]
        report.draining = len([child for child in self.retired if child in olds])
        if report.state == "draining" and not report.draining and all(place.inherited for place in self._places):
            report.state = "over"
        self.keeper.tell(report.to_message())

    def _fail(self, reason: str) -> None:
        heirs = self.heirs
        self.report.state, self.report.reason = "failed", reason
        for heir in heirs:
            if heir.process is not None:
                heir.process.kill()
                self.retired.append(heir)  # to be buried
            else:
                heir.forget()
        self._places = []
        self.keeper.tell(self.report.to_message())


def _kill(child: Child) -> None:
    if child.process is not None:
        child.process.kill()
