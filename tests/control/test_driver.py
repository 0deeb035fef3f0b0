"""One whole control plane on the embedded store: what it tells its node, and what its node tells it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.control.parts import KEYS, FlakyStore, compiled, running
from tests.control.test_grants import Memory
from tests.simulation.virtual import run_virtual

from meridian.control.driver import ControlPlane
from meridian.control.handlers import Handlers
from meridian.control.identity import Identity, Settings
from meridian.control.members import Endpoints
from meridian.control.peers import NoPeers
from meridian.control.prober import Subject
from meridian.control.probing import NoteRoundTrip
from meridian.core.granting.seats import Tell
from meridian.core.health import Sight
from meridian.core.upstream_words import Endpoint, Health, Upstream
from meridian.core.verdicts import Report, Standing, Verdict
from meridian.store.documents import VersionMeta, write_version
from meridian_proto.v1.spending_pb2 import Letter


@dataclass
class Told:
    """What the handlers were called with."""

    configs: list[tuple[int, bytes]] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    down: list[Mapping[str, frozenset[str]]] = field(default_factory=list)
    allowances: list[tuple[Tell, bool]] = field(default_factory=list)
    sitting: list[Mapping[int, str]] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)

    def handlers(self) -> Handlers:
        return Handlers(
            lambda version, payload: self.configs.append((version, payload)),
            self.verdicts.append,
            self.down.append,
            lambda cut, tell, lost: self.allowances.append((tell, lost)),
            lambda addresses, sitting: self.sitting.append(sitting),
            self.letters.append,
        )


class Wire(NoPeers):
    """Keeps what would be sent to peers."""

    def __init__(self) -> None:
        self.sent: list[Report] = []

    def send(self, report: Report) -> None:
        self.sent.append(report)


class Node:
    def __init__(self, disk: Memory | None = None) -> None:
        clock = asyncio.get_running_loop().time
        self.store = FlakyStore(clock)
        self.told = Told()
        self.dead: set[int] = set()
        self.wire = Wire()
        self.plane = ControlPlane(
            self.store,
            KEYS,
            Identity("a", "eu", "1", ("192.0.2.1",), Endpoints("192.0.2.1:80")),
            Settings(limit_nodes=2, workers=2),
            self.wire,
            clock=clock,
            handlers=self.told.handlers(),
            disk=disk or Memory(),
            draw=lambda: 0.5,
            probe_node=self.probe,
            probe_endpoint=self.probe,
        )

    async def probe(self, subject: Subject, note: NoteRoundTrip = lambda host, seconds: None) -> bool:
        return subject.port not in self.dead


def test_a_node_alone_leads_serves_and_tells_what_it_knows() -> None:
    async def story() -> None:
        node = Node()
        async with running(node.plane.run()):
            await asyncio.sleep(1.5)
            assert node.told.verdicts[-1].nodes["a"].standing is Standing.SERVING
            tell, lost = node.told.allowances[-1]
            assert (tell.allowance.home, lost) == (frozenset({0}), False)
            assert len(tell.allowance.leased) == 7, "who is alone has all seats"
            assert node.told.sitting[-1] == dict.fromkeys(range(8), "a")
            await write_version(
                node.store, KEYS, b"document", VersionMeta("me", "", "2026-01-01T00:00:00Z"), expected_current=0
            )
            await asyncio.sleep(0.2)
            assert node.told.configs == [(1, b"document")]
            node.plane.acknowledge(1)
            node.plane.acknowledge(2, "no such file")
            node.plane.set_endpoints(Endpoints("192.0.2.1:8080", "192.0.2.1:8443"))
            await asyncio.sleep(0.2)
            status = node.plane.status()
            (member,) = status.members
            assert (member.config_version, member.config_refused) == (1, "version 2: no such file")
            assert member.endpoints.https == "192.0.2.1:8443"
            assert (status.leader, status.leads, status.seat, status.seats_home, status.seats_leased) == (
                "a",
                True,
                0,
                1,
                7,
            )
            assert (status.config_current, status.store.reachable, status.draining) == (1, True, False)
            assert [name for name, age in status.heard if age < 0.6] == ["a"]

    run_virtual(story)


def test_probes_of_endpoints_are_told_when_they_turn() -> None:
    async def story() -> None:
        node = Node()
        endpoints = (Endpoint(address="10.0.0.1:81"), Endpoint(address="10.0.0.2:82"))
        upstream = Upstream(name="shop", endpoints=endpoints, health=Health(interval_seconds=1, fall=2, rise=2))
        async with running(node.plane.run()):
            node.plane.set_upstreams(compiled(upstream))
            await asyncio.sleep(3)
            assert node.told.down == []
            node.dead.add(82)
            await asyncio.sleep(2)
            assert node.told.down == [{"shop": frozenset({"10.0.0.2:82"})}]
            node.dead.clear()
            await asyncio.sleep(3)
            assert node.told.down[1:] == [{}]
            node.dead.add(81)
            await asyncio.sleep(2)
            node.plane.set_upstreams([])  # what is no longer probed is not held down
            assert node.told.down[2:] == [{"shop": frozenset({"10.0.0.1:81"})}, {}]

    run_virtual(story)


def test_a_cold_start_without_the_store_serves_what_the_disk_has() -> None:
    async def story() -> None:
        disk = Memory()
        first = Node(disk)
        async with running(first.plane.run()):
            meta = VersionMeta("me", "", "2026-01-01T00:00:00Z")
            await write_version(first.store, KEYS, b"document", meta, expected_current=0)
            await asyncio.sleep(1)
        second = Node(disk)
        second.store.away = True
        async with running(second.plane.run()):
            await asyncio.sleep(30)
            assert second.told.configs == [(1, b"document")]
            assert {tuple(tell.allowance.home) for tell, _ in second.told.allowances} == {(0,)}
            assert [lost for _, lost in second.told.allowances] == [False, True]
            assert second.told.verdicts == []

    run_virtual(story)


def test_what_peers_say_is_heard_and_only_a_greater_verdict_taken() -> None:
    async def story() -> None:
        node = Node()
        async with running(node.plane.run()):
            await asyncio.sleep(1.5)
            held = node.told.verdicts[-1]
            node.plane.on_verdict(Verdict(held.fence, held.version - 1))
            assert node.told.verdicts[-1] is held
            node.plane.on_report(Report("b", "us", "b.1", 3, 1, {"a": Sight.UP}))
            assert [name for name, _ in node.plane.status().heard] == ["a", "b"]
            newer = Verdict(held.fence + 1, held.version + 1, held.nodes)
            node.plane.on_verdict(newer)
            assert node.told.verdicts[-1] is newer

    run_virtual(story)


def test_a_node_that_was_drained_and_restarts_never_says_that_it_is_not() -> None:
    async def story() -> None:
        node = Node()
        await node.store.put(KEYS.drain("a"), b"{}")
        async with running(node.plane.run()):
            await asyncio.sleep(3)
            assert {report.draining for report in node.wire.sent} == {True}

    run_virtual(story)


def test_a_stop_gives_up_leadership_and_membership() -> None:
    async def story() -> None:
        node = Node()
        async with running(node.plane.run()):
            await asyncio.sleep(1.5)
            await node.plane.step_out()
            await asyncio.sleep(0.5)
            assert await node.store.get(KEYS.leader()) is None
            assert len((await node.store.list(KEYS.members())).items) == 1
            await node.plane.stop()
            await asyncio.sleep(0.5)
            assert (await node.store.list(KEYS.members())).items == ()
            assert await node.store.get(KEYS.leader()) is None
            await asyncio.sleep(10)
            assert await node.store.get(KEYS.leader()) is None

    run_virtual(story)
