"""True time, and the clocks that show something else."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Schedule:
    """What happens next, on true time."""

    now: float = 0.0
    _heap: list[tuple[float, int, Callable[[], object]]] = field(default_factory=list)
    _count: int = 0

    def at(self, time: float, act: Callable[[], object]) -> None:
        self._count += 1
        heapq.heappush(self._heap, (time, self._count, act))

    def after(self, seconds: float, act: Callable[[], object]) -> None:
        self.at(self.now + seconds, act)

    def run(self, until: float) -> None:
        while self._heap and self._heap[0][0] <= until:
            self.now, _, act = heapq.heappop(self._heap)
            act()
        self.now = until


@dataclass
class Clock:
    """A clock that runs at `rate` times true time. It never goes back, except when its machine starts anew."""

    rate: float
    shown: float
    since: float = 0.0

    def read(self, now: float) -> float:
        return self.shown + (now - self.since) * self.rate

    def change(self, rate: float, now: float) -> None:
        self.shown, self.since, self.rate = self.read(now), now, rate

    def true_after(self, seconds: float) -> float:
        """How long in true time until this clock has moved on by `seconds`."""
        return seconds / self.rate


class Process:
    """Something that can be paused, and killed. What comes while it is paused it finds when it goes on."""

    def __init__(self) -> None:
        self.life = 0  # odd: it runs
        self.paused = False
        self._parked: list[tuple[int, Callable[[], object]]] = []

    @property
    def alive(self) -> bool:
        return self.life % 2 == 1

    def start(self) -> None:
        assert not self.alive
        self.life += 1
        self.paused = False

    def kill(self) -> None:
        if self.alive:
            self.life += 1
        self._parked.clear()
        self.paused = False

    def pause(self) -> None:
        self.paused = self.alive

    def go_on(self) -> None:
        self.paused = False
        parked, self._parked = self._parked, []
        for life, act in parked:
            self.gate(life, act)

    def gate(self, life: int, act: Callable[[], object]) -> None:
        """Does `act` if the process still lives the life that it was meant for; now or when it goes on."""
        if life != self.life or not self.alive:
            return
        if self.paused:
            self._parked.append((life, act))
        else:
            act()
