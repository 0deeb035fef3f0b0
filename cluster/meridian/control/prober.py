"""Probes many subjects, each at its own pace, and holds a sight of each. What a probe does is given: `probe`.

Invariant: each subject has at most one probe under way, and all together at most `PROBES_MAX`; beyond that probes are
late, not more. The judging is core/health's; this file keeps the schedule.
"""

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar

from meridian.control.waiting import signalled
from meridian.core import health
from meridian.core.health import Health, Policy, Sight
from meridian.core.snapshot import UpstreamTls

PROBES_MAX = 256  # open sockets of an agent for probing; with 0.5 s timeouts, 512 dead endpoints a second
IDLE_SECONDS = 3600.0

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom to ask, and how. `tls`: None is without. `kind` and what comes after it are as in upstream_words.Health."""

    host: str
    port: int
    path: str
    policy: Policy
    tls: UpstreamTls | None = None
    kind: Literal["http", "tcp", "grpc"] = "http"
    authority: str | None = None
    statuses: tuple[str, ...] = ("2xx", "3xx")
    service: str = ""


class Prober(Generic[Key]):
    """Sights of a set of subjects that may change at any time. `changed` is called whenever a sight turned."""

    def __init__(
        self,
        probe: Callable[[Subject], Awaitable[bool]],
        clock: Callable[[], float],
        draw: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        self._probe = probe
        self._clock = clock
        self._draw = draw
        self._changed = changed
        self._subjects: dict[Key, Subject] = {}
        self._health: dict[Key, Health] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._count = 0
        self._news = asyncio.Event()
        self._slots = asyncio.Semaphore(PROBES_MAX)

    def set_subjects(self, subjects: Mapping[Key, Subject]) -> None:
        """Replaces the set. Who stays keeps its sight, also under another policy; who comes is UNKNOWN and due now."""
        if subjects == self._subjects:
            return
        for key in self._subjects.keys() - subjects.keys():
            del self._health[key]
        for key, subject in subjects.items():
            held = self._health.get(key)
            if held is None:
                # Spread over one interval, so that a thousand endpoints are not asked at once.
                now = self._clock()
                due = now + subject.policy.interval_seconds * self._draw()
                self._health[key] = Health(subject.policy, probe_at=due, good_at=now)
                self._push(key)
            else:
                self._health[key] = replace(held, policy=subject.policy)
        self._subjects = dict(subjects)
        self._news.set()

    def sights(self) -> dict[Key, Sight]:
        """Returns what is held of every subject."""
        return {key: held.sight for key, held in self._health.items()}

    def dark(self, seconds: float) -> frozenset[Key]:
        """Returns the subjects that are DOWN and had no good probe for `seconds`."""
        before = self._clock() - seconds
        return frozenset(k for k, held in self._health.items() if held.sight is Sight.DOWN and held.good_at <= before)

    async def run(self) -> None:
        """Probes until cancelled."""
        async with asyncio.TaskGroup() as probes:
            while True:
                wait = self._heap[0][0] - self._clock() if self._heap else IDLE_SECONDS
                if wait > 0:
                    await signalled(self._news, wait)
                    continue
                _, _, key = heapq.heappop(self._heap)
                held = self._health.get(key)
                if held is None:
                    continue  # it has gone meanwhile
                stepped = health.step(held, health.Due(), self._clock())
                self._health[key] = stepped.state
                if stepped.commands:
                    await self._slots.acquire()
                    probes.create_task(self._look(key, self._subjects[key]))

    async def _look(self, key: Key, subject: Subject) -> None:
        try:
            succeeded = await self._probe(subject)
        finally:
            self._slots.release()
        held = self._health.get(key)
        if held is None or not held.probing:
            return  # it has gone meanwhile, and perhaps come again: the answer is about the former one
        stepped = health.step(held, health.Probed(succeeded, self._draw()), self._clock())
        self._health[key] = stepped.state
        self._push(key)
        self._news.set()
        if stepped.commands:
            self._changed()

    def _push(self, key: Key) -> None:
        """Enters the subject's next probe; the count keeps keys from being compared."""
        self._count += 1
        heapq.heappush(self._heap, (self._health[key].probe_at, self._count, key))
