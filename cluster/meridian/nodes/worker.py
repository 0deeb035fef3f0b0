"""What gateway and DNS workers do alike: hold a channel to the agent, read documents beside the loop, report, leave.

Invariant: one document is compiled at a time, the newest one next; what serves is replaced only by something that was
compiled whole, in one call on the loop. Without an agent a worker goes on with what it holds.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import uvloop

from meridian.nodes import compiling, logs
from meridian.nodes.channel import Channel
from meridian.nodes.child import Birth, Post, sockets_of
from meridian.nodes.compiling import Unfit
from meridian.nodes.line import Message
from meridian.nodes.reports import metrics_to_proto
from meridian.nodes.software import software
from meridian.telemetry.metrics import Series
from meridian_proto.v1.channel_pb2 import Config, ConfigAck, Frame, Hello

TICK_SECONDS = 0.2
TICKS_PER_METRICS = 5

BoundSockets = dict[tuple[str, str, int], socket.socket]  # by (kind, host, port)


class Duties(Protocol):
    """What one kind of worker does. All on the loop but `compile`."""

    def join(self, send: Callable[[Frame], None]) -> None:
        """Once, before all else: how to send to the agent at any time."""

    def compile(self, config: Config) -> Callable[[], None]:
        """In a thread: reads a document, returns what puts it in force (on the loop). Raises Unfit."""

    def compile_candidate(self, config: Config) -> Callable[[], None]:
        """In a thread: reads a document, returns what holds it ready for a trial (on the loop). Raises Unfit."""

    async def run(self) -> None:
        """Serves until cancelled. What it raises ends the process: the launcher starts another."""

    def on_state(self, frame: Frame) -> None:
        """Verdict, endpoint health, allowance, letters, drain or trial from the agent."""

    def on_sockets(self, sockets: BoundSockets) -> None:
        """The full set that this worker serves; the sockets are its own now."""

    def drain(self, on: bool) -> None:
        """Serve on, but tell clients to go elsewhere."""

    def tick(self, send: Callable[[Frame], None]) -> None:
        """Each 200 ms: spans and the access log."""

    def series(self) -> Sequence[Series]:
        """All metrics as they stand."""

    async def close(self, grace_seconds: float) -> None:
        """Finish what is under way within this time, then end it."""

    # Upgrades

    async def succeed(self, predecessor: socket.socket) -> bool:
        """Takes over from the process at the other end of a stream; until then only documents and state come. Returns
        whether all that it knew of limits came over."""

    async def retire(self, successor: socket.socket, seconds: float) -> tuple[int, int]:
        """Accepts no more, hands over to the process at the other end, and finishes within this time what is under way.
        Returns how many connections there were, and how many of them did not end in time."""

    def meet(self, inbox: socket.socket, others: Mapping[tuple[int, int], socket.socket]) -> None:
        """The other workers, by slot and generation, as datagram sockets; `inbox` is where they write to."""


class Worker:
    """The parts around `Duties` on one loop; a listener of its channel."""

    def __init__(self, birth: Birth, duties: Duties) -> None:
        self._duties = duties
        self._birth = birth
        self._post = Post(birth, self._on_message, self._on_leave)
        self._channel = Channel(self._hello, self)
        duties.join(self._channel.send)
        self._tasks = asyncio.TaskGroup()
        # One thread, made at once: a document must not fail for want of a thread when memory is short.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="compile")
        self._next: Config | None = None
        self._candidate: Config | None = None
        self._changed = asyncio.Event()
        self._served: tuple[int, int] | None = None  # version, and hash of the document: a restarted embedded store
        self._prepares = birth.succeeds  # another process serves in this place
        self._retirement: asyncio.Task[None] | None = None
        self._leave: asyncio.Future[float] = asyncio.get_running_loop().create_future()  # may give a number twice

    async def run(self) -> None:
        """Runs until the launcher says so or is gone."""
        async with self._tasks:
            works = (self._duties.run(), self._compile_for_ever(), self._report_for_ever())
            own = [self._tasks.create_task(work) for work in works]
            self._post.say("ready", version=software())
            grace_seconds = await self._leave
            if self._retirement is not None:
                self._retirement.cancel()  # unless it is what ends this worker
            await self._duties.close(grace_seconds)
            for task in own:
                task.cancel()
            self._report()
        self._channel.close()
        self._thread.shutdown(wait=False, cancel_futures=True)

    # From the launcher

    def _on_message(self, message: Message, sockets: list[socket.socket]) -> None:
        match message["say"]:
            case "sockets":
                self._duties.on_sockets(sockets_of(message, sockets))
            case "channel":
                self._tasks.create_task(self._attach(sockets[0]))
            case "drain":
                self._duties.drain(True)
            case "neighbours":
                others = {(slot, generation): sock for (slot, generation), sock
                          in zip(message["neighbours"], sockets[1:], strict=True)}  # fmt: skip
                self._duties.meet(sockets[0], others)
            case "succeed":
                self._tasks.create_task(self._succeed(sockets[0]))
            case "retire":
                self._retirement = self._tasks.create_task(self._retire(sockets[0], message["seconds"]))

    async def _succeed(self, predecessor: socket.socket) -> None:
        self._prepares = False
        limits = await self._duties.succeed(predecessor)
        self._post.say("inherited", limits=limits)
        logs.log("info", "took over", limits=limits)

    async def _retire(self, successor: socket.socket, seconds: float) -> None:
        connections, cut = await self._duties.retire(successor, seconds)
        logs.log("info", "retired", connections=connections, cut=cut)
        self._post.say("finished", connections=connections, cut=cut)
        if not self._leave.done():
            self._leave.set_result(0.0)

    async def _attach(self, sock: socket.socket) -> None:
        try:
            await self._channel.attach(sock)
        except OSError as error:  # the agent died meanwhile: the launcher makes another channel
            logs.log("info", "channel not opened", reason=str(error))

    def _on_leave(self, grace_seconds: float) -> None:
        if not self._leave.done():
            self._leave.set_result(grace_seconds)

    # From the agent

    def _hello(self) -> Hello:
        version = self._served[0] if self._served else 0
        return Hello(kind=self._birth.role, slot=self._birth.slot, config_version=version, pid=os.getpid())

    def on_hello(self, hello: Hello) -> None:
        """The agent is there."""
        logs.log("info", "agent connected", agent_pid=hello.pid)

    def on_lost(self, reason: str) -> None:
        """The agent is gone: serve on."""
        logs.log("warning", "agent lost, serving on", reason=reason)

    def on_frame(self, frame: Frame) -> None:
        """State from the agent."""
        if frame.WhichOneof("body") == "config":
            self._next = frame.config
            self._changed.set()
        elif frame.WhichOneof("body") == "candidate":
            self._candidate = frame.candidate
            self._changed.set()
        else:
            self._duties.on_state(frame)

    async def _compile_for_ever(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            config, self._next = self._next, None
            if config is not None:
                self._channel.send(Frame(config_ack=await self._take(config)))
            candidate, self._candidate = self._candidate, None
            if candidate is not None:
                self._channel.send(Frame(candidate_ack=await self._check(candidate)))

    async def _take(self, config: Config) -> ConfigAck:
        """Puts a document in force, or says why not."""
        identity = (config.version, hash(config.document))
        if identity == self._served:
            return ConfigAck(version=config.version)
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            work = lambda: compiling.without_collector(lambda: self._duties.compile(config))  # noqa: E731  # one use
            apply = await loop.run_in_executor(self._thread, work)
            swap_began = loop.time()
            apply()
        except Unfit as error:
            logs.log("error", "document refused", version=config.version, reason=str(error))
            if self._prepares:
                self._post.say("failed", reason=f"refuses version {config.version} of the document: {error}")
            return ConfigAck(version=config.version, refused=str(error))
        swapped = loop.time()
        self._served = identity
        compiling.settle()
        logs.log("info", "document in force", version=config.version,
                 compile_seconds=round(swap_began - began, 4), swap_seconds=round(swapped - swap_began, 4),
                 settle_seconds=round(loop.time() - swapped, 4))  # fmt: skip
        if self._prepares:
            self._post.say("prepared", version=software())
        return ConfigAck(version=config.version)

    async def _check(self, candidate: Config) -> ConfigAck:
        """Compiles a candidate and holds it ready, or says why not; version 0 lets go of it."""
        loop = asyncio.get_running_loop()
        try:
            work = lambda: compiling.without_collector(lambda: self._duties.compile_candidate(candidate))  # noqa: E731  # one use
            hold = await loop.run_in_executor(self._thread, work)
        except Unfit as error:
            logs.log("error", "candidate refused", version=candidate.version, reason=str(error))
            return ConfigAck(version=candidate.version, refused=str(error))
        hold()
        return ConfigAck(version=candidate.version)

    # To the agent

    async def _report_for_ever(self) -> None:
        ticks = 0
        while True:
            await asyncio.sleep(TICK_SECONDS)
            ticks += 1
            self._duties.tick(self._channel.send)
            if ticks % TICKS_PER_METRICS == 0:
                self._channel.send(metrics_to_proto(self._duties.series()))

    def _report(self) -> None:
        self._duties.tick(self._channel.send)
        self._channel.send(metrics_to_proto(self._duties.series()))


def run_worker(birth: Birth, make: Callable[[], Duties]) -> int:
    """Runs a worker on uvloop until it is told to leave."""

    async def main() -> None:
        worker = Worker(birth, make())
        compiling.tune()
        await worker.run()

    with asyncio.Runner(loop_factory=_new_loop) as runner:
        runner.run(main())
    return 0


def _new_loop() -> Any:
    return uvloop.new_event_loop()
