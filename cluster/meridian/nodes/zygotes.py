"""The launcher's side of zygotes: how they are started, asked for children, and replaced. Theirs is nodes/zygote."""

import ctypes
import json
import os
import pwd
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meridian.nodes.line import Message, Owned
from meridian.nodes.settings import ROLES, Settings
from meridian.nodes.supervision import Child, Process

ENVIRONMENT = "MERIDIAN_ZYGOTE"  # where a zygote finds what it is to be
TITLE_BYTES = 80  # room for NODE/LABEL in what ps shows
_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Makes this process the parent of what its zygotes fork (prctl(2), PR_SET_CHILD_SUBREAPER). Raises OSError."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


@dataclass(slots=True)
class Forked:
    """A process that a zygote is asked for."""

    pid: int = 0
    returncode: int | None = None
    _killed: bool = False

    def born(self, pid: int) -> None:
        """The zygote has made it."""
        self.pid = pid
        if self._killed:
            os.kill(pid, signal.SIGKILL)

    def lost(self) -> None:
        """There is none, or the zygote ended before it said which. If it had forked, that child ends with its line."""
        self.returncode = -signal.SIGKILL

    def poll(self) -> int | None:
        """See Process."""
        return self._wait(os.WNOHANG)

    def kill(self) -> None:
        """See Process."""
        self._killed = True
        if self.pid and self.returncode is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """See Process. Who was never born has ended."""
        if not self.pid and self.returncode is None:
            self.lost()
        code = self._wait(0)
        assert code is not None
        return code

    def _wait(self, options: int) -> int | None:
        if self.pid and self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


@dataclass(slots=True, eq=False)
class Zygote(Child):
    """The process that makes the others, with the code of one interpreter's installation."""

    role: str = "zygote"
    slot: int = 0
    python: str = ""
    _asked: dict[int, Forked] = field(default_factory=dict)
    _forks: int = 0

    def open(self, settings: Settings, now: float) -> None:
        """Starts it. Raises OSError."""

        def execute(_: dict[str, Any], line: Owned, stderr: Owned) -> Process:
            return _execute(settings, self.python, line, stderr)

        self.start(settings, "", execute, now)

    def fork(self, birth: dict[str, Any], line: Owned, stderr: Owned) -> Forked:
        """A Spawn: it comes when the zygote has read the code. Raises OSError if there is no zygote now."""
        if self.line is None:
            raise OSError("the zygote is being started again")
        self._forks += 1
        forked = self._asked[self._forks] = Forked()
        self.line.send({"say": "fork", "slot": self._forks, "birth": birth}, [line, stderr])
        return forked

    def hear(self, message: Message) -> Forked | None:
        """Takes the word of what became of an order, and returns that process."""
        forked = self._asked.pop(message["slot"], None)
        if forked is not None and message["pid"]:
            forked.born(message["pid"])
        elif forked is not None:
            forked.lost()
        return forked

    def bury(self) -> list[bytes]:
        """As of a child; who was asked of it will not come."""
        for forked in self._asked.values():
            forked.lost()
        self._asked.clear()
        return super(Zygote, self).bury()  # by name: a dataclass with slots is another class than the one here


def _execute(settings: Settings, python: str, line: Owned, stderr: Owned) -> "subprocess.Popen[bytes]":
    identity: dict[str, object] = {}
    if settings.user is not None and os.geteuid() == 0:
        account = pwd.getpwnam(settings.user)
        groups = os.getgrouplist(account.pw_name, account.pw_gid)
        identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": groups}
    modules = {role: settings.module(role) for role in ROLES}
    word = json.dumps({"name": settings.name, "line": line.fileno(), "modules": modules})
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]  # identity is not typed key by key
        # -P: modules come from where Meridian is installed, not from the folder the operator happens to stand in.
        [python, "-P", "-m", "meridian.nodes.zygote", " " * TITLE_BYTES],
        stdin=subprocess.DEVNULL,
        stdout=stderr.fileno(),
        stderr=stderr.fileno(),
        pass_fds=[line.fileno()],
        env={**os.environ, ENVIRONMENT: word},
        **identity,
    )


class Zygotes:
    """The one that makes the children, and those that end. While it is not certain that an upgrade comes about, the one
    of the code before is kept."""

    def __init__(self, python: str) -> None:
        self._python = python
        self.now = Zygote(python=_followed(python))
        self.all: list[Zygote] = [self.now]
        self._before: Zygote | None = None

    def renew(self) -> Zygote:
        """A new one, with the code that is installed now, makes the children from here on. Returns it, for a start."""
        self._before, self.now = self.now, Zygote(python=_followed(self._python))
        self.all.append(self.now)
        return self.now

    def settle(self, *, keep_new: bool) -> None:
        """Ends the one of the two that makes no more children, if there are two."""
        if self._before is None:
            return
        if not keep_new:
            self._before, self.now = self.now, self._before
        if self._before.process is None:  # it could not even start
            self.all.remove(self._before)
        else:
            self._before.process.kill()
        self._before = None

    def ended(self, zygote: Zygote) -> bool:
        """One has been buried. False: another one has to be started in its place."""
        if zygote in (self.now, self._before):
            return False
        self.all.remove(zygote)
        return True

    def end(self) -> None:
        """Nobody will be made any more."""
        for zygote in self.all:
            if zygote.process is not None:
                zygote.process.kill()


def _followed(python: str) -> str:
    """The interpreter in the folder that it is in now: a link to that folder may be set anew at any time."""
    path = Path(python)
    return str(path.parent.resolve() / path.name)
