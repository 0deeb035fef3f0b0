"""Logs that are written by the line of JSON, in blocks, and never waited for: the access log, the log of DNS queries.

The invariant: a slow or dead reader of the log costs lines, never requests. Lines gather in a buffer that its owner
flushes each 200 ms (and that flushes itself at 64 KiB); a flush writes only what the pipe takes at once. What does
not fit into `KEPT_BYTES_MAX` is dropped by whole lines and counted.
"""

import os
import select
from collections.abc import Callable

import msgspec

FLUSH_BYTES = 64 * 1024
FLUSH_SECONDS = 0.2
KEPT_BYTES_MAX = 1024 * 1024  # about 2,500 lines: one second of a busy worker while the launcher is restarting
_PIPE_BYTES = select.PIPE_BUF  # a pipe that polls writable takes so many bytes without blocking (pipe(7))


def write_without_waiting(descriptor: int) -> Callable[[memoryview], int]:
    """A writer for `LineLog` that writes to `descriptor` what it takes at once, and says how many bytes that were.

    Polling leaves the descriptor's mode alone: stderr may be a terminal that is shared with a shell, which
    O_NONBLOCK would break.
    """
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)

    def write(data: memoryview) -> int:
        written = 0
        while written < len(data):
            ready = poll.poll(0)
            if not ready or ready[0][1] & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
                break
            try:
                written += os.write(descriptor, data[written : written + _PIPE_BYTES])
            except OSError:  # the reader is gone: the launcher died, and so will this worker
                break
        return written

    return write


class LineLog:
    """A worker's log of one kind of record. `put` and `flush` are synchronous and quick."""

    def __init__(self, write: Callable[[memoryview], int]) -> None:
        """`write` takes what it can and returns the number of bytes."""
        self._write = write
        self._buffer = bytearray()
        self._encode_into = msgspec.json.Encoder().encode_into
        self.dropped_lines = 0

    def put(self, record: msgspec.Struct) -> None:
        """Takes one record."""
        buffer = self._buffer
        before = len(buffer)
        if before >= KEPT_BYTES_MAX:
            self.dropped_lines += 1
            return
        self._encode_into(record, buffer, -1)
        buffer += b"\n"
        if before // FLUSH_BYTES != len(buffer) // FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Writes what can be written now; the rest waits for the next call."""
        if not self._buffer:
            return
        with memoryview(self._buffer) as data:
            written = self._write(data)
        del self._buffer[:written]
