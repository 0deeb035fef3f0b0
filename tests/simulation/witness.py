"""What must hold in a world, whatever happens: the invariants of core/invariants, asked at every write and change.

Checked here: 3 (one leader, fenced writes), 4 (losing the store withdraws nobody, a cold start serves), 5 (verdicts), 6
(one verdict, one content), of 2 the seats (no two nodes spend one, none gives its home up), of 7 the order of leaving,
of 8 that nothing grows; and what rollouts promise (rollouts.py). The rest of 1, 2, 7 and 8 is about requests,
connections and tokens, which this world does not have: the tests of the gateway and `limits/` hold it.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.simulation.keys import KEYS
from tests.simulation.rollouts import RolloutWitness

from meridian.control.driver import ControlPlane
from meridian.control.messages import decode_verdict
from meridian.core.draining import LEAVE_SECONDS
from meridian.core.granting.spender import Allowance
from meridian.core.invariants import Tenure, judgement_violations, leadership_violations, sequence_violations
from meridian.core.verdicts import REPORT_PERIOD_SECONDS, NodeVerdict, RegionVerdict, Standing, Verdict
from meridian.store.port import Delete, Op, Put

if TYPE_CHECKING:
    from tests.simulation.world import Node, World

CALM_SECONDS = 8.0  # after a fault, so long may a verdict be about it
COLD_START_SECONDS = 0.1
KNOWS_SECONDS = 1.0  # before a start an order was given, and the store well: so the node knows it
CLOCKS_DIFFER = 0.98  # of a node's seconds, at least so many pass by true time
LOOKS_SECONDS = 0.05  # who begins to lead is seen so much later at the most

Content = tuple[Mapping[str, NodeVerdict], Mapping[str, RegionVerdict]]


class Witness:
    """Sees everything that nodes do in one world, and remembers what later deeds are compared with."""

    def __init__(self, world: "World") -> None:
        self.orders: dict[str, float] = {}  # targets ordered to drain, and since when
        self.documents: dict[int, str] = {}  # version to the digest of its payload
        self.tries: dict[str, str] = {}  # digest of a payload to who tried to apply it, and what became of it
        self.rollouts = RolloutWitness(world)
        self._world = world
        self._former: dict[str, Node] = {}  # the last boot of each node
        self._written = Verdict()
        self._contents: dict[tuple[int, int], Content] = {}
        self._tenures: list[Tenure] = []
        self._acting: Tenure | None = None

    # Verdicts.

    def judged(self, node: "Node", before: Verdict, verdict: Verdict) -> None:
        """A verdict is in force on a node."""
        self._world.note(f"{node.name} goes by {_told(before, verdict)}")
        if verdict.fallback:
            self.check_withdrawn(before, verdict)
            return
        content = self._contents.setdefault((verdict.fence, verdict.version), (verdict.nodes, verdict.regions))
        if content != (verdict.nodes, verdict.regions):
            self._world.violate(f"{node.name} holds another content of verdict {(verdict.fence, verdict.version)}")

    def check_withdrawn(self, before: Verdict, written: Verdict) -> None:
        """Who is withdrawn anew must have been in trouble within the last seconds, wherever the judge stands."""
        now = self._world.loop.now
        for name, judged in written.nodes.items():
            if name not in before.nodes or before.nodes[name].standing is judged.standing:
                continue
            node = self._world.nodes.get(name)
            well = node is not None and node.state == "running" and now - node.disturbed_at > CALM_SECONDS
            if judged.standing is Standing.WITHDRAWN and well:
                self._world.violate(f"{name} is well and was withdrawn: {judged.reason}")

    def _verdict_written(self, node: "Node", value: bytes) -> None:
        leader, written = self._world.peek(KEYS.leader()), decode_verdict(value)
        if leader is None or leader.create_revision != written.fence:
            self._world.violate(f"{node.name} wrote a verdict without the leader key")
        if written.fallback:
            self._world.violate(f"{node.name} wrote what it merged itself")
        numbers = (self._written.fence, self._written.version), (written.fence, written.version)
        if numbers[1] <= numbers[0]:
            self._world.violate(f"{node.name} wrote verdict {numbers[1]} over {numbers[0]}")
        self.check_withdrawn(self._written, written)
        self._check_listened(node, written)
        self._check_orders(written)
        self._written = written

    def _check_listened(self, node: "Node", written: Verdict) -> None:
        """A new leader listens for a period before it judges; so does one that stood still, for silence was its own."""
        listens = REPORT_PERIOD_SECONDS * CLOCKS_DIFFER - LOOKS_SECONDS
        began = self._acting.began if self._acting and self._acting.fence == written.fence else self._world.loop.now
        if self._world.loop.now - began < listens:
            self._world.violate(f"{node.name} judged {self._world.loop.now - began:.2f} s after it began to lead")
        silenced = [
            name
            for name, judged in written.nodes.items()
            if judged.standing is Standing.WITHDRAWN
            and "silent" in judged.reason
            and name in self._written.nodes
            and self._written.nodes[name].standing is not Standing.WITHDRAWN
        ]
        if silenced and 0.0 <= node.judged_at - node.resumed_at < listens:
            self._world.violate(f"{node.name} stood still, and held the silence of {silenced} for theirs")

    def _check_orders(self, written: Verdict) -> None:
        """A node that was drained and restarts must not say for a moment that it is not; if it can know, that is."""
        for name, judged in written.nodes.items():
            before, node = self._written.nodes.get(name), self._world.nodes.get(name)
            if node is None or judged.standing is not Standing.SERVING or judged.reason:
                continue  # a reason: that nobody else would serve
            since = min((self.orders[t] for t in (name, judged.region) if t in self.orders), default=float("inf"))
            knows = since + KNOWS_SECONDS < node.began and self._world.store_troubled_at + KNOWS_SECONDS < node.began
            if knows and (before is None or before.standing is not Standing.SERVING):
                self._world.violate(f"{name} serves again although it is ordered to drain")

    # Leaders.

    def look(self) -> None:
        """Called again and again: who acts as leader."""
        now = self._world.loop.now
        acting = [(n, fence) for n in self._world.running() if (fence := n.plane.leadership.fence()) is not None]
        if len(acting) > 1:
            self._world.violate(f"two leaders act: {[(n.name, f) for n, f in acting]}")
        for node, fence in acting[:1]:
            if self._acting is not None and self._acting.fence == fence:
                self._acting = replace(self._acting, ended=now)
            else:
                self._world.note(f"{node.name} leads under fence {fence}")
                self._tenures += [self._acting] if self._acting is not None else []
                self._acting = Tenure(f"{node.name}.{node.boot}", fence, now, now)

    # What is written.

    def wrote(self, node: "Node", ops: Sequence[Op]) -> None:
        """A transaction of a node was done."""
        self.rollouts.wrote(node, ops)
        for op in ops:
            if isinstance(op, Put) and op.key == KEYS.verdict():
                self._verdict_written(node, op.value)
            elif isinstance(op, Put) and op.key == KEYS.leader():
                self._led_by_another(node)
            elif isinstance(op, Put) and op.key.startswith(KEYS.versions()):
                self._document_written(int(op.key.removeprefix(KEYS.versions())), op.value)
            elif isinstance(op, (Put, Delete)) and op.key.startswith(KEYS.drains()):
                target = op.key.removeprefix(KEYS.drains())
                if isinstance(op, Delete):
                    self.orders.pop(target, None)
                else:
                    self.orders.setdefault(target, self._world.loop.now)

    def _led_by_another(self, winner: "Node") -> None:
        for node in self._world.running():
            if node is not winner and node.plane.leadership.fence() is not None:
                self._world.violate(f"{winner.name} won the leader key while {node.name} acts as leader")

    def _document_written(self, version: int, record: bytes) -> None:
        digest = str(json.loads(record)["digest"])
        if version in self.documents:
            self._world.violate(f"version {version} was written twice")
        if version != len(self.documents) + 1:
            self._world.violate(f"version {version} follows version {len(self.documents)}")
        self.documents[version] = digest

    def applied(self, version: int | None, payload: bytes, who: str) -> None:
        """An operator was told that its document is this version; None: that it is not in force, and why."""
        digest = hashlib.sha256(payload).hexdigest()
        if version is not None and self.documents.get(version) != digest:
            self._world.violate(f"{who} was told that its document is version {version}, and it is not")
        if version is None and digest in self.documents.values():
            self._world.violate(f"{who} was told that another was quicker, and its document was written")

    # What nodes are told.

    def configured(self, node: "Node", version: int, payload: bytes) -> None:
        """A document was handed on."""
        self._world.note(f"{node.name} serves version {version}")
        if self.documents.get(version) != hashlib.sha256(payload).hexdigest():
            self._world.violate(f"{node.name} was given another content as version {version}")
        if any(version < older for older in node.versions):
            self._world.violate(f"{node.name} went back from version {max(node.versions)} to {version}")
        self.rollouts.served(node, version, self.documents.get(version, ""))

    def allowed(self, node: "Node", before: Allowance) -> None:
        """A node's workers keep to another allowance."""
        seats = node.seats()
        for name, other in self._world.nodes.items():
            if name != node.name and (both := seats & other.seats()):
                self._world.violate(f"{node.name} and {name} spend the same seats of limits: {sorted(both)}")
        if not before.home <= node.allowance.home:
            self._world.violate(f"{node.name} gave up its floor, the seats {sorted(before.home)}")

    def booted(self, node: "Node") -> None:
        """A node started: what it held before it must hold again at once, the store being there or not."""
        self._world.note(f"{node.name} starts")
        former = self._former.get(node.name)
        if former is not None:
            self._world.later(
                COLD_START_SECONDS, self._check_cold_start, node, max(former.versions, default=0), former.allowance.home
            )
        self._former[node.name] = node

    def _check_cold_start(self, node: "Node", version: int, home: frozenset[int]) -> None:
        if node.state == "running" and version > (node.versions[0] if node.versions else 0):
            self._world.violate(f"{node.name} served version {version} and starts with {node.versions[:1]}")
        if node.state == "running" and not home <= node.allowance.home:
            self._world.violate(f"{node.name} had the seats {sorted(home)} of limits and starts without them")

    def revokes(self, node: "Node", lease: int) -> None:
        """A node gives up a lease: its member key only when the verdict leaves it out, or after its time."""
        item = self._world.peek(KEYS.member(f"{node.name}.{node.boot}"))
        if item is None or item.lease != lease or node.leaving_since is None:
            return
        waited = self._world.loop.now - node.leaving_since
        if waited < LEAVE_SECONDS * CLOCKS_DIFFER and node.standing_of(node.name) is Standing.SERVING:
            self._world.violate(f"{node.name} left after {waited:.2f} s while it was counted on")

    # In the end.

    def histories(self, nodes: Iterable["Node"]) -> list[str]:
        """Returns what is wrong with the world's history as a whole."""
        found = []
        for node in nodes:
            found += [f"{node.name} boot {node.boot}: {v}" for v in sequence_violations(node.verdicts)]
        return found + leadership_violations([*self._tenures, *([self._acting] if self._acting else [])])


