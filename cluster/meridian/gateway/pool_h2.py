"""The connections to an endpoint that speaks HTTP/2: each serves many exchanges at once. See gateway/pool.

The oldest connection with room is taken first, so that those beyond the present load fall idle and end. Room is what
the endpoint allows (SETTINGS_MAX_CONCURRENT_STREAMS), and at most `streams_max`.
"""

import asyncio
from collections.abc import Callable
from ssl import SSLContext

from meridian.core.snapshot import Upstream
from meridian.core.tiers import Load
from meridian.gateway.pool import Pool, Waiter
from meridian.gateway.upstream_h2 import SharedConnection, SharedStream
from meridian.gateway.upstream_tls import UpstreamContexts


class Http2Pool(Pool[SharedConnection]):
    """See the module's head."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, host: str, port: int, settings: Upstream, load: Load, now: float,
        contexts: UpstreamContexts, clock: Callable[[], float],
    ) -> None:  # fmt: skip
        """`clock` gives monotonic seconds: see wire/http2_client."""
        super().__init__(loop, host, port, settings, load, now, contexts)
        self._clock = clock
        self._allowed = settings.streams_max  # of the connection that was looked at last
        self._with_room: dict[SharedConnection, None] = {}  # the oldest first

    @property
    def streams_expected(self) -> int:
        """See Pool."""
        return max(1, min(self.settings.streams_max, self._allowed))

    @property
    def idle(self) -> int:
        """See Pool."""
        return sum(not connection.streams for connection in self._open)

    def take(self, waiter: Waiter, *, idle_seconds_max: float) -> SharedStream | None:
        """See Pool."""
        for connection in tuple(self._with_room):
            if not connection.room(self.settings.streams_max):
                del self._with_room[connection]
            elif connection.streams or self.now - connection.idle_since <= idle_seconds_max:
                return connection.open_stream()
        self._wait(waiter)
        if self._with_room and not self._connecting:  # no room: an idle one that was not wanted makes it
            next(iter(self._with_room)).close()
        return None

    def changed(self, connection: SharedConnection) -> None:
        """See upstream_h2.Owner."""
        if connection not in self._open:
            return
        if not connection.streams:
            connection.idle_since = self.now
            if connection.outdated or (self.retired and not self._waiting):
                connection.close()
        self._serve(connection)

    def lost(self, connection: SharedConnection) -> None:
        """See upstream_h2.Owner."""
        self._with_room.pop(connection, None)
        super().lost(connection)

    def sweep(self, now: float) -> None:
        """See Pool."""
        self.now = now
        oldest = now - self.settings.idle_timeout_seconds
        for connection in tuple(self._open):
            if not connection.streams and connection.idle_since < oldest:
                connection.close()

    def _end_idle(self) -> None:
        for connection in tuple(self._open):
            if not connection.streams:
                connection.close()

    async def _dial(self, context: SSLContext | None, name: str | None) -> SharedConnection:
        """With the endpoint's SETTINGS: until they are here nobody knows whether it speaks HTTP/2, and how many streams
        it takes."""
        transport, connection = await self._loop.create_connection(
            lambda: SharedConnection(self, self._loop, self._clock, tls=context is not None),
            self._host,
            self._port,
            ssl=context,
            server_hostname=name,
        )
        try:
            await connection.greeted
            said = transport.get_extra_info("ssl_object")
            if said is not None and said.selected_alpn_protocol() != "h2":
                raise ConnectionError("the endpoint did not agree to HTTP/2 (ALPN)")
        except BaseException:
            transport.abort()
            raise
        connection.idle_since = self.now
        return connection

    def _serve(self, connection: SharedConnection) -> None:
        streams_max = self.settings.streams_max
        self._allowed = connection.streams_max or self._allowed
        while self._waiting and connection.room(streams_max):
            self._next().on_connected(connection.open_stream())
        if connection.room(streams_max):
            self._with_room[connection] = None
        else:
            self._with_room.pop(connection, None)
            self._fill()  # for those who still wait
