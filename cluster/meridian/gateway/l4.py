"""One TCP connection that passes through: bytes of the client go to an endpoint and back as they are.

Read top down: the client connects, perhaps says by its TLS ClientHello whom it wants, an endpoint is found and
connected to (another where one refuses), and from then on two directions flow until both are over.

Invariants: what a side sends faster than the other takes is not read; what waits for the endpoint is at most
`WAITING_BYTES_MAX`; half-closing passes through; a connection ends once, and is then counted and reported once.
"""

import asyncio
from typing import Protocol, cast

from meridian.core.balancing import Ask, choose
from meridian.core.l4 import NOTHING, L4Route
from meridian.core.snapshot import Endpoint
from meridian.gateway import affinity
from meridian.gateway.outcome import Outcome
from meridian.gateway.state import LiveUpstream
from meridian.gateway.stream import Peer
from meridian.gateway.worker import Worker
from meridian.wire import proxy_protocol
from meridian.wire.client_hello import IncompleteError, NotTlsError, server_name_of

HELLO_SECONDS = 10.0
"""A client has so long to say whom it wants, as it has for a request's head."""

WAITING_BYTES_MAX = 64 * 1024
"""Kept of a client while an endpoint is found: four times the longest ClientHello."""

FOREVER = float("inf")

OK, UNREADABLE, NO_ROUTE, UNREACHABLE, TURNED_AWAY = 200, 400, 404, 502, 503
"""How a connection went, in the numbers that nginx's stream module uses."""


class Host(Protocol):
    """What a connection needs from the worker's door."""

    def l4_opened(self, connection: "L4Connection") -> bool:
        """Counts it in; False if there are too many."""

    def l4_closed(self, connection: "L4Connection") -> None:
        """Counts it out."""


