"""Spans on their way out of the agent: a bounded queue, batches, retries. Nobody ever waits for it.

The invariant: `put` takes the same short time whatever the receiver does. When spans come faster than they leave,
the oldest are dropped and counted: of an incident the newest spans say more. A batch that fails is tried again with
a growing pause, and let go after `TRIES` (a receiver that refuses one batch must not stop all later ones).
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meridian.telemetry.spans import SpanRecord

if TYPE_CHECKING:  # importing it costs 30 MB: only when there is somewhere to send
    from meridian.telemetry.otlp import Sender

QUEUE_SPANS_MAX = 8192  # about 8 MB; at 1,000 spans a second eight seconds of a receiver's absence
BATCH_SPANS_MAX = 512  # about 200 KiB on the wire, far below gRPC's default limit of 4 MiB
LINGER_SECONDS = 0.2  # how long a span waits for company
SEND_TIMEOUT_SECONDS = 5.0
TRIES = 5
BACKOFF_SECONDS = 0.5
BACKOFF_SECONDS_MAX = 30.0


@dataclass(frozen=True, slots=True)
class ExportCounts:
    """Since the start: spans that arrived, spans dropped (queue full, or given up), sends that failed."""

    exported: int
    dropped: int
    failures: int


class SpanExport:
    """The agent's way to one OTLP receiver. All methods belong to the agent's loop; `run` is a task of its group."""

    def __init__(
        self,
        *,
        node: str,
        region: str,
        version: str,
        draw: Callable[[], float],
        endpoint: str | None = None,
        queue_spans_max: int = QUEUE_SPANS_MAX,
    ) -> None:
        """`endpoint` is http(s)://host:port or None (spans are let go); `draw` gives chance in [0, 1) for jitter."""
        self._node, self._region, self._version, self._draw = node, region, version, draw
        self._endpoint = endpoint
        self._queue: deque[SpanRecord] = deque()
        self._queue_spans_max = queue_spans_max
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="otlp")
        self._sender: Sender | None = None
        self._sender_endpoint: str | None = None
        self._exported = self._dropped = self._failures = 0

    @property
    def counts(self) -> ExportCounts:
        """What happened so far."""
        return ExportCounts(self._exported, self._dropped, self._failures)

    def put(self, spans: Iterable[SpanRecord]) -> None:
        """Takes spans; never waits, never raises. Without an endpoint they are let go, uncounted: nobody asked."""
        if self._endpoint is None:
            return
        self._queue.extend(spans)
        self._drop_oldest()
        if self._queue:
            self._wake.set()

    def aim(self, endpoint: str | None) -> None:
        """Sends to another receiver from the next batch on, without waiting for the pause of a failing one."""
        if endpoint != self._endpoint:
            self._endpoint = endpoint
            if endpoint is None:
                self._queue.clear()
            self._wake.set()

    async def run(self) -> None:
        """Sends until cancelled; then gives what is queued one last try, bounded by `SEND_TIMEOUT_SECONDS`."""
        try:
            await self._send_for_ever()
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                    await self._flush()
            if self._sender is not None:
                self._sender.close()  # from here, so that a send that hangs in the thread ends
            self._thread.shutdown(wait=False)

    async def _send_for_ever(self) -> None:
        pause_seconds, tries = BACKOFF_SECONDS, 0
        while True:
            await self._wake.wait()
            await asyncio.sleep(LINGER_SECONDS)
            self._wake.clear()
            while self._queue and self._endpoint is not None:
                batch = self._take()
                if await self._send(batch):
                    pause_seconds, tries = BACKOFF_SECONDS, 0
                    continue
                tries += 1
                if tries < TRIES:
                    self._put_back(batch)
                else:
                    self._dropped += len(batch)
                    tries = 0
                await self._pause(pause_seconds * (0.5 + self._draw()))
                pause_seconds = min(pause_seconds * 2, BACKOFF_SECONDS_MAX)

    async def _pause(self, seconds: float) -> None:
        """Waits, but not longer than until `aim` names another receiver."""
        endpoint = self._endpoint
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while self._endpoint == endpoint and (left := deadline - loop.time()) > 0:
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), left)

    async def _flush(self) -> None:
        while self._queue and self._endpoint is not None:
            batch = self._take()
            if not await self._send(batch):
                self._dropped += len(batch)
                return

    def _take(self) -> list[SpanRecord]:
        return [self._queue.popleft() for _ in range(min(BATCH_SPANS_MAX, len(self._queue)))]

    def _put_back(self, batch: list[SpanRecord]) -> None:
        self._queue.extendleft(reversed(batch))
        self._drop_oldest()

    def _drop_oldest(self) -> None:
        while len(self._queue) > self._queue_spans_max:
            self._queue.popleft()
            self._dropped += 1

    async def _send(self, batch: list[SpanRecord]) -> bool:
        endpoint = self._endpoint
        assert endpoint is not None
        loop = asyncio.get_running_loop()
        try:
            arrived = await loop.run_in_executor(self._thread, self._send_blocking, endpoint, batch)
        except Exception:  # whatever a library raises about a receiver or an endpoint is a failed send, and counted
            arrived = False
        if arrived:
            self._exported += len(batch)
        else:
            self._failures += 1
        return arrived

    def _send_blocking(self, endpoint: str, batch: list[SpanRecord]) -> bool:
        """In the thread, which alone touches the sender until `run` ends."""
        from meridian.telemetry.otlp import Sender

        if self._sender is None or self._sender_endpoint != endpoint:
            if self._sender is not None:
                self._sender.close()
            self._sender = Sender(
                endpoint,
                node=self._node,
                region=self._region,
                version=self._version,
                timeout_seconds=SEND_TIMEOUT_SECONDS,
            )
            self._sender_endpoint = endpoint
        return self._sender.send(batch)
