"""How parts of the control room wait: for a signal with a limit, and after failures, longer each time."""

import asyncio


async def signalled(event: asyncio.Event, seconds: float) -> bool:
    """Waits until `event` is set or `seconds` have passed; clears it, and returns whether it was set."""
    if not event.is_set():
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await event.wait()
        except TimeoutError:
            return False
    event.clear()
    return True


class Pause:
    """Doubles from `first_seconds` to `most_seconds`; `reset` after a success."""

    def __init__(self, first_seconds: float, most_seconds: float) -> None:
        self._first = first_seconds
        self._most = most_seconds
        self._next = first_seconds

    async def __call__(self) -> None:
        """Sleeps this time's seconds."""
        seconds, self._next = self._next, min(2 * self._next, self._most)
        await asyncio.sleep(seconds)

    def reset(self) -> None:
        """The next pause is the first again."""
        self._next = self._first
