"""What holds for all connections of a worker, over TCP and QUIC: how many a client may have, and what is counted of
those who want too much. The guards themselves stand where the work is: in the codecs (wire/bounds), connections, and
exchanges; docs/hardening.md has them all in one table.
"""

from collections.abc import Callable

from meridian.core.guards import Guards
from meridian.core.limit_keys import network_of
from meridian.gateway.forwarding import ListenerFacts, is_in
from meridian.telemetry.metrics import Metrics
from meridian.wire.bounds import Bounds


def bounds_of(guards: Guards) -> Bounds:
    """Those guards that are a codec's."""
    return Bounds(
        guards.header_fields_max, guards.header_bytes_max, guards.uri_bytes_max, guards.streams_max, guards.resets_max,
        guards.idle_frames_max, guards.header_seconds, guards.idle_seconds, guards.bytes_per_second_min,
        guards.slow_seconds,
    )  # fmt: skip


class Guarding:
    """Of one worker."""

    def __init__(self, facts_of: Callable[[str], ListenerFacts], metrics: Metrics) -> None:
        """`facts_of` gives those of a listener by its name, as the snapshot in force has them."""
        self._facts_of = facts_of
        self._metrics = metrics
        self._connections: dict[str, int] = {}  # by client

    def guards_of(self, listener: str) -> Guards:
        """Those that a new connection takes, and keeps."""
        return self._facts_of(listener).guards

    def is_proxy(self, listener: str) -> bool:
        """Whether its clients ask for what others serve (gateway/forward_proxy)."""
        return self._facts_of(listener).forward is not None

    def enter(self, listener: str, address: str) -> bool:
        """Counts a connection in; False if its client has too many. Who speaks for many clients is not counted."""
        facts = self._facts_of(listener)
        if facts.trusted and is_in(address, facts.trusted):
            return True
        client = network_of(address)
        count = self._connections.get(client, 0)
        if count >= facts.guards.connections_per_client_max:
            return False
        self._connections[client] = count + 1
        return True

    def leave(self, address: str) -> None:
        """Counts it out again. One of a proxy that was not counted is not found, unless the document has changed its
        trust meanwhile: then a client may have one more, or one less, until all of them have left."""
        client = network_of(address)
        count = self._connections.get(client, 0)
        if count > 1:
            self._connections[client] = count - 1
        else:
            self._connections.pop(client, None)

    def refused(self, status: int, why: str) -> None:
        """A request or connection was refused; `why`: see events.Refused."""
        self._metrics.counter(
            "meridian_refused_total", "Requests and connections refused for what their clients did.",
            status=str(status), why=why,
        ).value += 1  # fmt: skip
