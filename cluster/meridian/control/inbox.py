"""The latest report of every observer. Inputs are warm on every node, so that whoever leads next can judge at once."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from meridian.core.verdicts import Heard, Report, newer

OBSERVERS_MAX = 1024  # nodes of a cluster; beyond it the one silent for longest is forgotten


class Inbox:
    """Reports by observer, each with when it was made by this node's clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._heard: dict[str, Heard] = {}

    @property
    def heard(self) -> Mapping[str, Heard]:
        """The present content, as a view."""
        return MappingProxyType(self._heard)

    def ages(self) -> dict[str, float]:
        """Returns, by observer, for how many seconds it has been silent here."""
        now = self._clock()
        return {name: max(0.0, now - heard.made) for name, heard in self._heard.items()}

    def take(self, report: Report) -> bool:
        """Keeps the report if it is newer than what is held of its observer; returns whether it was."""
        now = self._clock()
        held = self._heard.get(report.observer)
        if not newer(report, held, now):
            return False
        if held is None and len(self._heard) >= OBSERVERS_MAX:
            del self._heard[min(self._heard, key=lambda name: self._heard[name].made)]
        self._heard[report.observer] = Heard(report, now - report.age_seconds)
        return True