def watched(plane: type[ControlPlane], witness: Witness, node: "Node") -> type[ControlPlane]:
    """Returns the plane whose every judgement is checked against the evidence that it rests on."""

    class Rules(plane.rules):  # type: ignore[name-defined,misc]  # a variable base: a planted bug's rules too
        def __init__(self, previous: Verdict, evidence: Any, now: float, judge: str) -> None:
            self.told = evidence  # not what a bug makes of it
            super().__init__(previous, evidence, now, judge)

        def verdicts(self) -> Any:
            node.judged_at = witness._world.loop.now
            nodes, regions = super().verdicts()
            if nodes != self.previous.nodes:
                after = Verdict(self.previous.fence, self.previous.version + 1, nodes, regions, self.judge)
                for found in judgement_violations(self.previous, after, self.told, self.now):
                    witness._world.violate(f"{node.name} judged: {found}")
            return nodes, regions

    return type(plane.__name__, (plane,), {"rules": Rules})


def _told(before: Verdict, verdict: Verdict) -> str:
    number = f"verdict {verdict.fence}.{verdict.version}" + (f", merged {verdict.fallback}" if verdict.fallback else "")
    changed = [
        f"{name} {node.standing.name}"
        for name, node in verdict.nodes.items()
        if name not in before.nodes or before.nodes[name].standing is not node.standing
    ]
    changed += [f"{name} gone" for name in before.nodes if name not in verdict.nodes]
    return f"{number}: {', '.join(changed) or 'the same'}"
