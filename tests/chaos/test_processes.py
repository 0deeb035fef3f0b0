"""A signal reaches a whole part, its leader first, and never a process that is not the part's."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support import child_process, wait_until

from chaosmeridian.processes import Held, read_stat, session_pids, signal_part


async def test_kills_leader_and_descendants(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    script = f"sleep 600 & (sleep 600 & echo > {ready}; wait)"
    with child_process("bash", "-c", script) as leader:
        await wait_until(ready.exists, within_seconds=10, what="the grandchildren")
        members = session_pids(leader.pid)
        assert len(members) == 4
        killed = signal_part(leader.pid, signal.SIGKILL, wait_seconds=5)
        assert killed[0] == leader.pid
        assert sorted(killed) == sorted(members)
        leader.wait(timeout=5)
        assert session_pids(leader.pid) == []


async def test_stops_and_continues_all_of_it() -> None:
    with child_process("bash", "-c", "sleep 600 & wait") as leader:
        await wait_until(lambda: len(session_pids(leader.pid)) == 2, within_seconds=10, what="the child")
        pids = signal_part(leader.pid, signal.SIGSTOP)

        def states() -> set[str]:
            return {stat.state for pid in pids if (stat := read_stat(pid)) is not None}

        await wait_until(lambda: states() == {"T"}, within_seconds=5, what="all stopped")
        signal_part(leader.pid, signal.SIGCONT)
        await wait_until(lambda: states() == {"S"}, within_seconds=5, what="all going on")


def test_a_process_that_leads_no_session_is_not_touched() -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with pytest.raises(ProcessLookupError, match="not one that"):
            signal_part(stranger.pid, signal.SIGKILL, wait_seconds=1)
        assert stranger.poll() is None
    finally:
        stranger.communicate(b"\n", timeout=10)
    assert stranger.returncode == 0


def test_a_pid_that_has_ended_is_told_so() -> None:
    with child_process("true") as gone:
        gone.wait(timeout=10)
        with pytest.raises(ProcessLookupError):
            signal_part(gone.pid, signal.SIGKILL)


def test_what_outlives_the_wait_is_told() -> None:
    with (
        child_process("bash", "-c", "trap '' TERM; while :; do sleep 0.05; done") as stubborn,
        Held(stubborn.pid) as held,
    ):
        assert held.stat.session == stubborn.pid == os.getsid(stubborn.pid)
        assert not held.wait(0.0)
        with pytest.raises(TimeoutError, match="outlived SIGCONT"):
            signal_part(stubborn.pid, signal.SIGCONT, wait_seconds=0.1)
