"""What the agent concludes from its workers' answers."""

import asyncio
import socket
from collections.abc import Iterable

from tests.support import wait_until

from meridian.core.verdicts import Verdict
from meridian.nodes.channel import Channel
from meridian.nodes.crew import (
    ProcessCrew,
    WorkerState,
    answered,
    config_frame,
    drain_frame,
    health_frame,
    serves,
    verdict_frame,
)
from meridian.telemetry.spans import SpanRecord
from meridian_proto.v1.channel_pb2 import ConfigAck, Explained, Frame, Hello
from meridian_proto.v1.spending_pb2 import Allowance, Confirmed, Letter, Letters


def worker(kind: str, slot: int, version: int, *, refused: str = "", connected: bool = True) -> WorkerState:
    state = WorkerState(kind, slot, connected=connected)
    if version:
        state.acknowledge(ConfigAck(version=version, refused=refused))
    return state


def test_a_version_is_answered_when_all_present_workers_have_answered() -> None:
    both = [worker("gateway", 0, 3), worker("gateway", 1, 3)]
    assert answered([*both, worker("dns", 0, 3)], 3) == ""
    assert answered([*both, worker("dns", 0, 2)], 3) is None
    assert answered([*both, worker("dns", 0, 0, connected=False)], 3) == ""
    assert answered([worker("gateway", 0, 3, connected=False), worker("dns", 0, 3)], 3) is None
    assert answered([worker("gateway", 0, 3, refused="no"), worker("dns", 0, 2)], 3) == "gateway-0: no"
    assert answered([worker("gateway", 0, 2, refused="no")], 3) is None


def test_a_node_serves_while_a_gateway_has_any_document() -> None:
    refusing = worker("gateway", 0, 3)
    refusing.acknowledge(ConfigAck(version=4, refused="no"))
    assert serves([refusing]) and refusing.config_version == 3
    assert not serves([worker("gateway", 0, 3, connected=False), worker("dns", 0, 3)])
    assert not serves([worker("gateway", 0, 0)])


class Reporting:
    def __init__(self) -> None:
        self.spans: list[SpanRecord] = []
        self.changes = 0
        self.spenders: list[int] = []
        self.spending: list[tuple[int, Frame]] = []
        self.explained: list[Explained] = []

    def on_crew_changed(self) -> None:
        self.changes += 1

    def on_spans(self, spans: Iterable[SpanRecord]) -> None:
        self.spans += spans

    def on_spender(self, slot: int) -> None:
        self.spenders.append(slot)

    def on_explained(self, told: Explained) -> None:
        self.explained.append(told)

    def on_spending(self, slot: int, frame: Frame) -> None:
        self.spending.append((slot, frame))


class Far:
    """The worker's end of a channel."""

    def __init__(self, kind: str, slot: int) -> None:
        self.frames: list[Frame] = []
        self.channel = Channel(lambda: Hello(kind=kind, slot=slot, pid=slot + 1, config_version=1), self)

    def on_hello(self, hello: Hello) -> None:
        assert hello.kind == "agent"

    def on_frame(self, frame: Frame) -> None:
        self.frames.append(frame)

    def on_lost(self, reason: str) -> None:
        pass

    def kinds(self) -> set[str | None]:
        return {frame.WhichOneof("body") for frame in self.frames}


async def test_every_worker_gets_its_state_and_a_successor_all_of_it_anew() -> None:
    told = Reporting()
    crew = ProcessCrew({"gateway": 2, "dns": 1}, told)
    crew.send(config_frame(5, b"{}", {"key.pem": b"secret"}), "gateway")
    crew.send(config_frame(5, b"{}", {}), "dns")
    crew.send(verdict_frame(Verdict(1, 2), 0.0))
    crew.send(health_frame({"app": frozenset({"a:1", "b:2"})}), "gateway")
    crew.send(drain_frame(True), "gateway")
    crew.send(Frame(allowance=Allowance(agent="a", home=[0])), "gateway")
    fars = {}
    for kind, slot in (("gateway", 0), ("gateway", 1), ("dns", 0), ("gateway", 1)):
        ours, theirs = socket.socketpair()
        far = fars[kind, slot] = Far(kind, slot)
        await asyncio.gather(crew.attach(kind, slot, ours), far.channel.attach(theirs))
    everything = {"config", "verdict", "endpoint_health", "drain", "allowance"}
    await wait_until(
        lambda: [far.kinds() for far in fars.values()] == [everything, everything, {"config", "verdict"}],
        within_seconds=5,
        what="state",
    )
    far = fars["gateway", 1]
    far.channel.send(Frame(confirmed=Confirmed(agent="a", sequence=3)))
    far.channel.send(Frame(explained=Explained(number=7)))
    crew.send_to("gateway", 1, Frame(letters=Letters(letters=[Letter(to="n/1")])))
    crew.send_to("gateway", 7, Frame(letters=Letters(letters=[Letter(to="n/7")])))  # there is no such worker
    await wait_until(lambda: "letters" in far.kinds() and told.explained, within_seconds=5, what="letters")
    assert "letters" not in fars["gateway", 0].kinds()
    assert (told.spenders.count(0), told.spenders.count(1)) == (1, 2), "each that comes is told of"
    assert [(slot, frame.confirmed.sequence) for slot, frame in told.spending] == [(1, 3)]
    assert [answer.number for answer in told.explained] == [7]
    assert not [frame for frame in fars["dns", 0].frames if frame.config.files]
    assert [state.pid for state in crew.workers] == [1, 2, 1] and all(state.connected for state in crew.workers)
    crew.close()
    for far in fars.values():
        far.channel.close()
    await asyncio.sleep(0)
