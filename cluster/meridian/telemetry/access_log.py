"""The access log: one JSON line per request on stderr, written in blocks, never waited for.

The invariant: a slow or dead reader of the log costs lines, never requests. Lines gather in a buffer that its owner
flushes each 200 ms (and that flushes itself at 64 KiB); a flush writes only what the pipe takes at once. What does
not fit into `KEPT_BYTES_MAX` is dropped by whole lines and counted.

A record has no field for a header's value, a cookie, a query string or a body: what is not there cannot leak.
"""

import os
import select
from collections.abc import Callable

import msgspec

FLUSH_BYTES = 64 * 1024
FLUSH_SECONDS = 0.2
KEPT_BYTES_MAX = 1024 * 1024  # about 2,500 lines: one second of a busy worker while the launcher is restarting
PATH_CHARACTERS_MAX = 1024  # so that one line rarely exceeds what a pipe takes at once
_PIPE_BYTES = select.PIPE_BUF  # a pipe that polls writable takes so many bytes without blocking (pipe(7))


class AccessRecord(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag_field="log", tag="access"
):
    """One exchange, over. What kept its default is left out of the line."""

    time: str  # RFC 3339, UTC, when the request head was complete
    request_id: str
    client: str  # address
    protocol: str  # "1.1", "2", "3"
    method: str
    host: str
    path: str  # see `path_of`
    status: int  # 0 if the client went before an answer
    duration_seconds: float
    request_body_bytes: int = 0
    response_body_bytes: int = 0
    route: str = ""
    upstream: str = ""
    endpoint: str = ""
    tries: int = 0
    why: str = ""  # of an answer made here, or of a cut one
    trace_id: str = ""
    config_version: int = 0
    verdict_version: int = 0
    verdict_fallback: int = 0  # what this node merged itself upon that version


def path_of(target: bytes) -> str:
    """The path of a request target for the log: without the query, which may hold secrets, and cut to a length."""
    return target.partition(b"?")[0][:PATH_CHARACTERS_MAX].decode("latin-1")


def write_without_waiting(descriptor: int) -> Callable[[memoryview], int]:
    """A writer for `AccessLog` that writes to `descriptor` what it takes at once, and says how many bytes that were.

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


class AccessLog:
    """A worker's access log. `log` and `flush` are synchronous and quick."""

    def __init__(
        self, write: Callable[[memoryview], int], *, sample_ratio: float = 1.0, draw: Callable[[], float] = lambda: 0.0
    ) -> None:
        """`write` takes what it can and returns the number of bytes; `draw` gives chance in [0, 1).

        Of requests that went well the part `sample_ratio` is logged; 5xx, cut answers and retried ones always are.
        """
        self._write = write
        self._sample_ratio = sample_ratio
        self._draw = draw
        self._buffer = bytearray()
        self._encode_into = msgspec.json.Encoder().encode_into
        self.dropped_lines = 0

    def log(self, record: AccessRecord) -> None:
        """Takes one record."""
        ordinary = 0 < record.status < 500 and record.tries <= 1
        if ordinary and self._sample_ratio < 1.0 and self._draw() >= self._sample_ratio:
            return
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
