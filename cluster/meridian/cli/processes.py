"""Processes that outlive the command that started them, and are found and ended again without ever hitting another.

Invariant: no signal goes to a process that we did not start. What keeps it: a mark holds pid, start time and boot, a
signal goes through a descriptor of the process (pidfd) that was opened before the start time was compared, and each
process leads a session of its own, so that its descendants are known by it even when it is dead.
"""

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic

from meridian.cli.local_state import write_whole

POLL_SECONDS = 0.05
LOG_BYTES_MAX = 32 * 1024 * 1024  # a log beyond this is put aside at the next start; one old one is kept


@dataclass(frozen=True, slots=True)
class Mark:
    """Which process this was. `started_ticks` is field 22 of /proc/PID/stat: clock ticks after boot."""

    pid: int
    started_ticks: int
    boot: str


@dataclass(frozen=True, slots=True)
class _Stat:
    pid: int
    state: str
    parent: int
    session: int
    started_ticks: int


def pause(seconds: float) -> None:
    """Waits between two looks at something that has no event; Ctrl-C ends it."""
    threading.Event().wait(seconds)


def poll(condition: Callable[[], bool], within_seconds: float, every_seconds: float = POLL_SECONDS) -> bool:
    """Looks until `condition` holds; False at the deadline."""
    deadline = monotonic() + within_seconds
    while not condition():
        if monotonic() >= deadline:
            return False
        pause(every_seconds)
    return True


def start(
    command: Sequence[str], *, log: Path, mark: Path, environment: Mapping[str, str], folder: Path
) -> subprocess.Popen[bytes]:
    """Starts `command` in a session of its own, output appended to `log`, and writes its mark. Raises OSError."""
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LOG_BYTES_MAX:
            log.replace(log.with_suffix(".log.old"))
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=dict(environment),
            cwd=folder,
        )
    found = _stat(process.pid)
    write_whole(mark, json.dumps(asdict(Mark(process.pid, found.started_ticks if found else 0, _boot()))).encode())
    return process


def read_mark(path: Path) -> Mark | None:
    """Reads a mark; None if there is none or it cannot be one."""
    try:
        return Mark(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def is_alive(mark: Mark | None) -> bool:
    """Whether that very process runs."""
    if mark is None or mark.boot != _boot():
        return False
    found = _stat(mark.pid)
    return found is not None and found.state not in "ZX" and found.started_ticks == mark.started_ticks


def session_pids(mark: Mark | None) -> list[int]:
    """The process and its descendants that live: itself first, then by their start.

    Its descendants are found by their session also when it is dead. The kernel gives no pid anew while a session bears
    it; so if the pid belongs to another process now, none of the old session is left.
    """
    if mark is None or mark.boot != _boot():
        return []
    leader = _stat(mark.pid)
    if leader is not None and leader.started_ticks != mark.started_ticks:
        return []
    members = [found for found in _all_stats() if found.session == mark.pid and found.state not in "ZX"]
    members.sort(key=lambda found: (found.pid != mark.pid, found.started_ticks, found.pid))
    return [found.pid for found in members]


def end(marks: Iterable[Mark], *, within_seconds: float) -> bool:
    """SIGTERM to the processes, SIGKILL to whatever of their sessions is left at the deadline; waits for all to end.

    Returns whether all ended by themselves.
    """
    wanted = list(marks)
    for mark in wanted:
        _signal(mark.pid, mark.started_ticks, signal.SIGTERM, alive=is_alive(mark))
    if poll(lambda: not any(session_pids(mark) for mark in wanted), within_seconds):
        return True
    for mark in wanted:
        for pid in session_pids(mark):
            found = _stat(pid)
            if found is not None and found.session == mark.pid:
                _signal(pid, found.started_ticks, signal.SIGKILL, alive=True)
    poll(lambda: not any(session_pids(mark) for mark in wanted), 5.0)
    return False


def tail(log: Path, lines: int = 12) -> tuple[str, ...]:
    """The last lines of a log, each cut to what a terminal shows."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16 * 1024))
            text = file.read().decode(errors="replace")
    except OSError:
        return ()
    return tuple(line[:400] for line in text.splitlines()[-lines:])


def follow(log: Path, from_end: bool = True) -> "Follower":
    """Follows a log that grows."""
    return Follower(log, log.stat().st_size if from_end and log.exists() else 0)


class Follower:
    """New whole lines of a log since the last look."""

    def __init__(self, log: Path, position: int) -> None:
        self._log = log
        self._position = position
        self._rest = b""

    def lines(self) -> list[str]:
        """Returns what was written since; a log that was put aside begins anew."""
        try:
            with self._log.open("rb") as file:
                if self._log.stat().st_size < self._position:
                    self._position, self._rest = 0, b""
                file.seek(self._position)
                fresh = file.read(1024 * 1024)
        except OSError:
            return []
        self._position += len(fresh)
        *whole, self._rest = (self._rest + fresh).split(b"\n")
        return [line.decode(errors="replace") for line in whole]


def _signal(pid: int, started_ticks: int, number: signal.Signals, *, alive: bool) -> None:
    if not alive:
        return
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        found = _stat(pid)
        if found is not None and found.started_ticks == started_ticks:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, number)
    finally:
        os.close(descriptor)


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _stat(pid: int) -> _Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name in parentheses may hold anything, so count from its end. proc(5): state is field 3, start time 22.
    fields = text[text.rindex(")") + 2 :].split()
    return _Stat(pid, fields[0], int(fields[1]), int(fields[3]), int(fields[19]))


def _all_stats() -> Iterable[_Stat]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (found := _stat(int(entry.name))) is not None:
            yield found
