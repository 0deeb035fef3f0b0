"""An event loop on virtual time: nothing waits, the clock jumps to the next timer. And a freezer for single nodes.

Everything that a node's code schedules carries the node's token in a context variable; while the token is frozen its
callbacks are parked, in order, as the kernel parks a stopped process. A killed node is one that is never thawed: no
`finally` runs, nothing is released, as after SIGKILL. A node may have a clock of its own: what its code reads and waits
for is by that clock.
"""

import asyncio
import contextvars
import selectors
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

NODE: contextvars.ContextVar[object] = contextvars.ContextVar("NODE", default=None)


# A timer of a node with a clock of its own fires so much late by true time: by its own clock it must be due then,
# whatever the rounding, or code that waits for a deadline would wait for no time again and again.
LATE_SECONDS = 1e-9


@dataclass(frozen=True, slots=True)
class Clock:
    """One machine's clock: at true time t it shows `ahead_seconds` + `rate` * t."""

    rate: float = 1.0
    ahead_seconds: float = 0.0

    def shows(self, now: float) -> float:
        """Returns what it shows at true time `now`."""
        return self.ahead_seconds + self.rate * now

    def when(self, shown: float) -> float:
        """Returns the true time at which it shows `shown`."""
        return (shown - self.ahead_seconds) / self.rate


class _Jumping(selectors.DefaultSelector):
    """Never blocks: what the loop would wait for, it adds to the clock. Nothing outside is waited for."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("deadlock: nothing is scheduled, and nobody outside will wake this loop")
        if timeout > 0:
            self.loop.now += timeout
        return []


class _Entry:
    """One scheduled call. It knows its handle, so that what is cancelled while it is parked does not run later."""

    handle: asyncio.Handle

    def __init__(
        self, callback: Callable[..., Any], args: tuple[Any, ...], context: contextvars.Context | None
    ) -> None:
        self.callback = callback
        self.args = args
        # Not `context or`: one in which nothing is set is false, and a node's would take its place.
        self.context = contextvars.copy_context() if context is None else context


class VirtualLoop(asyncio.SelectorEventLoop):
    """Use as the loop of an asyncio.Runner. `now` is the true time; `clocks` are those of nodes, by their token."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.clocks: dict[object, Clock] = {}
        self._parked: dict[object, list[_Entry]] = {}
        selector = _Jumping()
        selector.loop = self
        super().__init__(selector)
        self._clock_resolution = LATE_SECONDS / 10

    def time(self) -> float:
        clock = self.clocks.get(NODE.get()) if self.clocks else None
        return self.now if clock is None else clock.shows(self.now)

    def freeze(self, token: object) -> None:
        """From now on nothing of `token` runs."""
        self._parked.setdefault(token, [])

    def thaw(self, token: object) -> None:
        """What was parked runs, in order, and then all goes on."""
        for entry in self._parked.pop(token, []):
            super().call_soon(self._gated, entry, context=entry.context)

    def call_soon(  # type: ignore[override]  # TypeVarTuple
        self, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.Handle:
        entry = _Entry(callback, args, context)
        entry.handle = super().call_soon(self._gated, entry, context=entry.context)
        return entry.handle

    def call_at(  # type: ignore[override]  # TypeVarTuple
        self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        entry = _Entry(callback, args, context)
        clock = self.clocks.get(NODE.get()) if self.clocks else None
        if clock is not None:
            when = max(self.now, clock.when(when)) + LATE_SECONDS
        entry.handle = handle = super().call_at(when, self._gated, entry, context=entry.context)
        return handle

    def _gated(self, entry: _Entry) -> None:
        parked = self._parked.get(NODE.get())
        if parked is not None:
            parked.append(entry)
        elif not entry.handle.cancelled():
            entry.callback(*entry.args)


def run_virtual(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs an async test on virtual time; a minute of it takes milliseconds."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(story())
