"""HTTP/1.1: keep-alive connections, the one used last is used next. A server may close an idle one at any time."""

import asyncio
from typing import cast

import httptools

from chaosmeridian.connections.shot import Pool, Route, Shot, Target, tls_context

IDLE_SECONDS_MAX = 2.0  # older idle connections are closed by us: less of a race with the server's own idle timeout
CONNECTIONS_MAX = 512  # per target: beyond, the server has been silent for a second at 500 requests per second


class H1Pool(Pool):
    """See Pool. A request takes an idle connection or opens one; it never waits behind another."""

    def __init__(self, target: Target, route: Route) -> None:
        """`target.protocol` is h1 (clear text) or h1s (TLS)."""
        self.target, self.route = target, route
        self._idle: list[_Connection] = []
        self._all: set[_Connection] = set()
        self._opening = 0
        self._tls = tls_context(route, "http/1.1") if target.protocol == "h1s" else None

    def send(self, shot: Shot) -> None:
        """See Pool.send."""
        oldest = self.route.now() - IDLE_SECONDS_MAX
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_since >= oldest and not connection.transport.is_closing():
                connection.take(shot)
                return
            connection.transport.close()
        if len(self._all) + self._opening >= CONNECTIONS_MAX:
            shot.fail("connect", f"{CONNECTIONS_MAX} connections are busy already")
            return
        self._opening += 1
        self.route.tasks.create_task(self._open(shot))

    def abandon(self, shot: Shot) -> None:
        """See Pool.abandon."""
        for connection in self._all:
            if connection.shot is shot:
                connection.transport.abort()
                return

    def close(self) -> None:
        """See Pool.close."""
        for connection in list(self._all):
            connection.transport.abort()

    async def _open(self, shot: Shot) -> None:
        try:
            async with asyncio.timeout(self.route.connect_timeout_seconds):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: _Connection(self),
                    self.target.address,
                    self.target.port,
                    ssl=self._tls,
                    server_hostname=self.route.host if self._tls else None,
                )
        except OSError as error:  # a TimeoutError and an ssl.SSLError too
            shot.fail("connect", str(error) or type(error).__name__)
            return
        finally:
            self._opening -= 1
        if shot.done:
            connection.rest()
        else:
            connection.take(shot)

    def joined(self, connection: "_Connection") -> None:
        """A connection stands."""
        self._all.add(connection)
        self.route.opened()

    def rested(self, connection: "_Connection") -> None:
        """A connection is free for the next request."""
        self._idle.append(connection)

    def left(self, connection: "_Connection") -> None:
        """A connection ended."""
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)


class _Connection(asyncio.Protocol):
    """One connection: one request at a time."""

    transport: asyncio.Transport

    def __init__(self, pool: H1Pool) -> None:
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self.shot: Shot | None = None
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio."""
        self.transport = cast("asyncio.Transport", transport)
        self._pool.joined(self)

    def take(self, shot: Shot) -> None:
        """Sends the request."""
        self.shot = shot
        self.transport.write(
            f"GET {shot.path} HTTP/1.1\r\nhost: {self._pool.route.host}\r\nuser-agent: meridian-load\r\n\r\n".encode()
        )

    def rest(self) -> None:
        """Waits for the next request."""
        self.idle_since = self._pool.route.now()
        self._pool.rested(self)

    def data_received(self, data: bytes) -> None:
        """Of asyncio."""
        if self.shot is None:
            self.transport.close()  # an idle server says 408 or nothing; either way this connection is over
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if self.shot is not None:
                self.shot.fail("protocol", f"{type(error).__name__}: {error}")
                self.shot = None
            self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """Of asyncio. An answer without a length that the close ended counts as cut: none can tell if it was whole."""
        self._pool.left(self)
        if self.shot is not None:
            self.shot.lost(f"connection closed ({error or 'end of stream'})")
            self.shot = None

    def on_headers_complete(self) -> None:
        """Of httptools."""
        status = self._parser.get_status_code()
        if self.shot is not None and status >= 200:
            self.shot.head(status)

    def on_body(self, body: bytes) -> None:
        """Of httptools."""
        if self.shot is not None:
            self.shot.data(body)

    def on_message_complete(self) -> None:
        """Of httptools."""
        shot = self.shot
        if shot is None or self._parser.get_status_code() < 200:
            return
        self.shot = None
        if self._parser.should_keep_alive():
            self.rest()
        else:
            self.transport.close()
        shot.complete()
