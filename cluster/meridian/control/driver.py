"""The control plane of one node: composes the parts, routes what one says to the others, and answers for them.

Invariant: no part waits for another. Each has a task; what one learns reaches the others by plain calls on the loop.
`run` ends only by cancellation (which is a crash to everyone else) or by an error that is a bug or a taken port; to go
in peace, call `stop` first. The clock is an argument: CLOCK_BOOTTIME in production, so that a node that slept knows it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from random import random

from google.protobuf.message import DecodeError

from meridian.control.aggregator import Aggregator
from meridian.control.board import Board
from meridian.control.catching_up import CatchingUp
from meridian.control.census import Census
from meridian.control.config_watch import ConfigWatch
from meridian.control.disk import NoDisk, SnapshotDisk
from meridian.control.drains import Drains
from meridian.control.fallback import Fallback
from meridian.control.grants import Grants
from meridian.control.handlers import Handlers
from meridian.control.identity import Identity, Settings, cut_for
from meridian.control.inbox import Inbox
from meridian.control.leadership import Leadership
from meridian.control.members import Endpoints, MemberRecord
from meridian.control.membership import Membership
from meridian.control.messages import decode_verdict
from meridian.control.peers import PeerTransport
from meridian.control.prober import Prober, Subject
from meridian.control.probing import NoteRoundTrip, any_answer, endpoint_subjects, node_subjects
from meridian.control.reporter import Reporter, known
from meridian.control.rollout import Rollouts
from meridian.control.round_trips import RoundTrips
from meridian.control.status import ControlStatus, limits_of
from meridian.control.stores import Stores
from meridian.control.upkeep import Defragmented
from meridian.control.waiting import signalled
from meridian.core.capacity import loads
from meridian.core.granting.seats import Tell
from meridian.core.granting.shares import Cut, Rule
from meridian.core.health import Sight
from meridian.core.snapshot import Upstream
from meridian.core.speech import SHARES
from meridian.core.verdicts import DARK_SECONDS, Case, Evidence, Report, Standing, Verdict, merge
from meridian.store.keys import Keys
from meridian.store.mirror import mirror
from meridian.store.port import Store
from meridian_proto.v1.spending_pb2 import Letter

ORDERS_SECONDS = 1.0  # wait for an operator's orders before the first report; the store may be away

_log = logging.getLogger("meridian.control")


class ControlPlane:
    """One node's control plane. Make it in a running loop; then `run` it. `rules` is for tests that plant a bug."""

    rules: type[Case] = Case

    def __init__(
        self,
        store: Store,
        keys: Keys,
        identity: Identity,
        settings: Settings,
        peers: PeerTransport,
        *,
        clock: Callable[[], float],
        handlers: Handlers | None = None,
        disk: SnapshotDisk | None = None,
        draw: Callable[[], float] = random,
        load: Callable[[], float] = lambda: 0.0,
        probe_endpoint: Callable[[Subject], Awaitable[bool]],
        probe_node: Callable[[Subject, NoteRoundTrip], Awaitable[bool]] = any_answer,
        regional: Store | None = None,
    ) -> None:
        """`load` gives the requests per second that this node serves; `regional` is where this region's members live,
        if not in `store` with all the rest.
        """
        self._store, self._keys, self._peers, self._clock = store, keys, peers, clock
        self._load, self._capacity = load, settings.capacity
        self._capacities: Mapping[str, float] = {}
        self._sharing = True
        self._identity = identity
        self._handlers = handlers or Handlers()
        disk = disk or NoDisk()
        self._membership = Membership(regional or store, keys, identity.record(), clock)
        self._census = Census(
            store,
            regional or store,
            keys,
            identity,
            observed=lambda item: self._membership.observe(item),
            changed=self._members_changed,
        )
        self._links: dict[str, str] = {}
        self._regions: frozenset[str] = frozenset()
        self._serving = True
        self._down: Mapping[str, frozenset[str]] = {}
        self._stores = Stores(
            store,
            regional or store,
            keys,
            clock,
            quota_bytes=settings.quota_bytes,
            leads=lambda: self.leadership.fence() is not None,
            is_oldest=lambda: self._census.is_oldest,
            turned=self.tell_again,
        )
        self._board = Board(self._posted)
        self._inbox = Inbox(clock)
        self._round_trips = RoundTrips()
        self._nodes: Prober[str] = Prober(
            lambda subject: probe_node(subject, self._round_trips.note), clock, draw, self._sight_turned
        )
        self._endpoints: Prober[tuple[str, str]] = Prober(probe_endpoint, clock, draw, self._endpoint_turned)
        self._reporter = Reporter(self._draft, self._send)
        self.leadership = Leadership(store, keys, identity.name, identity.node_id, clock)
        self._aggregator = Aggregator(
            store,
            keys,
            identity.name,
            self._board,
            self._evidence,
            self.leadership.fence,
            clock,
            beat=self._beat,
            resign=self.leadership.resign,
            rules=self.rules,
        )
        self._fallback = Fallback(self._board, self._evidence, self._merge, clock)
        self._catching_up = CatchingUp(self._board, lambda: self._inbox.heard, peers.renew, clock)
        self._tell: tuple[Cut, Tell] | None = None
        self._grants = Grants(
            store,
            keys,
            identity.name,
            identity.boot_id,
            cut_for(settings.limit_nodes, max(1, settings.workers)),
            disk,
            clock,
            workers=settings.workers,
            sits=not identity.witness,
            generation=settings.generation,
            fence=self.leadership.fence,
            told=self._told,
            seated=self._seated,
        )
        self._config = ConfigWatch(store, keys, disk, self._handlers.on_config)
        self.rollouts = Rollouts(
            store, keys, identity.name, identity.node_id, identity.region, fence=self.leadership.fence,
            members=lambda: self._census.members, clock=clock, handlers=self._handlers.rollout,
        )  # fmt: skip
        self._drains = Drains(
            store, keys, identity.name, identity.region, clock, announce=self._announce,
            resign=lambda: self.leadership.resign(for_good=True), leave=self._leave,
        )  # fmt: skip

    async def run(self) -> None:
        """Runs every part until cancelled. First what the disk has: a node serves before it asks anybody."""
        await self._grants.load()
        await self._config.load()
        async with asyncio.TaskGroup() as tasks:
            for part in (
                self._peers.run(self),
                self._membership.run(),
                self.leadership.run(),
                self._nodes.run(),
                self._endpoints.run(),
                self._report(),
                self._aggregator.run(),
                self._fallback.run(),
                self._catching_up.run(),
                self._config.run(),
                self.rollouts.run(),
                self._drains.run(),
                self._census.run(),
                self._follow_verdict(),
                self._grants.run(),
                self._stores.run(),
            ):
                tasks.create_task(part)
            if self._census.rosters is not None:
                tasks.create_task(self._census.rosters.run())

    def status(self) -> ControlStatus:
        """Returns what this node knows at this moment."""
        now, record = self._clock(), self._membership.record
        return ControlStatus(
            node=record.name,
            node_id=record.node_id,
            region=record.region,
            members=tuple(member for _, member in sorted(self._census.members.items())),
            leader=self.leadership.leader,
            leads=self.leadership.fence() is not None,
            verdict=self._board.verdict,
            store=self._stores.health,
            store_writes_per_second=self._stores.writes_per_second,
            config_current=self._config.wanted,
            config_version=record.config_version,
            config_refused=record.config_refused,
            config_detail=self._config.detail,
            config_from_disk=self._config.from_disk,
            rollout=self.rollouts.record,
            seat=record.seat,
            seats_home=len(self._grants.home),
            seats_leased=len(self._grants.leased),
            seat_detail=self._grants.detail,
            limits=limits_of(self._grants.view),
            draining=record.draining,
            regional=self._stores.regional_health,
            upkeep=self._stores.warnings(),
            speaks=self._census.speaks,
            join_refused=self._membership.refused,
            heard=tuple((name, now - heard.made) for name, heard in sorted(self._inbox.heard.items())),
            in_force={name: heard.report.version for name, heard in self._inbox.heard.items()},
            loads=loads(self._board.verdict, self._evidence(now), now),
        )

    def acknowledge(self, version: int, refused: str = "") -> None:
        """Says in the member record what this node serves, or why it keeps `config_version` instead of `version`."""
        if refused:
            self._membership.update(config_refused=f"version {version}: {refused}")
        else:
            self._membership.update(config_version=version, config_refused="")

    def members(self) -> Iterable[MemberRecord]:
        """The members that the store names."""
        return self._census.members.values()

    def hold_proofs(self, revision: int) -> None:
        """Says in the member record up to which revision all workers of this node hold the proofs for ACME."""
        self._membership.update(proofs_held=revision)

    def set_upstreams(self, upstreams: Iterable[Upstream]) -> None:
        """Replaces the endpoints that are probed: those of the document in force."""
        self._endpoints.set_subjects(endpoint_subjects(upstreams))
        self._endpoint_turned()

    def set_limits(self, rules: Mapping[str, Rule]) -> None:
        """Replaces what limits should allow: those of the document in force."""
        self._grants.set_rules(rules)

    def worker_started(self, slot: int) -> None:
        """A gateway worker is there (again), and no worker before it in this slot runs any more."""
        self._grants.worker_started(slot)

    def worker_confirmed(self, slot: int, agent: str, sequence: int) -> None:
        """A gateway worker keeps to this allowance, with all that it lent."""
        self._grants.worker_confirmed(slot, agent, sequence)

    def tell_again(self) -> None:
        """Repeats what workers may spend: something else that they are told with it has changed."""
        if self._tell is not None:
            self._handlers.on_allowance(*self._tell, self._stores.lost)

    def post(self, letter: Letter) -> None:
        """Carries a letter of a worker of this node to a worker of any node. Nobody waits for it."""
        node = letter.to.rpartition("/")[0]
        if node == self._identity.name:
            self._handlers.on_letter(letter)
        else:
            self._peers.deliver(node, letter)

    def set_regions(self, regions: Iterable[str], capacities: Mapping[str, float] | None = None) -> None:
        """Replaces the configured regions, whose majority is asked before a region is withdrawn, and what some of them
        carry, in requests per second.
        """
        self._regions, self._capacities = frozenset(regions), capacities or {}

    def set_endpoints(self, endpoints: Endpoints) -> None:
        """Says in the member record where this node is reached; listeners come and go with the document."""
        self._membership.update(endpoints=endpoints)
        self._look_at_nodes()

    @property
    def holds_seats(self) -> bool:
        """Whether this node has a part of the limits that its workers were told."""
        return bool(self._grants.home or self._grants.leased)

    def set_serving(self, serving: bool) -> None:
        """Says in every report whether this node serves; false (all its workers are gone) is as good as silence."""
        self._serving = serving
        self._reporter.hurry()

    async def drain(self, target: str, on: bool, *, force: bool = False) -> None:
        """Writes (or removes) an operator's order that a node or region drain. Raises DrainRefused and StoreError."""
        await self._drains.order(target, on, self._board.verdict, force=force)

    async def defragment(self) -> tuple[Defragmented, ...]:
        """Makes the files of the stores small, one member at a time. Raises StoreError."""
        return await self._stores.defragment()

    def resign(self) -> None:
        """Gives up the leadership, if this node has it; it may win it again later."""
        self.leadership.resign()

    async def step_out(self) -> None:
        """Drains, and waits until the verdict leaves this node out (2 s at most). It goes on as a member, with its part
        of the limits."""
        await self._drains.step_out()

    async def stop(self) -> None:
        """Leaves in peace: steps out, if that has not been done, and gives up its keys.

        `run` goes on, so that the verdict can be written and seen meanwhile; cancel it afterwards.
        """
        await self._drains.stop()

    # What peers say (peers.Receiver).

    def on_report(self, report: Report) -> None:
        """Keeps a peer's report for whoever judges."""
        self._inbox.take(report)

    def on_verdict(self, verdict: Verdict) -> None:
        """Takes a peer's verdict, if it is greater."""
        self._board.post(verdict)

    def on_letter(self, letter: Letter) -> None:
        """For a worker of this node."""
        self._handlers.on_letter(letter)

    def on_beat(self, fence: int, version: int) -> None:
        """The leader is heard."""
        self._fallback.beat(fence)

    # What the parts say to each other.

    def _draft(self, sequence: int) -> Report:
        own = self._membership.record
        return Report(
            observer=own.name,
            region=own.region,
            node_id=own.node_id,
            epoch=self._membership.epoch,
            sequence=sequence,
            sights=known(self._nodes.sights()),
            draining=own.draining,
            serving=self._serving,
            heard={name: age for name, age in self._inbox.ages().items() if name != own.name},
            dark=self._nodes.dark(DARK_SECONDS),
            withdrawn=self._board.withdrawn_here(),
            witness=own.witness,
            fence=self._board.fenced.fence,
            version=self._board.fenced.version,
            load=self._load(),
            capacity=self._capacity,
            round_trips=self._round_trips.by_region(),
        )

    async def _report(self) -> None:
        # A node that was drained and restarts must not say for a moment that it is not.
        await signalled(self._drains.known, ORDERS_SECONDS)
        await self._reporter.run()

    def _send(self, report: Report) -> None:
        self._inbox.take(report)  # its own voice counts as every other
        self._peers.send(report)

    def _evidence(self, since: float) -> Evidence:
        return Evidence(self._inbox.heard, self._census.judged, self._regions, since, self._capacities, self._sharing)

    def _merge(self, held: Verdict, evidence: Evidence, now: float) -> Verdict:
        return merge(held, evidence, now, merger=self._identity.name, rules=self.rules)

    def _beat(self, fence: int, version: int) -> None:
        self._peers.beat(fence, version)
        self._fallback.beat(fence)

    def _posted(self, verdict: Verdict) -> None:
        self._handlers.on_verdict(verdict)
        if verdict.fallback:
            self._reporter.hurry()  # the next leader must know of it
            # Who merges itself does not let itself go: others may merge otherwise.
            self._drains.judged(Standing.SERVING)
        else:
            self._fallback.beat(verdict.fence)
            self._peers.publish(verdict)
            own = verdict.nodes.get(self._identity.name)
            self._drains.judged(own.standing if own is not None else None)
        self._look_at_nodes()

    def _sight_turned(self) -> None:
        self._reporter.hurry()

    def _endpoint_turned(self) -> None:
        down: dict[str, set[str]] = {}
        for (upstream, address), sight in self._endpoints.sights().items():
            if sight is Sight.DOWN:
                down.setdefault(upstream, set()).add(address)
        frozen = {upstream: frozenset(addresses) for upstream, addresses in down.items()}
        if frozen != self._down:
            self._down = frozen
            self._handlers.on_endpoint_health(frozen)

    def _told(self, cut: Cut, tell: Tell) -> None:
        if tell.slot is None:
            self._tell = (cut, tell)
            self._membership.update(seat=min(tell.allowance.home, default=None))
        self._handlers.on_allowance(cut, tell, self._stores.lost)

    def _seated(self) -> None:
        view = self._grants.view
        if view is not None:
            self._handlers.on_spenders(view.spenders(), {index: seat.node for index, seat in view.seats.items()})

    def _announce(self, draining: bool) -> None:
        self._membership.update(draining=draining)
        self._reporter.hurry()

    async def _leave(self) -> None:
        await self._membership.leave()
        if self._census.rosters is not None:
            await self._census.rosters.leave()

    def _look_at_nodes(self) -> None:
        members, nodes = self._census.members, self._board.verdict.nodes
        subjects = node_subjects(self._membership.record, members, self._board.verdict)
        regions = {name: (members.get(name) or nodes[name]).region for name in subjects}
        self._nodes.set_subjects(subjects)
        self._round_trips.follow(
            {subjects[name].host: region for name, region in regions.items() if region != self._identity.region}
        )

    def _link(self) -> None:
        """Keeps links to all members, and to those that only the verdict still names: they may be there."""
        kept = {name: where for name, where in self._links.items() if name in self._board.verdict.nodes}
        named = {name: record.endpoints.peer for name, record in self._census.members.items() if record.endpoints.peer}
        self._links = {**kept, **named}
        self._links.pop(self._identity.name, None)
        self._peers.set_peers(self._links)

    # What the store says.

    def _members_changed(self) -> None:
        self._sharing = SHARES in self._census.speaks.capabilities
        self._grants.set_members(name for name, member in self._census.members.items() if not member.witness)
        self._link()
        self._look_at_nodes()

    async def _follow_verdict(self) -> None:
        key = self._keys.verdict()
        async with aclosing(mirror(self._store, key)) as views:
            async for view in views:
                if key not in view:
                    continue
                try:
                    self._board.post(decode_verdict(view[key].value, self._clock()))
                except DecodeError:
                    _log.error("the stored verdict cannot be read; the one before it stays in force")
