"""When a node that starts may be sent clients: when it admits what its part of the limits allows.

Seats that come to a node bring no tokens with them (no free burst), and its buckets begin empty. Clients sent to it at
once would be told that they ask too often, for no fault of theirs; so the node says that it does not serve yet. What
has no limit is served without, so this is waited for only so long; and not at all while nobody else serves.
"""

import asyncio
from collections.abc import Callable

import structlog

from meridian.control.waiting import signalled

SEATS_SECONDS = 10.0  # a lease, an answer of the store, some retries, and others that give seats up
FILL_SECONDS_MAX = 1.0  # then a key has what a second allows: steady demand fits the rate, and starts are not slow

_log = structlog.get_logger("meridian.node")


class Joining:
    """`joined` turns true once; `turned()` is called then.

    `others_serve()` says whether clients have another node to go to, `fill_seconds()` how long the slowest bucket takes
    to fill; more than FILL_SECONDS_MAX is not waited for.
    """

    def __init__(
        self, *, others_serve: Callable[[], bool], fill_seconds: Callable[[], float], turned: Callable[[], None]
    ) -> None:
        self.joined = False
        self._others_serve, self._fill_seconds, self._turned = others_serve, fill_seconds, turned
        self._seated = asyncio.Event()

    def seated(self) -> None:
        """The workers keep to seats that this node has."""
        self._seated.set()

    async def run(self) -> None:
        """Returns when the node has joined."""
        if not await signalled(self._seated, SEATS_SECONDS):
            _log.warning("no seats of limits yet: routes with limits admit nothing here", seconds=SEATS_SECONDS)
        elif self._others_serve():
            await asyncio.sleep(min(self._fill_seconds(), FILL_SECONDS_MAX))
        self.joined = True
        self._turned()
