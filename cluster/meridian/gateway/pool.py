"""The connections to one endpoint, kept alive between exchanges and shared by all of them, whatever their protocol:
what is the same for endpoints that speak HTTP/1.1 (gateway/pool_h1) and HTTP/2 (gateway/pool_h2).

Invariant: connections in use, idle and in the making are together at most `connections_max`, and at most `WAITING_MAX`
exchanges wait for one.
"""

import asyncio
from collections import deque
from ssl import SSLContext
from typing import Generic, Protocol, TypeVar

from meridian.core.snapshot import Upstream
from meridian.core.tiers import Load
from meridian.gateway.upstream import UpstreamStream, User
from meridian.gateway.upstream_tls import RESUMING, Sessions, UpstreamContexts

WAITING_MAX = 1024
"""Exchanges waiting for one endpoint. At 1,000 requests a second that is one second of queue: longer would time out."""


class PoolFullError(Exception):
    """Too many exchanges wait already, or connections are open: `why` says which, `pending` or `connections`."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Waiter(User, Protocol):
    """An exchange that needs a connection."""

    def on_connected(self, connection: UpstreamStream) -> None:
        """Here is one."""

    def on_connect_failed(self, error: Exception) -> None:
        """The endpoint refused, could not be reached, or did not answer in time."""


class Connection(Protocol):
    """What every pool may do to its connections. `outdated`: made as the document no longer wants it, so it takes no
    further exchange."""

    outdated: bool

    def usable(self) -> bool:
        """Whether it looks alive."""

    def abort(self) -> None:
        """Ends it at once."""


C = TypeVar("C", bound=Connection)


class Pool(Generic[C]):
    """See the module's head."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, host: str, port: int, settings: Upstream, load: Load, now: float,
        contexts: UpstreamContexts,
    ) -> None:  # fmt: skip
        """Opens nothing yet. `load` is of all endpoints of the upstream; what this one takes is counted there.
        `contexts` has what the upstream's `tls` needs."""
        self._loop = loop
        self._host = host
        self._port = port
        self.settings = settings
        self._load = load
        self._contexts = contexts
        self._sessions = Sessions()
        self.now = now  # of the last sweep
        self._waiting: deque[Waiter] = deque()
        self._open: set[C] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self.retired = False

    def settle(self, settings: Upstream) -> None:
        """Takes a new snapshot's words. What was connected under other words of TLS is used for no further exchange."""
        before, self.settings = self.settings, settings
        if settings.tls != before.tls:
            self._sessions = Sessions()
            for connection in self._open:
                connection.outdated = True
            self._end_idle()

    def retire(self) -> None:
        """The endpoint has left the document: no connection is kept once its exchanges are over."""
        self.retired = True
        self._end_idle()

    # What each protocol does in its own way

    def take(self, waiter: Waiter, *, idle_seconds_max: float) -> UpstreamStream | None:
        """Returns a connection, unless it has been idle for longer than that; else None, and the waiter hears of one
        later. Raises PoolFullError."""
        raise NotImplementedError

    def sweep(self, now: float) -> None:
        """Ends connections that were idle for too long."""
        raise NotImplementedError

    def _end_idle(self) -> None:
        """Ends all that nobody uses."""
        raise NotImplementedError

    async def _dial(self, context: SSLContext | None, name: str | None) -> C:
        """A new connection, ready for requests; by TLS to a server of that name if there is a context."""
        raise NotImplementedError

    def _serve(self, connection: C) -> None:
        """Those who wait may have it."""
        raise NotImplementedError

    # What all do alike

    @property
    def streams_expected(self) -> int:
        """How many exchanges a connection that is being made will serve at once."""
        return 1

    @property
    def connections(self) -> int:
        """Open ones, in use or idle."""
        return len(self._open)

    @property
    def idle(self) -> int:
        """Those of them that nobody uses."""
        raise NotImplementedError

    @property
    def empty(self) -> bool:
        """Whether there is no connection, and nobody who waits for one."""
        return not (self._open or self._connecting or self._waiting)

    def forget(self, waiter: Waiter) -> None:
        """The waiter no longer wants a connection. One that is on its way for it goes to the next, or is kept."""
        if waiter in self._waiting:
            self._waiting.remove(waiter)
            self._load.pending -= 1

    def lost(self, connection: C) -> None:
        """See Owner."""
        if connection in self._open:
            self._open.discard(connection)
            self._load.connections -= 1
        self._fill()

    async def close(self) -> None:
        """Ends everything at once."""
        self.retired = True
        self._load.pending -= len(self._waiting)
        self._waiting.clear()
        for task in self._connecting:
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        for connection in tuple(self._open):
            connection.abort()

    def _wait(self, waiter: Waiter) -> None:
        """Takes a place in the queue."""
        breakers, load = self.settings.breakers, self._load
        if len(self._waiting) >= WAITING_MAX or load.pending >= breakers.pending_max:
            raise PoolFullError("pending")
        if load.connections >= breakers.connections_max and not self._open and not self._connecting:
            raise PoolFullError("connections")  # nobody would ever give one back here
        self._waiting.append(waiter)
        load.pending += 1
        self._fill()

    def _next(self) -> Waiter:
        """Who has waited longest."""
        self._load.pending -= 1
        return self._waiting.popleft()

    def _fill(self) -> None:
        """As many attempts as exchanges wait for, within the limit."""
        while (
            len(self._connecting) * self.streams_expected < len(self._waiting)
            and len(self._connecting) + len(self._open) < self.settings.connections_max
            and self._load.connections < self.settings.breakers.connections_max
        ):
            self._load.connections += 1
            task = self._loop.create_task(self._connect())
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)
            # A task runs only after this, so that the count above is right.

    async def _connect(self) -> None:
        """One attempt, for whichever exchange has waited longest when it ends."""
        task = asyncio.current_task()
        assert task is not None
        failure: Exception | None = None
        tls = self.settings.tls
        context = name = None
        if tls is not None:
            context, name = self._contexts.of(tls, self.settings.protocol), tls.server_name or self._host
            RESUMING.set(self._sessions)
        try:
            async with asyncio.timeout(self.settings.connect_timeout_seconds):
                connection = await self._dial(context, name)
            connection.outdated = tls != self.settings.tls
        except (OSError, UnicodeError) as error:  # TimeoutError and SSLError are; a host name that is none
            failure = error
        self._connecting.discard(task)
        if failure is None and not connection.usable():  # closed again before we came to it: `lost` was called already
            failure = ConnectionResetError("the upstream closed the connection at once")
        if failure is None:
            self._open.add(connection)
            self._serve(connection)
            return
        self._load.connections -= 1
        for _ in range(min(self.streams_expected, len(self._waiting))):
            self._next().on_connect_failed(failure)
        self._fill()
