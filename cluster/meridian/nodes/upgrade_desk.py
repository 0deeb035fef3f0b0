"""Upgrades of this node, as its admin API sees them: the launcher makes them, and says how they stand.

The launcher tells every new agent of the last one, for an upgrade may replace the agent too.
"""

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

from meridian.admin.panel import CannotUpgrade, UpgradeReport
from meridian.nodes.upgrading import Report

ANSWER_SECONDS = 5.0  # for the launcher to say that it has begun


class UpgradeDesk:
    """See admin.panel.UpgradeDesk."""

    def __init__(self, ask: Callable[[float], None]) -> None:
        """`ask` tells the launcher how many seconds connections may take to end."""
        self._ask = ask
        self._report = Report()
        self._answer: asyncio.Future[str] | None = None

    def hear(self, message: dict[str, Any]) -> None:
        """What the launcher says."""
        known = {field.name for field in dataclasses.fields(Report)}
        before, self._report = self._report, Report(**{name: message[name] for name in known & message.keys()})
        began = self._report.number > before.number
        if self._answer is not None and not self._answer.done() and (began or "refused" in message):
            self._answer.set_result(str(message.get("refused", "")))

    async def begin(self, seconds: float) -> UpgradeReport:
        """Raises CannotUpgrade."""
        if self._answer is not None:
            raise CannotUpgrade("an upgrade is being asked for already")
        self._answer = asyncio.get_running_loop().create_future()
        try:
            self._ask(seconds)
            async with asyncio.timeout(ANSWER_SECONDS):
                refused = await self._answer
        except TimeoutError:
            raise CannotUpgrade("the launcher does not answer") from None
        finally:
            self._answer = None
        if refused:
            raise CannotUpgrade(refused)
        return self.report()

    def report(self) -> UpgradeReport:
        """How the last one stands."""
        return UpgradeReport(**dataclasses.asdict(self._report))


class NoUpgrades:
    """Of a node in one process: it has nobody who could take over."""

    async def begin(self, seconds: float) -> UpgradeReport:
        """Raises CannotUpgrade."""
        raise CannotUpgrade(
            "`meridian serve` is one process; stop it and start the new version, or run `meridian node`"
        )

    def report(self) -> UpgradeReport:
        """There never was one."""
        return UpgradeReport()
