"""Signals to the lab's processes, and to no others.

A pid from a status may belong to somebody else a moment later. So a process is first held by a descriptor (pidfd),
then compared with what we expect (its session is that of the part it belongs to, which `meridian local` started as
the leader of a session of its own), and only then signalled through that descriptor.
"""

import contextlib
import os
import select
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """Of /proc/PID/stat (proc(5)): session is field 6, start time, in clock ticks after boot, is field 22."""

    session: int
    started_ticks: int
    state: str


def read_stat(pid: int) -> ProcessStat | None:
    """None if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()  # a name in parentheses may hold anything
    return ProcessStat(int(fields[3]), int(fields[19]), fields[0])


def session_pids(session: int) -> list[int]:
    """All living processes of a session, in no order."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [
        pid for pid in pids if (stat := read_stat(pid)) is not None and stat.session == session and stat.state != "Z"
    ]


class Held:
    """A process that cannot be mistaken: its pid is not given to another while this is open."""

    def __init__(self, pid: int) -> None:
        """Raises ProcessLookupError if there is none."""
        self.pid = pid
        self._descriptor = os.pidfd_open(pid)
        stat = read_stat(pid)
        if stat is None or stat.state == "Z":
            os.close(self._descriptor)
            raise ProcessLookupError(f"no process {pid}")
        self.stat = stat

    def __enter__(self) -> Self:
        """Holds."""
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Lets go."""
        os.close(self._descriptor)

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal; none is sent if the process has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, number)

    def wait(self, within_seconds: float) -> bool:
        """Whether it ended in time."""
        return bool(select.select([self._descriptor], [], [], within_seconds)[0])


def signal_part(leader_pid: int, number: signal.Signals, *, wait_seconds: float = 0.0) -> list[int]:
    """Signals the session that `leader_pid` leads, the leader first, so that it restarts nothing. Returns the pids.

    With `wait_seconds` it waits for their end. Raises ProcessLookupError if there is no such process or it leads no
    session (then it is none of ours), TimeoutError if one outlived the wait.
    """
    with contextlib.ExitStack() as held_ones:
        leader = held_ones.enter_context(Held(leader_pid))
        if leader.stat.session != leader_pid:
            raise ProcessLookupError(f"process {leader_pid} is not one that `meridian local` started")
        leader.signal(number)
        held = [leader, *_held_session(held_ones, leader)]
        for process in held[1:]:
            process.signal(number)
        if wait_seconds:
            late = [process.pid for process in held if not process.wait(wait_seconds)]
            if late:
                raise TimeoutError(f"processes {late} outlived {number.name} by {wait_seconds} s")
        return [process.pid for process in held]


def _held_session(held_ones: contextlib.ExitStack, leader: Held) -> Iterable[Held]:
    for pid in session_pids(leader.pid):
        if pid == leader.pid:
            continue
        with contextlib.suppress(ProcessLookupError):
            process = held_ones.enter_context(Held(pid))
            if process.stat.session == leader.pid:
                yield process
