"""The door of the data plane: one worker's listeners, exchanges and pools, and what may be told to it while it runs.

Invariant: nothing here waits for anyone to serve a request, and nothing here cuts a connection that is in use, but
`close` when its grace is over. All calls come from the worker's loop.
"""

import asyncio
import os
import random
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Protocol, cast

from meridian.core.judging import HANDSHAKES, Arms
from meridian.core.purging import Purges
from meridian.core.snapshot import Listener, Snapshot
from meridian.core.tiers import ALL
from meridian.gateway import answers, headless, mirroring
from meridian.gateway.admission import Admission
from meridian.gateway.cache import Cache
from meridian.gateway.connection import DownstreamConnection
from meridian.gateway.exchange import Exchange
from meridian.gateway.explaining import Explanation, Question, explain
from meridian.gateway.forwarding import GONE, ListenerFacts
from meridian.gateway.guarding import Guarding
from meridian.gateway.handing import Client, Neighbours, Place
from meridian.gateway.handshakes import HandshakeTrial
from meridian.gateway.l4 import L4Connection
from meridian.gateway.l4_datagrams import L4Datagrams
from meridian.gateway.limits import Limits
from meridian.gateway.meters import Meters
from meridian.gateway.outcome import Reports
from meridian.gateway.proxy_door import ProxyDoor
from meridian.gateway.stream import ANSWERED, Answered, DownstreamStream, Peer
from meridian.gateway.tls import TlsContexts
from meridian.gateway.trial import Counts
from meridian.gateway.upstream_tls import UpstreamContexts
from meridian.gateway.worker import Installed, Trial, Worker
from meridian.telemetry.metrics import IN_FORCE, MERGED, Metrics, Series
from meridian.wire.events import RequestHead
from meridian.wire.proxy_protocol import Address

CONNECTIONS_MAX = 10_000
"""Downstream connections of one worker: about 300 MB of kernel and TLS buffers at worst, and half of the usual limit of
20,000 open files, so that as many remain for upstreams. Those beyond are told 503 and closed: a queue in the kernel
would only let them time out."""

SWEEP_SECONDS = 0.1
"""How late a timeout may be. One look at every deadline costs 0.5 ms for 10,000 connections."""

BACKLOG = 4096
"""The launcher has chosen the real backlog; listen() is repeated by the loop and must not make it smaller."""


SETTLE_SECONDS = 1.0
"""A gateway that retires stays so long at least: for connections that were accepted and are in their TLS handshake."""

FAREWELL_SECONDS = 0.5
"""So long before the grace of `close` is over, what has no end of its own (WebSocket) is told to go: a round trip and
more, for the good-bye to arrive."""


class DatagramListener(Protocol):
    """The UDP side of a listener, see gateway/quic."""

    def drain(self) -> None:
        """GOAWAY on every connection."""

    def retire(self) -> None:
        """Another worker reads the sockets from now on."""

    @property
    def connections(self) -> int:
        """That are open."""

    async def close(self, grace_seconds: float) -> None:
        """Ends all connections, those in use when the grace is over."""