class L4Connection(asyncio.Protocol):
    """See the module's head; a worker.Sweepable. This is the client's side; `_Far` is the endpoint's."""

    __slots__ = (
        "_connecting",
        "_ended",
        "_far",
        "_finished",
        "_host",
        "_index",
        "_live",
        "_near",
        "_near_finished",
        "_paused",
        "_received",
        "_route",
        "_sent",
        "_server_name",
        "_source",
        "_tries",
        "_waiting",
        "_worker",
        "deadline",
        "installed",
        "peer",
        "started",
    )  # fmt: skip

    def __init__(
        self, host: Host, worker: Worker, listener: str, local_port: int, source: tuple[str, int] | None = None
    ) -> None:
        """`local_port` is the listener's port as clients know it. `source`: the client, where a proxy before us has
        said it (gateway/proxy_door)."""
        self._source = source
        self._host = host
        self._worker = worker
        self.installed = worker.installed  # for good: nothing of it changes under a connection
        self.started = worker.clock()
        self.deadline = self.started + HELLO_SECONDS
        self.peer = Peer("", 0, local_port, listener, False, "tcp")
        self._near: asyncio.Transport
        self._far: asyncio.Transport | None = None
        self._waiting = bytearray()
        self._connecting: asyncio.Task[None] | None = None
        self._route: L4Route | None = None
        self._server_name = ""
        self._live: LiveUpstream | None = None
        self._index = -1
        self._tries = 0
        self._sent = self._received = 0  # bytes from and to the client
        self._near_finished = False
        self._finished = 0  # sides that will send nothing more
        self._paused: set[asyncio.Transport] = set()  # those that are not read, because the other side takes nothing
        self._ended = False

    # The client's transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Goes on at once where nothing of the client is needed to find the route."""
        self._near = cast("asyncio.Transport", transport)
        name = self._source or transport.get_extra_info("peername") or ("", 0)
        self.peer = Peer(name[0], name[1], self.peer.local_port, self.peer.listener, False, "tcp")
        self._worker.exchanges.add(self)
        if not self._host.l4_opened(self):
            self._end(TURNED_AWAY, "connections")
            return
        table = self.installed.snapshot.l4.get(self.peer.listener, NOTHING)
        if not table.needs_name:
            self._take(table.fallback)

    def data_received(self, data: bytes) -> None:
        """On to the endpoint, or kept until there is one."""
        self._sent += len(data)
        if self._far is not None:
            self._touch()
            if not self._far.is_closing():
                self._far.write(data)
            return
        self._waiting += data
        if len(self._waiting) >= WAITING_BYTES_MAX:
            self._read(self._near, False)
        if self._route is None:
            self._listen()

    def eof_received(self) -> bool:
        """The client sends nothing more; it may go on reading."""
        if self._route is None:
            return False
        self._near_finished = True
        self._finish(self._far)
        return True

    def pause_writing(self) -> None:
        """The client takes no more."""
        self._read(self._far, False)

    def resume_writing(self) -> None:
        """It does again."""
        self._read(self._far, True)

    def connection_lost(self, error: Exception | None) -> None:
        """The client is gone."""
        self._end(OK if self._far is not None else 499, "" if error is None else "client_gone")

    # Whom it wants, and who takes it

    def _listen(self) -> None:
        """Looks for the server name in what the client has said."""
        table = self.installed.snapshot.l4.get(self.peer.listener, NOTHING)
        try:
            self._server_name = server_name_of(bytes(self._waiting))
        except IncompleteError:
            return
        except NotTlsError as error:
            if table.fallback is None:
                self._end(UNREADABLE, f"not_tls: {error}")
                return
        self._take(table.find(self._server_name))

    def _take(self, route: L4Route | None) -> None:
        if route is None:
            self._end(NO_ROUTE, "no_route")
            return
        self._route = route
        self.deadline = FOREVER  # connecting has limits of its own
        self._live = self.installed.health.upstream(route.upstream)
        self._connecting = self._worker.loop.create_task(self._connect(self._live, route))

    async def _connect(self, live: LiveUpstream, route: L4Route) -> None:
        """Tries endpoints until one accepts, or all that the upstream's `retry.tries` allows have not."""
        tried: tuple[int, ...] = ()
        why = "no_endpoint"
        while len(tried) < live.upstream.retry.tries:
            if live.load.active >= live.upstream.breakers.requests_max:
                live.health.tripped(live, "requests")
                self._end(TURNED_AWAY, "upstream_full")
                return
            key = affinity.key_of("client_ip", self.peer.address, b"", []) if live.upstream.table is not None else None
            endpoint = choose(live.upstream, live.state, self._worker.draw, tried, Ask(key, self._worker.clock()))
            if endpoint is None:
                break
            tried = (*tried, endpoint.index)
            self._tries += 1
            self._index = endpoint.index
            live.tries.value += 1
            live.load.requests += 1
            live.health.chosen(live, endpoint.index)
            try:
                async with asyncio.timeout(live.upstream.connect_timeout_seconds):
                    far, _ = await self._worker.loop.create_connection(lambda: _Far(self), endpoint.host, endpoint.port)
            except (OSError, UnicodeError) as error:  # TimeoutError is one
                why = "connect_timeout" if isinstance(error, TimeoutError) else "refused"
                self._over(False)
                continue
            except asyncio.CancelledError:
                self._over(None)
                raise
            self._connecting = None
            self._join(far, endpoint, route)
            return
        self._connecting = None
        self._end(UNREACHABLE, why)

    def _join(self, far: asyncio.Transport, endpoint: Endpoint, route: L4Route) -> None:
        """An endpoint has accepted: what has waited goes first, behind the PROXY header."""
        if far.is_closing() and not self._received:
            self._over(False)
            self._end(UNREACHABLE, "lost")
            return
        live = self._live
        assert live is not None
        live.health.answered(live, endpoint.index, OK, self._worker.clock())
        self._far = far
        self._touch()
        if route.proxy_protocol:
            local = self._near.get_extra_info("sockname") or ("0.0.0.0", 0)
            source, reached = (self.peer.address, self.peer.port), (local[0], self.peer.local_port)
            far.write(proxy_protocol.write(route.proxy_protocol, source, reached))
        far.write(bytes(self._waiting))
        self._waiting.clear()
        if self._near_finished:
            far.write_eof()
        self._read(self._near, True)
        if far.is_closing():  # it has said all that it had to say and left, before we came to it
            self._end(OK, "")

    # The endpoint's transport, by `_Far`

    def on_far_data(self, data: bytes) -> None:
        """Back to the client."""
        self._received += len(data)
        self._touch()
        if not self._near.is_closing():
            self._near.write(data)

    def on_far_eof(self) -> None:
        """The endpoint sends nothing more."""
        self._finish(self._near)

    def on_far_takes(self, takes: bool) -> None:
        """Whether the endpoint takes more."""
        self._read(self._near, takes)

    def on_far_lost(self, error: Exception | None) -> None:
        """The endpoint is gone; before it was ours (`_join`) that is not the end."""
        if self._far is not None:
            self._end(OK, "" if error is None else "endpoint_gone")

    # How it ends

    def expire(self, now: float) -> None:
        """Nothing has come for too long."""
        if self._route is None:
            self._end(UNREADABLE, "silent")
        else:
            self._end(OK, "idle")

    def cut(self) -> None:
        """The worker leaves."""
        self._end(OK, "worker_left")

    def go_away(self, by: str) -> None:
        """See Sweepable: it ends when its peers end it, or is cut."""

    @property
    def route_name(self) -> str:
        """See Sweepable."""
        return self._route.name if self._route is not None else ""

    def _read(self, transport: asyncio.Transport | None, wanted: bool) -> None:
        """Reads of one side or not; saying it twice is harmless here."""
        if transport is None or transport.is_closing() or wanted is (transport not in self._paused):
            return
        if wanted:
            self._paused.discard(transport)
            transport.resume_reading()
        else:
            self._paused.add(transport)
            transport.pause_reading()

    def _touch(self) -> None:
        assert self._route is not None
        self.deadline = self._worker.coarse_now + self._route.idle_seconds

    def _finish(self, other: asyncio.Transport | None) -> None:
        """One side will send nothing more: the other is told; when both have said so, it is over."""
        self._finished += 1
        if self._finished == 2:
            self._end(OK, "")
        elif other is not None and not other.is_closing():
            other.write_eof()

    def _over(self, succeeded: bool | None) -> None:
        """The endpoint is done with."""
        if self._live is not None and self._index >= 0:
            self._live.health.over(self._live, self._index, succeeded, self._worker.coarse_now)
            self._index = -1

    def _end(self, status: int, why: str) -> None:
        """Once, whatever comes first."""
        if self._ended:
            return
        self._ended = True
        self.deadline = FOREVER
        endpoint = self._endpoint_address()
        if self._connecting is not None and self._connecting is not asyncio.current_task(self._worker.loop):
            self._connecting.cancel()
        if self._far is not None:
            _close(self._far, at_once=why in ("client_gone", "idle", "worker_left"))
            self._over(True)
        _close(self._near, at_once=status != OK or why in ("endpoint_gone", "idle", "worker_left"))
        self._worker.exchanges.discard(self)
        self._host.l4_closed(self)
        self._report(status, why, endpoint)

    def _endpoint_address(self) -> str:
        known = self._live is not None and self._index >= 0
        return self._live.upstream.endpoints[self._index].address if known and self._live is not None else ""

    def _report(self, status: int, why: str, endpoint: str) -> None:
        worker, route = self._worker, self._route
        seconds = worker.clock() - self.started
        name = route.name if route is not None else ""
        for direction, count in (("in", self._sent), ("out", self._received)):
            worker.metrics.counter(
                "meridian_l4_bytes_total", "Bytes of connections that passed through, once they are over.",
                route=name, direction=direction,
            ).value += count  # fmt: skip
        worker.metrics.counter(
            "meridian_l4_connections_total", "Connections that passed through and are over.", route=name,
            status=str(status),
        ).value += 1  # fmt: skip
        worker.report.on_outcome(Outcome(
            self.peer, self.peer.address, b"", self._server_name.encode(), b"", b"TCP", worker.next_request_id(), b"",
            status, why, name, route.upstream if route is not None else "", endpoint, self._tries, self.started,
            seconds, 0.0, self._sent, self._received, self.installed.snapshot.version, worker.verdict_version,
            worker.verdict_fallback,
        ))  # fmt: skip


class _Far(asyncio.Protocol):
    """The endpoint's side: tells all to the connection that it belongs to."""

    __slots__ = ("_near",)

    def __init__(self, near: L4Connection) -> None:
        self._near = near

    def data_received(self, data: bytes) -> None:
        self._near.on_far_data(data)

    def eof_received(self) -> bool:
        self._near.on_far_eof()
        return True

    def pause_writing(self) -> None:
        self._near.on_far_takes(False)

    def resume_writing(self) -> None:
        self._near.on_far_takes(True)

    def connection_lost(self, error: Exception | None) -> None:
        self._near.on_far_lost(error)


def _close(transport: asyncio.Transport, *, at_once: bool) -> None:
    """`at_once`: what is still to be written is dropped, and the other side sees that it is not whole."""
    if at_once:
        transport.abort()
    else:
        transport.close()
