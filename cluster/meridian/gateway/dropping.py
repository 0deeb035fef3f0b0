"""The rest of a response that nobody wants: read to its end, so that its connection can be used again.

Invariant: at most DROPPED_BYTES_MAX are read, for at most DROPPED_SECONDS; what is longer ends its connection, which is
cheaper then.
"""

import asyncio

from meridian.gateway.upstream import UpstreamStream
from meridian.wire.events import Data, End, Event, Reset

DROPPED_BYTES_MAX = 64 * 1024
DROPPED_SECONDS = 1.0


def drop(connection: UpstreamStream, came: list[Event]) -> None:
    """`came` is what has come of the response, its head included."""
    dropping = _Dropping(connection)
    dropping.on_events(came)
    if not dropping.over:
        connection.hand_to(dropping)
        dropping.timer = asyncio.get_running_loop().call_later(DROPPED_SECONDS, connection.abort)


class _Dropping:
    """See the module's head; an upstream.User."""

    __slots__ = ("_connection", "_left", "over", "timer")

    def __init__(self, connection: UpstreamStream) -> None:
        self._connection = connection
        self._left = DROPPED_BYTES_MAX
        self.over = False
        self.timer: asyncio.TimerHandle | None = None

    def on_events(self, events: list[Event]) -> None:
        """See upstream.User."""
        for event in events:
            if isinstance(event, Data):
                self._left -= len(event.data)
        if isinstance(events[-1], End):
            self._connection.release()
        elif isinstance(events[-1], Reset) or self._left < 0:
            self._connection.abort()
        else:
            return
        self.over = True
        if self.timer is not None:
            self.timer.cancel()

    def on_upstream_writable(self) -> None:
        """See upstream.User: what is not sent of the request by now is not."""