class Gateway:
    """See the module's head."""

    def __init__(
        self, snapshot: Snapshot, *, region: str, worker: int, loop: asyncio.AbstractEventLoop, report: Reports,
        metrics: Metrics | None = None, quiet: bool = False, node: str = "",
        draw: Callable[[], float] = random.random, draw_bytes: Callable[[int], bytes] = os.urandom,
        clock: Callable[[], float] | None = None, unix_nanoseconds: Callable[[], int] = time.time_ns,
        limits: Limits | None = None, meters: Meters | None = None, contexts: UpstreamContexts | None = None,
    ) -> None:  # fmt: skip
        """`quiet`: ordinary exchanges (see outcome) are not reported, but for traced ones. `node` is the
        name that the health answer gives. `clock` gives seconds that only rise (default: CLOCK_BOOTTIME); `draw` chance
        in [0, 1). `limits` and `meters` are those of a worker among others (default: it is the only one).
        `contexts` has been prepared for the upstreams of every snapshot that is given (default: made when needed).

        Raises tls.CertificateError if a certificate of the snapshot cannot be used.
        """
        self._loop = loop
        self._node = node
        self._metrics = metrics or Metrics()
        clock = clock or partial(time.clock_gettime, time.CLOCK_BOOTTIME)
        self.limits = limits or Limits(clock, self._metrics)
        self.meters = meters or Meters.alone(clock(), unix_nanoseconds() / 1e9)
        self._worker = Worker(
            region=region, number=worker, loop=loop, clock=clock, unix_nanoseconds=unix_nanoseconds, draw=draw,
            draw_bytes=draw_bytes, report=report, quiet=quiet, metrics=self._metrics, limits=self.limits,
            meters=self.meters, contexts=contexts or UpstreamContexts(),
        )  # fmt: skip
        self._worker.mirror, self._worker.refresh = mirroring.begin, headless.refresh
        self.clock = self._worker.clock
        self.coarse_now = self.clock()  # see connection.Host
        self.tls = TlsContexts(snapshot.certificates)
        self._worker.install(snapshot)
        self._servers: dict[str, list[asyncio.Server | ProxyDoor]] = {}
        self._datagrams: dict[str, list[DatagramListener]] = {}
        self._connections: set[DownstreamConnection] = set()
        self._watched: set[DownstreamConnection] = set()  # whose clients may not read
        self.guarding = Guarding(lambda name: self._worker.installed.listeners.get(name, GONE), self._metrics)
        self._l4: set[L4Connection] = set()
        self._draining = False
        self._proofs: Mapping[bytes, bytes] = {}
        self._purged: int | None = None  # the newest order that this worker has heard of
        self._closed = False
        self._connection_gauge = self._metrics.gauge("meridian_connections", "Open downstream connections.")
        self._exchange_gauge = self._metrics.gauge("meridian_exchanges", "Exchanges under way.")
        self._turned_away = self._metrics.counter("meridian_connections_refused_total", "Beyond the limit.")
        self._sweep_timer = loop.call_later(SWEEP_SECONDS, self._sweep)

    # What may be told to it

    @property
    def snapshot(self) -> Snapshot:
        """The one that new exchanges take."""
        return self._worker.installed.snapshot

    def swap(self, snapshot: Snapshot) -> None:
        """New exchanges take this snapshot; those in flight end on the one they took. Sockets are not touched:
        `attach` and `detach` are for that. A listener that leaves the document is detached before.

        Raises tls.CertificateError and changes nothing.
        """
        if snapshot.certificates != self.snapshot.certificates:
            self.tls.replace(snapshot.certificates)
        self.tls.end_trial()
        self._worker.install(snapshot)

    def begin_trial(self, candidate: Snapshot, share: float, generation: int) -> None:
        """From now on `share` (0 to 1) of the exchanges take `candidate`, by draw, until `end_trial` or `swap`; what
        both do is counted apart. As many handshakes are shown its certificates, where they differ. Listeners stay those
        in force. No connection is touched.

        Raises tls.CertificateError and changes nothing."""
        if candidate.certificates != self.snapshot.certificates:
            self.tls.try_out(candidate.certificates, HandshakeTrial(share, self._worker.draw, self.clock))
        self._worker.begin_trial(candidate, share, generation)

    def end_trial(self) -> None:
        """New exchanges and handshakes take what is in force again; exchanges on the candidate end on it."""
        self.tls.end_trial()
        self._worker.end_trial()

    @property
    def trial(self) -> Trial | None:
        """The candidate that is tried beside the snapshot in force."""
        return self._worker.trial

    def arms(self) -> Arms:
        """What both sides of the trial have served, with what they keep waiting. There must be a trial."""
        trial = self._worker.trial
        assert trial is not None, "only what is tried is counted"
        sides = [self._counted(installed).tallies() for installed in (trial.current, trial.candidate)]
        samples = {HANDSHAKES: self.tls.trial.sample()} if self.tls.trial is not None else {}
        return Arms(trial.share, sides[0], sides[1], samples)

    def _counted(self, installed: Installed) -> Counts:
        assert installed.counts is not None
        return installed.counts.with_waiting(self._worker.waiting(installed.counts))

    def set_verdict(
        self, version: int, withdrawn: frozenset[str], suspect: frozenset[str] = frozenset(), fallback: int = 0,
        shares: Mapping[str, float] = ALL,
    ) -> None:  # fmt: skip
        """The cluster's verdict on regions; `fallback` as in core/standings: what this node merged itself upon it.
        `shares` are those of regions that do not take all who come to them.
        """
        self._worker.verdict_version, self._worker.verdict_fallback = version, fallback
        for name, help, value in (("version", IN_FORCE, version), ("fallback", MERGED, fallback)):
            self._worker.metrics.gauge(f"meridian_verdict_{name}", help).value = float(value)
        for health in self._worker.healths():
            health.set_verdict(withdrawn, suspect, shares)

    def share_tickets(self, secrets: Sequence[bytes]) -> str:
        """See tls.TlsContexts."""
        why = self.tls.share_tickets(secrets)
        gauge = self._metrics.gauge("meridian_tls_tickets_shared", "Whether sessions over TCP resume on other workers.")
        gauge.value = float(not why)
        return why

    def prove(self, proofs: Mapping[bytes, bytes]) -> None:
        """What to answer to authorities (ACME, RFC 8555 section 8.3), by token: on every listener, before all else."""
        self._proofs = proofs

    def set_endpoint_health(self, down: Mapping[str, frozenset[str]]) -> None:
        """Addresses that probes find down, by upstream: the whole of it."""
        for health in self._worker.healths():
            health.set_down(down)

    async def attach(self, listener: Listener, sockets: Sequence[socket.socket]) -> None:
        """Serves TCP sockets that are bound already; they are the gateway's from here on."""
        auth, context = listener.client_auth, None
        if listener.tls:
            context = self.tls.context_for(listener.protocols, listener.tls_profile, auth)
        forwards = auth is not None and auth.forward
        passes = "tcp" in listener.protocols

        def factory(source: Address | None = None) -> asyncio.Protocol:
            if passes:
                return L4Connection(self, self._worker, listener.name, listener.port, source)
            connection = DownstreamConnection(
                self, listener.name, listener.port, tls=listener.tls, source=source, forwards_certificate=forwards,
                is_proxy=listener.forward is not None, guards=self.guarding.guards_of(listener.name),
                protocols=listener.protocols,
            )  # fmt: skip
            return cast("asyncio.Protocol", connection)

        servers, handshake_seconds = self._servers.setdefault(listener.name, []), listener.guards.header_seconds
        for sock in sockets:
            if listener.proxy_protocol:
                trusted = ListenerFacts.of(listener).trusted
                servers.append(ProxyDoor(
                    self._loop, sock, trusted, factory, context, handshake_seconds,
                    partial(self._not_let_in, listener.name),
                ))  # fmt: skip
                continue
            server = await self._loop.create_server(
                factory, sock=sock, ssl=context, backlog=BACKLOG,
                ssl_handshake_timeout=handshake_seconds if context else None,
            )  # fmt: skip
            servers.append(server)

    def _not_let_in(self, listener: str, why: str) -> None:
        """A proxy door has closed a connection."""
        self._metrics.counter(
            "meridian_proxied_refused_total", "Connections without a PROXY header, or from who may not send one.",
            listener=listener, why=why,
        ).value += 1  # fmt: skip

    def attach_l4_datagrams(
        self, listener: Listener, sockets: Sequence[socket.socket], neighbours: Neighbours | None = None,
        elsewhere: Mapping[Client, Place] = MappingProxyType({}),
    ) -> L4Datagrams:  # fmt: skip
        """Passes UDP of bound sockets through; they are the gateway's from here on. `elsewhere` are clients whose flows
        another worker has."""
        served = L4Datagrams(self._worker, listener.name, sockets, neighbours or Neighbours(0, 0), elsewhere)
        served.start()
        self.attach_datagrams(listener, served)
        return served

    def attach_datagrams(self, listener: Listener, served: DatagramListener) -> None:
        """Joins the UDP side of a listener (gateway/quic), so that `detach`, `drain` and `close` reach it."""
        self._datagrams.setdefault(listener.name, []).append(served)
        if self._draining:
            served.drain()

    def detach(self, name: str) -> None:
        """Accepts no more connections on a listener; those that are open go on, and are told to go elsewhere."""
        for server in self._servers.pop(name, []):
            server.close()
        for connection in tuple(self._connections):
            if connection.peer.listener == name:
                connection.shut_down()
        for served in self._datagrams.pop(name, []):
            served.drain()

    def drain(self, on: bool) -> None:
        """Tells clients to go elsewhere: `connection: close` on the next response, GOAWAY. All is still served.

        Turned off again it holds for new connections; those that were told stay told.
        """
        self._draining = on
        if on:
            for connection in tuple(self._connections):
                connection.shut_down()
            for served in self._all_datagrams():
                served.drain()

    def retire(self) -> None:
        """Another worker has the sockets now: accepts nothing more, and tells clients to go. Then `finish`."""
        for server in [one for several in self._servers.values() for one in several]:
            server.close()
        self._servers.clear()
        for served in self._all_datagrams():
            served.retire()
        self.drain(True)

    async def finish(self, seconds: float) -> tuple[int, int]:
        """Waits until all connections have ended, for `seconds` at most, then closes. Returns how many there were, and
        how many exchanges had not ended."""
        datagrams, deadline = self._all_datagrams(), self.clock() + seconds

        def still_open() -> int:
            return self.connections + sum(served.connections for served in datagrams)

        found = still_open()
        await asyncio.sleep(min(SETTLE_SECONDS, seconds))
        await self._until(lambda: not still_open(), deadline)
        cut = len(self._worker.exchanges)
        await self.close(2 * FAREWELL_SECONDS)
        return found, cut

    def flows(self) -> dict[str, list[Client]]:
        """Clients of UDP that passes through, by socket (see handing)."""
        served = [one for one in self._all_datagrams() if isinstance(one, L4Datagrams)]
        return {where: clients for one in served for where, clients in one.clients().items()}

    def _all_datagrams(self) -> list[DatagramListener]:
        return [one for several in self._datagrams.values() for one in several]

    async def close(self, grace_seconds: float) -> None:
        """Accepts nothing more, lets exchanges end within the grace, then ends what is left: WebSockets by 1001."""
        deadline = self.clock() + grace_seconds
        datagrams = self._all_datagrams()
        for name in {*self._servers, *self._datagrams}:
            self.detach(name)
        self.drain(True)
        async with asyncio.TaskGroup() as tasks:
            for served in datagrams:
                tasks.create_task(served.close(grace_seconds))
            await self._until(lambda: not self._worker.exchanges, deadline - min(FAREWELL_SECONDS, grace_seconds / 2))
            for exchange in tuple(self._worker.exchanges):
                exchange.go_away("going_away")
            await self._until(lambda: not self._worker.exchanges, deadline)
        for passing in tuple(self._l4):
            passing.cut()
        for connection in tuple(self._connections):
            connection.close()  # writes what is left
        await self._until(lambda: not self._connections, max(deadline, self.clock() + SWEEP_SECONDS))
        for connection in tuple(self._connections):
            connection.cut()
        self._closed = True
        for threads in (self._worker.disk, self._worker.lookups):
            threads.shutdown(wait=False, cancel_futures=True)
        self._sweep_timer.cancel()
        for health in self._worker.healths():
            await health.close()

    async def _until(self, condition: Callable[[], bool], deadline: float) -> None:
        while not condition() and self.clock() < deadline:  # noqa: ASYNC110 # once in a life; an event would be set per exchange
            await asyncio.sleep(SWEEP_SECONDS / 10)

    # What it tells

    @property
    def admission(self) -> Admission:
        """What decides on limits."""
        return self._worker.admission

    @property
    def active(self) -> int:
        """Exchanges under way."""
        return len(self._worker.exchanges)

    @property
    def connections(self) -> int:
        """Open downstream connections over TCP."""
        return len(self._connections) + len(self._l4)

    @property
    def cache(self) -> Cache:
        """What this worker keeps of answers."""
        return self._worker.cache

    def purge(self, purges: Purges) -> None:
        """Forgets what the orders take that are new to this worker, of a candidate's answers too."""
        orders, self._purged = purges.since(self._purged), purges.number
        trial = self._worker.trial
        caches = [self._worker.cache] if trial is None else [self._worker.cache, trial.candidate.cache]
        for cache in caches:
            for order in orders:
                cache.purge(lambda key, entry, order=order: order.takes(key[0], key[2], key[3], entry.tags))  # type: ignore[misc] # mypy cannot infer a lambda's default

    def explain(self, question: Question) -> Explanation:
        """What would become of a request now. Nothing is spent, counted or sent."""
        return explain(self._worker, question)

    def series(self) -> list[Series]:
        """All metrics as they stand."""
        self._connection_gauge.value = self.connections
        self._exchange_gauge.value = len(self._worker.exchanges)
        return self._metrics.series()

    # For connections: see connection.Host

    def begin(self, head: RequestHead, stream: DownstreamStream, peer: Peer) -> Exchange | Answered:
        """See stream.Begin: for gateway/quic too."""
        if head.target == answers.HEALTH_TARGET and head.method == b"GET":
            headers, body = answers.health(
                self._node, self.snapshot.version, self._worker.date, draining=self._draining
            )
            stream.answer(200, headers, body)
            return ANSWERED
        if self._proofs and (proof := self._proof_for(head.target)) is not None:
            headers, body = answers.proof(proof, self._worker.date)
            stream.answer(200, headers, body)
            return ANSWERED
        exchange = Exchange(self._worker, head, stream, peer)
        try:
            exchange.start()
        except Exception:
            exchange.abandon()
            raise
        return exchange

    def _proof_for(self, target: bytes) -> bytes | None:
        """What an authority that asks has to find. Another token's is for the routes: a service may speak ACME, too."""
        return (
            self._proofs.get(target.removeprefix(answers.CHALLENGE)) if target.startswith(answers.CHALLENGE) else None
        )

    def failed(self, error: Exception) -> None:
        """See connection.Host."""
        self._loop.call_exception_handler({"message": "an exchange could not begin", "exception": error})

    def opened(self, connection: DownstreamConnection) -> bool:
        """See connection.Host."""
        if self.connections >= CONNECTIONS_MAX:
            self._turned_away.value += 1
            return False
        if not self.guarding.enter(connection.peer.listener, connection.peer.address):
            return False
        self._connections.add(connection)
        if self._draining:
            connection.codec.shut_down()
        return True

    def closed(self, connection: DownstreamConnection) -> None:
        """See connection.Host."""
        self._watched.discard(connection)
        if connection in self._connections:
            self._connections.remove(connection)
            self.guarding.leave(connection.peer.address)

    def watch(self, connection: DownstreamConnection) -> None:
        """See connection.Host."""
        self._watched.add(connection)

    def l4_opened(self, connection: L4Connection) -> bool:
        """See l4.Host."""
        if self.connections >= CONNECTIONS_MAX:
            self._turned_away.value += 1
            return False
        self._l4.add(connection)
        return True

    def l4_closed(self, connection: L4Connection) -> None:
        """See l4.Host."""
        self._l4.discard(connection)

    def handshaken(self, connection: ssl.SSLObject) -> None:
        """See connection.Host."""
        if self.tls.trial is not None:
            self.tls.trial.succeeded(connection)

    def refused(self, status: int, why: str) -> None:
        """See connection.Host."""
        self.guarding.refused(status, why)

    def _sweep(self) -> None:
        """The one timer of all exchanges and connections."""
        now = self.coarse_now = self._worker.coarse_now = self.clock()
        if self._worker.overload is not None:
            self._worker.overload.lagged(self._loop.time() - self._sweep_timer.when())
        self._worker.set_date()
        for exchange in [one for one in self._worker.exchanges if one.deadline <= now]:
            exchange.expire(now)
        for connection in [one for one in self._connections if one.deadline <= now]:
            connection.expire(now)
        for connection in tuple(self._watched):
            if not connection.look(now):
                self._watched.discard(connection)
        self._worker.sweep(now)
        if not self._closed:
            self._sweep_timer = self._loop.call_later(SWEEP_SECONDS, self._sweep)
