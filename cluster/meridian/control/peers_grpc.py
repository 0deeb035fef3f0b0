"""Peers over gRPC with mutual TLS: two streams to each, one of reports up and verdicts down, one of letters between
workers (peers.proto).

Invariant: a peer that is slow, gone or hostile costs a bounded amount of memory and nobody else's time. What keeps it:
one report and LETTERS_MAX letters wait for each peer at most, a write has a deadline, messages have a size, and each
link is a task of its own that begins again after any failure.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc

from meridian.control.messages import (
    beat_to_proto,
    report_from_proto,
    report_to_proto,
    verdict_from_proto,
    verdict_to_proto,
)
from meridian.control.peers import PeerPortTaken, Receiver
from meridian.control.waiting import Pause, signalled
from meridian.core.verdicts import Report, Verdict
from meridian_proto.v1 import peers_pb2_grpc
from meridian_proto.v1.peers_pb2 import Delivered
from meridian_proto.v1.spending_pb2 import Letter, Letters

MESSAGE_BYTES_MAX = 1 << 20  # a verdict of a thousand nodes has some 200 KiB
WRITE_SECONDS = 1.0  # a peer that takes no report for two periods is as good as gone
LETTERS_MAX = 2_000  # of some 200 bytes: what a link may be behind; older ones are worthless after a loan's time
LETTERS_AT_ONCE = 256
IDLE_SECONDS = 3600.0
STOP_SECONDS = 0.2
_OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", 2000),  # a host that vanished without a word is known in 3 s, and tried anew
    ("grpc.keepalive_timeout_ms", 1000),
    ("grpc.keepalive_permit_without_calls", 1),
]
_SERVER_OPTIONS = [
    *_OPTIONS,
    ("grpc.so_reuseport", 0),  # a taken port is an error, not a silent share
    ("grpc.http2.min_ping_interval_without_data_ms", 500),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.max_concurrent_streams", 16),  # for each connection; a peer needs one
]
_CHANNEL_OPTIONS = [
    *_OPTIONS,
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),  # a link that begins anew gets a connection of its own
]

_log = logging.getLogger("meridian.control")
_stubs: Any = peers_pb2_grpc  # generated without types


@dataclass(frozen=True, slots=True)
class PeerTls:
    """PEM of the authority, this node's chain and key. `name`: what peers' certificates say, if not their address."""

    ca: bytes
    certificate: bytes
    key: bytes
    name: str | None = None


@dataclass(frozen=True, slots=True)
class _Draft:
    """A report on its way out: one message for all links, as making it costs ten times what sending it does.

    `age_seconds` old at `made`; each link writes into the message how old it is now, right before it sends it.
    """

    message: Any
    age_seconds: float
    made: float


class GrpcPeers:
    """Listens on `address` (host:port; port 0 takes a free one, see `port`) and connects to whom it is told."""

    def __init__(self, address: str, tls: PeerTls, clock: Callable[[], float]) -> None:
        self.port = 0
        self._address = address
        self._tls = tls
        self._clock = clock
        self._peers: dict[str, str] = {}
        self._links: dict[str, _Link] = {}
        self._news = asyncio.Event()
        self._service = _Service(clock)
        self._latest: _Draft | None = None

    def set_peers(self, peers: Mapping[str, str]) -> None:
        if dict(peers) != self._peers:
            self._peers = dict(peers)
            self._news.set()

    def send(self, report: Report) -> None:
        self._latest = _Draft(report_to_proto(report, 0.0), report.age_seconds, self._clock())
        for link in self._links.values():
            link.offer(self._latest)

    def publish(self, verdict: Verdict) -> None:
        self._service.publish(verdict)

    def beat(self, fence: int, version: int) -> None:
        self._service.beat(fence, version)

    def renew(self) -> None:
        for link in self._links.values():
            link.task.cancel()
        self._links.clear()
        self._news.set()

    def deliver(self, name: str, letter: Letter) -> None:
        if (link := self._links.get(name)) is not None:
            link.post(letter)

    async def run(self, receiver: Receiver) -> None:
        self._service.receiver = receiver
        server = await self._listen()
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    await self._follow(tasks, receiver)
                    await signalled(self._news, IDLE_SECONDS)
        finally:
            await server.stop(STOP_SECONDS)

    async def _listen(self) -> Any:
        server = grpc.aio.server(options=_SERVER_OPTIONS)
        _stubs.add_PeersServicer_to_server(self._service, server)
        pair = [(self._tls.key, self._tls.certificate)]
        credentials = grpc.ssl_server_credentials(pair, self._tls.ca, require_client_auth=True)
        try:
            self.port = server.add_secure_port(self._address, credentials)
        except RuntimeError as error:
            raise PeerPortTaken(f"cannot listen for peers on {self._address}: is another node running here?") from error
        await server.start()
        return server

    async def _follow(self, tasks: asyncio.TaskGroup, receiver: Receiver) -> None:
        """Makes the links those that were asked for."""
        for name, link in list(self._links.items()):
            if self._peers.get(name) != link.address:
                link.task.cancel()
                del self._links[name]
        for name in self._peers.keys() - self._links.keys():
            link = _Link(self._peers[name], self._tls, self._clock, receiver)
            link.task = tasks.create_task(link.run())
            if self._latest is not None:
                link.offer(self._latest)
            self._links[name] = link


class _Link:
    """The stream to one peer."""

    task: asyncio.Task[None]

    def __init__(self, address: str, tls: PeerTls, clock: Callable[[], float], receiver: Receiver) -> None:
        self.address = address
        self._tls = tls
        self._clock = clock
        self._receiver = receiver
        self._waiting: _Draft | None = None
        self._news = asyncio.Event()
        self._letters: deque[Letter] = deque(maxlen=LETTERS_MAX)  # the oldest are lost first
        self._mail = asyncio.Event()

    def post(self, letter: Letter) -> None:
        """Puts a letter in the queue."""
        self._letters.append(letter)
        self._mail.set()

    def offer(self, latest: _Draft) -> None:
        """Puts a report in the one place of the queue."""
        self._waiting = latest
        self._news.set()

    async def run(self) -> None:
        """Connects and streams, again and again, until cancelled."""
        pause = Pause(0.1, 1.0)
        while True:
            try:
                async with self._channel() as channel:
                    await self._stream(_stubs.PeersStub(channel), pause)
            except (grpc.RpcError, TimeoutError, asyncio.InvalidStateError) as error:
                _log.debug("link to %s ended: %s", self.address, error)
            await pause()

    async def _stream(self, stub: Any, pause: Pause) -> None:
        """Returns when the peer ended the stream; raises when it takes no more. Not a TaskGroup: in Python 3.11 one
        whose child fails during a cancellation forgets the cancellation.
        """
        call = stub.Exchange()
        loop = asyncio.get_running_loop()
        beside = (loop.create_task(self._read(call, pause)), loop.create_task(self._deliver(stub)))
        for task in beside:
            task.add_done_callback(lambda _: self._news.set())
        try:
            while not any(task.done() for task in beside):
                news = await signalled(self._news, IDLE_SECONDS)
                if news and self._waiting is not None and not any(task.done() for task in beside):
                    draft = self._waiting
                    draft.message.age_seconds = draft.age_seconds + self._clock() - draft.made
                    async with asyncio.timeout(WRITE_SECONDS):
                        await call.write(draft.message)
        finally:
            call.cancel()
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def _deliver(self, stub: Any) -> None:
        """Sends letters as they come; what waits from before the link was there is too old."""
        self._letters.clear()
        call = stub.Deliver()
        try:
            while True:
                await signalled(self._mail, IDLE_SECONDS)
                while self._letters:
                    batch = [self._letters.popleft() for _ in range(min(len(self._letters), LETTERS_AT_ONCE))]
                    async with asyncio.timeout(WRITE_SECONDS):
                        await call.write(Letters(letters=batch))
        finally:
            call.cancel()

    async def _read(self, call: Any, pause: Pause) -> None:
        async for message in call:
            pause.reset()
            if message.beat:
                self._receiver.on_beat(message.fence, message.version)
            else:
                self._receiver.on_verdict(verdict_from_proto(message, self._clock()))

    def _channel(self) -> Any:
        tls = self._tls
        options: list[tuple[str, Any]] = list(_CHANNEL_OPTIONS)
        if tls.name is not None:
            options.append(("grpc.ssl_target_name_override", tls.name))
        credentials = grpc.ssl_channel_credentials(tls.ca, tls.key, tls.certificate)
        return grpc.aio.secure_channel(self.address, credentials, options=options)


class _Service(peers_pb2_grpc.PeersServicer):
    """The side that is connected to."""

    receiver: Receiver

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._verdict: Verdict | None = None
        self._beat: tuple[int, int] | None = None
        self._news: set[asyncio.Event] = set()

    def publish(self, verdict: Verdict) -> None:
        """Wakes every stream; each sends the latest only."""
        self._verdict = verdict
        self._wake()

    def beat(self, fence: int, version: int) -> None:
        """Wakes every stream; each that is ready sends one beat, and no beat waits for a stream to come."""
        self._beat = (fence, version)
        self._wake()

    def _wake(self) -> None:
        for news in self._news:
            news.set()

    async def Exchange(self, requests: AsyncIterator[Any], context: Any) -> None:  # noqa: N802  # the name in peers.proto
        """One peer's stream: takes its reports, tells it verdicts."""
        async with asyncio.TaskGroup() as tasks:
            telling = tasks.create_task(self._tell(context))
            async for message in requests:
                self.receiver.on_report(report_from_proto(message))
            telling.cancel()

    async def Deliver(self, requests: AsyncIterator[Any], context: Any) -> Any:  # noqa: N802  # the name in peers.proto
        """One peer's letters to the workers of this node."""
        async for message in requests:
            for letter in message.letters:
                self.receiver.on_letter(letter)
        return Delivered()

    async def _tell(self, context: Any) -> None:
        news = asyncio.Event()
        news.set()
        self._news.add(news)
        told, beaten = None, self._beat  # the former beat is not for a stream that begins now
        try:
            while True:
                await signalled(news, IDLE_SECONDS)
                if self._verdict is not None and self._verdict is not told:
                    told = self._verdict
                    await context.write(verdict_to_proto(told, self._clock()))
                if self._beat is not None and self._beat is not beaten:
                    beaten = self._beat
                    await context.write(beat_to_proto(*beaten))
        finally:
            self._news.discard(news)
