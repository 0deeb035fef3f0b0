"""Makes this node's reports: at once when something changed, else every period. A report is the full state, never a
difference, so a lost one needs no repair.
"""

import asyncio
from collections.abc import Callable, Mapping

from meridian.control.waiting import signalled
from meridian.core.health import Sight
from meridian.core.verdicts import REPORT_PERIOD_SECONDS, Report


class Reporter:
    """`draft` gives the report as of now, but for the sequence; `send` passes it on and never blocks."""

    def __init__(self, draft: Callable[[int], Report], send: Callable[[Report], None]) -> None:
        self._draft = draft
        self._send = send
        self._sequence = 0
        self._news = asyncio.Event()

    def hurry(self) -> None:
        """Something changed: report as soon as the loop is free. Many changes in a row make one report."""
        self._news.set()

    async def run(self) -> None:
        """Reports until cancelled."""
        while True:
            self._sequence += 1
            self._send(self._draft(self._sequence))
            await signalled(self._news, REPORT_PERIOD_SECONDS)


def known(sights: Mapping[str, Sight]) -> dict[str, Sight]:
    """Returns the sights that say something: what is left out of a report is unknown."""
    return {name: sight for name, sight in sights.items() if sight is not Sight.UNKNOWN}
