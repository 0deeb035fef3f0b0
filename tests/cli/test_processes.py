"""Processes are found again and ended, and never another one instead."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest
from tests.support import wait_until

from meridian.cli import processes
from meridian.cli.processes import Mark, end, follow, is_alive, read_mark, session_pids, start, tail

SLEEPER = (sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)")
PARENT = (
    sys.executable,
    "-c",
    "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
    "time.sleep(60)",
)
STUBBORN = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)",
)


class Started:
    """A process under test, its mark and its log."""

    def __init__(self, folder: Path, command: tuple[str, ...]) -> None:
        self.log, self.mark_path = folder / "logs/p.log", folder / "run/p.json"
        self.process = start(command, log=self.log, mark=self.mark_path, environment=os.environ, folder=folder)

    @property
    def mark(self) -> Mark:
        mark = read_mark(self.mark_path)
        assert mark is not None
        return mark

    async def is_up(self) -> None:
        await wait_until(lambda: tail(self.log), within_seconds=10, what="the process is up")


async def test_a_process_is_known_by_its_mark_and_ended(tmp_path: Path) -> None:
    started = Started(tmp_path, SLEEPER)
    await started.is_up()
    assert is_alive(started.mark)
    assert session_pids(started.mark) == [started.process.pid]
    assert os.getsid(started.process.pid) == started.process.pid
    assert end([started.mark], within_seconds=5)
    assert started.process.wait() == -signal.SIGTERM
    assert not is_alive(started.mark)
    assert session_pids(started.mark) == []


async def test_another_process_with_the_same_pid_is_left_alone(tmp_path: Path) -> None:
    started = Started(tmp_path, SLEEPER)
    await started.is_up()
    true = started.mark
    for other in (
        Mark(true.pid, true.started_ticks - 1, true.boot),
        Mark(true.pid, true.started_ticks, "another boot"),
    ):
        assert not is_alive(other)
        assert session_pids(other) == []
        assert end([other], within_seconds=0.2)
    assert started.process.poll() is None
    end([true], within_seconds=5)
    started.process.wait()


async def test_descendants_of_a_killed_process_are_found_and_ended(tmp_path: Path) -> None:
    started = Started(tmp_path, PARENT)
    await wait_until(lambda: len(session_pids(started.mark)) == 2, within_seconds=10, what="parent and child run")
    assert session_pids(started.mark)[0] == started.process.pid
    started.process.kill()
    started.process.wait()
    assert not is_alive(started.mark)
    assert len(session_pids(started.mark)) == 1
    assert not end([started.mark], within_seconds=0.2)  # SIGTERM has nobody to go to: killed at the deadline
    assert session_pids(started.mark) == []


async def test_what_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    started = Started(tmp_path, STUBBORN)
    await started.is_up()
    assert not end([started.mark], within_seconds=0.3)
    assert started.process.wait() == -signal.SIGKILL


def test_a_zombie_is_not_alive(tmp_path: Path) -> None:
    started = Started(tmp_path, (sys.executable, "-c", ""))
    os.waitid(os.P_PID, started.process.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(started.mark)
    assert session_pids(started.mark) == []
    started.process.wait()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', json.dumps({"pid": 1, "more": 2})])
def test_a_damaged_mark_is_no_mark(content: str, tmp_path: Path) -> None:
    (tmp_path / "m").write_text(content)
    assert read_mark(tmp_path / "m") is None
    assert not is_alive(None)
    assert session_pids(None) == []


def test_a_large_log_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LOG_BYTES_MAX", 10)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/p.log").write_text("old" * 10)
    started = Started(tmp_path, (sys.executable, "-c", "print('new')"))
    started.process.wait()
    assert tail(started.log) == ("new",)
    assert (tmp_path / "logs/p.log.old").read_text() == "old" * 10


def test_follow_yields_whole_lines_and_survives_a_new_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    following = follow(log)
    assert following.lines() == []
    with log.open("a") as file:
        file.write("one\ntw")
        file.flush()
        assert following.lines() == ["one"]
        file.write("o\n")
        file.flush()
        assert following.lines() == ["two"]
    log.write_text("new\n")
    assert following.lines() == ["new"]


def test_a_command_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        Started(tmp_path, ("/no/such/program",))
    assert not (tmp_path / "run/p.json").exists()
