"""The ledger of one gateway worker on its disk: lines of core/metering/ledgers, appended by a thread of its own.

Invariant: `then` is called for lines when they are on the disk for good, in order, and never for lines that are not.
The loop waits for the disk only when the worker starts and when it ends. A line ends with a newline and begins with a
checksum, so that one that was being written when the power went is told from one that is damaged.
"""

import fcntl
import logging
import os
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec

from meridian.core.metering.ledgers import Closed, Exact, Held, Ledgers, Line, Opened, Period
from meridian.core.metering.quotas import Record
from meridian.core.metering.windows import Handover

BYTES_MAX = 64 * 1024 * 1024  # then it is written anew: a period of a quarter of a million keys has some 20 MB
QUEUED_MAX = 100_000  # lines before the disk takes no more: keys go as far as their slack, and then wait
BATCH_MAX = 4_096  # lines for each time that the disk is waited for

_KINDS: dict[str, Any] = {kind.__name__: kind for kind in (Opened, Held, Record, Exact, Period, Handover, Closed)}
_log = logging.getLogger("meridian.ledger")


class LedgerBusy(Exception):
    """Another process has this ledger open."""


class LedgerFile:
    """See the module's head. `ledgers` is what the file said when it was opened."""

    def __init__(self, path: Path, unix: float, boot: str) -> None:
        """Reads the file, writes it anew in short, and says in it that a worker has started.

        Raises OSError, and LedgerBusy if the process before this one still runs.
        """
        self._path = path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise LedgerBusy(f"{path} is open in another process; it is opened when that one has ended") from None
        found = self._read()
        was_new = found.is_new
        found.add(Opened(unix, boot))
        self._descriptor = self._write_anew(found)
        found.is_new = was_new
        self.ledgers = found
        self._bytes = path.stat().st_size
        self._queue: queue.Queue[tuple[Sequence[Line], Callable[[], object]] | None] = queue.Queue()
        self._failed = False
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    def write(self, lines: Sequence[Line], then: Callable[[], object]) -> None:
        """Appends lines; `then` is called in the thread when they are on the disk. Too many at once are dropped: who
        waits for them waits for ever, and spends no more."""
        if lines and self._queue.qsize() * BATCH_MAX < QUEUED_MAX:
            for start in range(0, len(lines), BATCH_MAX):
                batch = lines[start : start + BATCH_MAX]
                self._queue.put((batch, then if start + BATCH_MAX >= len(lines) else _nothing))

    def close(self, lines: Sequence[Line]) -> None:
        """Writes the last lines, and waits for them."""
        self.write(lines, _nothing)
        self._queue.put(None)
        self._thread.join()
        os.close(self._descriptor)
        os.close(self._lock)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            if self._failed:  # a gap: nothing behind it may count as written
                continue
            lines, then = item
            try:
                self._append(lines)
            except OSError as error:
                self._failed = True
                _log.error("quotas are not written any more, so that keys will be refused: %s", error)
            else:
                then()

    def _append(self, lines: Sequence[Line]) -> None:
        data = b"".join(map(encode, lines))
        if self._bytes + len(data) > BYTES_MAX:
            found = self._read()
            os.close(self._descriptor)
            self._descriptor = self._write_anew(found)
            self._bytes = self._path.stat().st_size
        _write_all(self._descriptor, data)
        os.fdatasync(self._descriptor)
        self._bytes += len(data)

    def _read(self) -> Ledgers:
        """What the file comes to. One that is damaged is kept beside, and counts as if all had been spent."""
        found = Ledgers()
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return found
        try:
            for line in decode(data):
                found.add(line)
        except ValueError as error:
            damaged = self._path.with_suffix(".damaged")
            self._path.replace(damaged)
            _log.error("%s: %s; it is kept as %s, and quotas begin with their next period", self._path, error, damaged)
            return Ledgers(is_new=False)
        found.is_new = False
        return found

    def _write_anew(self, found: Ledgers) -> int:
        new = self._path.with_suffix(".new")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        _write_all(descriptor, b"".join(map(encode, found.lines())))
        os.fsync(descriptor)
        new.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)  # else the rename may be lost with the power
        finally:
            os.close(folder)
        return descriptor


def encode(line: Line) -> bytes:
    """One line with its checksum and newline."""
    body = msgspec.json.encode([type(line).__name__, line])
    return b"%08x %b\n" % (crc32(body), body)


def decode(data: bytes) -> Iterable[Line]:
    """Yields the lines of a file. One that was cut at the end is none; raises ValueError for any that is damaged."""
    *lines, _ = data.split(b"\n")
    for number, line in enumerate(lines, 1):
        checksum, _, body = line.partition(b" ")
        if checksum != b"%08x" % crc32(body):
            raise ValueError(f"line {number} is damaged")
        try:
            kind, value = msgspec.json.decode(body, type=tuple[str, msgspec.Raw])
            yield msgspec.json.decode(value, type=_KINDS[kind])
        except (msgspec.MsgspecError, KeyError):
            raise ValueError(f"line {number} is of another version") from None


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _nothing() -> None:
    """Nobody waits for it."""
