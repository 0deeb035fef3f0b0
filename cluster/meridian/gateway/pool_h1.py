"""The connections to an endpoint that speaks HTTP/1.1: each serves one exchange at a time. See gateway/pool.

Last in, first out: the connection used last is the least likely to have been closed by the endpoint, and those beyond
the present load grow old and end.
"""

import asyncio
from ssl import SSLContext
from typing import cast

from meridian.core.snapshot import Upstream
from meridian.core.tiers import Load
from meridian.gateway.pool import Pool, Waiter
from meridian.gateway.upstream import UpstreamConnection
from meridian.gateway.upstream_tls import UpstreamContexts


class Http1Pool(Pool[UpstreamConnection]):
    """See the module's head."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, host: str, port: int, settings: Upstream, load: Load, now: float,
        contexts: UpstreamContexts,
    ) -> None:  # fmt: skip
        super().__init__(loop, host, port, settings, load, now, contexts)
        self._idle: list[UpstreamConnection] = []  # the one used last at the end

    @property
    def idle(self) -> int:
        """See Pool."""
        return len(self._idle)

    def take(self, waiter: Waiter, *, idle_seconds_max: float) -> UpstreamConnection | None:
        """See Pool."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if not connection.usable():
                continue  # `lost` follows
            if self.now - connection.idle_since > idle_seconds_max:
                idle.append(connection)
                break
            return connection
        self._wait(waiter)
        if self._idle and not self._connecting:  # no room: an idle one that was not wanted makes it
            self._idle.pop(0).abort()
        return None

    def give_back(self, connection: UpstreamConnection) -> None:
        """See upstream.Owner."""
        if self._waiting:
            self._next().on_connected(connection)
        elif self.retired or connection.outdated:
            connection.abort()
        else:
            connection.idle_since = self.now
            self._idle.append(connection)

    def lost(self, connection: UpstreamConnection) -> None:
        """See upstream.Owner."""
        if connection in self._idle:
            self._idle.remove(connection)
        super().lost(connection)

    def sweep(self, now: float) -> None:
        """See Pool."""
        self.now = now
        oldest = now - self.settings.idle_timeout_seconds
        while self._idle and self._idle[0].idle_since < oldest:
            self._idle.pop(0).abort()

    def _end_idle(self) -> None:
        while self._idle:
            self._idle.pop().abort()

    async def _dial(self, context: SSLContext | None, name: str | None) -> UpstreamConnection:
        connection = UpstreamConnection(self)
        protocol = cast("asyncio.Protocol", connection)
        if self._host.startswith("unix:"):
            await self._loop.create_unix_connection(lambda: protocol, self._host.removeprefix("unix:"))
        else:
            await self._loop.create_connection(
                lambda: protocol, self._host, self._port, ssl=context, server_hostname=name
            )
        return connection

    def _serve(self, connection: UpstreamConnection) -> None:
        self.give_back(connection)
