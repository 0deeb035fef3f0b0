"""The channel: what is kept, what is dropped, and what happens when a side is slow, gone or wrong."""

import asyncio
import os
import socket
from collections.abc import Callable

import pytest
import uvloop
from tests.support import wait_until

from meridian.nodes.channel import (
    FRAME_BYTES_MAX,
    REPORT_BYTES_MAX,
    REPORTS_MAX,
    Channel,
    ChannelError,
    Inbox,
    Outbox,
    encode,
)
from meridian_proto.v1.channel_pb2 import Config, ConfigAck, Frame, Hello, Span, Spans
from meridian_proto.v1.health_pb2 import Verdict


def verdict(version: int) -> Frame:
    return Frame(verdict=Verdict(version=version))


def spans(number: int, size: int = 0) -> Frame:
    return Frame(spans=Spans(spans=[Span(name=str(number), trace_id=b"x" * size)]))


class Ear:
    """Keeps what a channel hears."""

    def __init__(self) -> None:
        self.hellos: list[Hello] = []
        self.frames: list[Frame] = []
        self.lost: list[str] = []

    def on_hello(self, hello: Hello) -> None:
        self.hellos.append(hello)

    def on_frame(self, frame: Frame) -> None:
        self.frames.append(frame)

    def on_lost(self, reason: str) -> None:
        self.lost.append(reason)


class Side:
    def __init__(self, kind: str) -> None:
        self.ear = Ear()
        self.channel = Channel(lambda: Hello(kind=kind, config_version=7, pid=1), self.ear)


async def connect(one: Side, other: Side) -> None:
    left, right = socket.socketpair()
    await one.channel.attach(left)
    await other.channel.attach(right)
    await wait_until(lambda: one.channel.connected and other.channel.connected, within_seconds=5, what="hello")


def test_of_state_only_the_latest_of_each_kind_is_kept_and_goes_first() -> None:
    outbox = Outbox()
    outbox.put(spans(1))
    for version in range(1000):
        outbox.put(verdict(version))
    outbox.put(Frame(config_ack=ConfigAck(version=3)))
    kinds = []
    while (frame := outbox.take()) is not None:
        kinds.append((frame.WhichOneof("body"), frame.sequence))
    assert kinds == [("verdict", 1), ("config_ack", 2), ("spans", 3)]
    assert outbox.dropped == 0


def test_a_new_stream_gets_all_state_anew_and_no_report_twice() -> None:
    outbox = Outbox()
    outbox.put(Frame(config=Config(version=4)))
    outbox.put(verdict(9))
    outbox.put(spans(1))
    while outbox.take() is not None:
        pass
    outbox.begin_anew()
    taken = []
    while (frame := outbox.take()) is not None:
        taken.append(frame.WhichOneof("body"))
    assert taken == ["config", "verdict"]


@pytest.mark.parametrize(("size", "kept"), [(0, REPORTS_MAX), (REPORT_BYTES_MAX // 10, 9)])
def test_reports_drop_the_oldest_and_the_gap_shows(size: int, kept: int) -> None:
    outbox = Outbox()
    for number in range(300):
        outbox.put(spans(number, size))
    first = outbox.take()
    assert first is not None and first.spans.spans[0].name == str(300 - kept)
    assert outbox.dropped == 300 - kept == first.sequence - 1


def test_frames_split_at_every_byte() -> None:
    stream = b"".join(encode(frame) for frame in (verdict(1), spans(2), verdict(3)))
    for cut in range(len(stream) + 1):
        inbox = Inbox()
        frames = inbox.feed(stream[:cut]) + inbox.feed(stream[cut:])
        assert [frame.WhichOneof("body") for frame in frames] == ["verdict", "spans", "verdict"]


@pytest.mark.parametrize("nonsense", [b"\0\0\0\0", (FRAME_BYTES_MAX + 1).to_bytes(4, "big"), b"\0\0\0\3\xff\xff\xff"])
def test_nonsense_is_named(nonsense: bytes) -> None:
    with pytest.raises(ChannelError):
        Inbox().feed(nonsense)


async def test_both_sides_hear_each_other() -> None:
    agent, worker = Side("agent"), Side("gateway")
    agent.channel.send(verdict(1))
    await connect(agent, worker)
    worker.channel.send(spans(5))
    await wait_until(lambda: worker.ear.frames and agent.ear.frames, within_seconds=5, what="frames")
    assert worker.ear.hellos[0].kind == "agent" and agent.ear.hellos[0].config_version == 7
    assert worker.ear.frames[0].verdict.version == 1 and agent.ear.frames[0].spans.spans[0].name == "5"
    agent.channel.close()
    worker.channel.close()


async def test_a_side_that_is_lost_and_comes_back_has_everything() -> None:
    agent, worker = Side("agent"), Side("gateway")
    await connect(agent, worker)
    agent.channel.send(Frame(config=Config(version=1, document=os.urandom(3_000_000))))
    agent.channel.send(verdict(1))
    await wait_until(lambda: len(worker.ear.frames) == 2, within_seconds=5, what="state")
    worker.channel.close()
    await wait_until(lambda: agent.ear.lost, within_seconds=5, what="loss is seen")
    agent.channel.send(verdict(2))
    successor = Side("gateway")
    await connect(agent, successor)
    await wait_until(lambda: len(successor.ear.frames) == 2, within_seconds=5, what="state anew")
    assert [frame.WhichOneof("body") for frame in successor.ear.frames] == ["config", "verdict"]
    assert successor.ear.frames[1].verdict.version == 2
    agent.channel.close()
    successor.channel.close()


async def test_a_silent_reader_costs_bounded_memory_and_nobody_waits() -> None:
    agent = Side("agent")
    ours, theirs = socket.socketpair()
    await agent.channel.attach(ours)
    for number in range(2000):
        agent.channel.send(spans(number, 20_000))
    assert agent.channel.outbox.dropped > 1000
    theirs.close()
    await wait_until(lambda: agent.ear.lost, within_seconds=5, what="loss is seen")


@pytest.mark.parametrize(
    "first_words",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        encode(verdict(1)),
        encode(Frame(hello=Hello(protocol=99))),
        encode(Frame(hello=Hello(protocol=1))) + b"\xff" * 8,
    ],
)
async def test_whoever_sends_nonsense_loses_the_stream_and_the_next_one_works(first_words: bytes) -> None:
    agent = Side("agent")
    ours, theirs = socket.socketpair()
    await agent.channel.attach(ours)
    theirs.sendall(first_words)
    await wait_until(lambda: agent.ear.lost, within_seconds=5, what="loss")
    assert not agent.ear.frames
    theirs.close()
    worker = Side("gateway")
    await connect(agent, worker)
    agent.channel.close()
    worker.channel.close()


def test_the_channel_works_on_uvloop_too() -> None:
    async def talk() -> None:
        await test_a_side_that_is_lost_and_comes_back_has_everything()

    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(talk())
