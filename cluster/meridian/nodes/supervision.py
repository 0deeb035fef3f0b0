"""One child of the launcher: how it is started, and when it is started again.

Children are copies of a process that has read their code, the zygote (nodes/zygote), which is started by exec. They see
nothing of the launcher but their line, their stderr and their birth certificate.
"""

import ctypes
import json
import os
import pwd
import signal
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from meridian.nodes.line import Line, Message, Owned, pair
from meridian.nodes.relay import Cutter
from meridian.nodes.settings import ROLES, Settings

DELAY_SECONDS = 0.1
DELAY_SECONDS_MAX = 5.0  # a child that cannot live must not eat the machine
INBOX_BYTES = 4 * 1024 * 1024  # as of UDP; the kernel cuts it to net.core.wmem_max, which gives some 180 packets
TITLE_BYTES = 80  # room for NODE/LABEL in what ps shows
STABLE_SECONDS = 10.0  # who lived so long has earned a quick restart
_PR_SET_CHILD_SUBREAPER = 36


def restart_delay(previous_seconds: float, lived_seconds: float) -> float:
    """How long to wait before a child is started again that lived so long; `previous_seconds` is the last such wait."""
    if lived_seconds >= STABLE_SECONDS or previous_seconds == 0.0:
        return DELAY_SECONDS
    return min(previous_seconds * 2, DELAY_SECONDS_MAX)


def adopt_orphans() -> None:
    """Makes this process the parent of what its zygotes fork (prctl(2), PR_SET_CHILD_SUBREAPER). Raises OSError."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


class Process(Protocol):
    """What the launcher needs of a process; `pid` is 0 until it is known. As subprocess.Popen."""

    pid: int

    @property
    def returncode(self) -> int | None:
        """The exit code, or the signal that ended it as a negative number; None while it runs."""

    def poll(self) -> int | None:
        """Looks, and returns the same."""

    def kill(self) -> None:
        """Sends SIGKILL."""

    def wait(self) -> int:
        """Waits for its end."""


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


Spawn = Callable[[dict[str, Any], Owned, Owned], Process]  # birth certificate without its line, line, stderr


@dataclass(slots=True, eq=False)
class Child:
    """One child: its place (role, slot) stays, the process in it changes. `process` is None while it is not running."""

    role: str
    slot: int
    generation: int = 0  # rises with every upgrade
    succeeds: bool = False  # it takes over from one that serves
    process: Process | None = None
    line: Line | None = None
    output: int = -1  # our end of its stderr
    cutter: Cutter | None = None
    started_at: float = 0.0
    start_at: float | None = 0.0  # when to start it; None while it runs or when it shall stay away
    delay_seconds: float = 0.0
    restarts: int = 0
    reason: str = ""  # what it said when it gave up
    version: str = ""  # of the software that it runs, as it says
    inbox: tuple[socket.socket, socket.socket] | None = None  # of a gateway worker: to read from, and to write to

    @property
    def label(self) -> str:
        """For logs and for ps: agent, dns-0, gateway-1."""
        return self.role if self.role in ("agent", "zygote") else f"{self.role}-{self.slot}"

    def start(self, settings: Settings, secret: str, spawn: Spawn, now: float) -> None:
        """Starts the process by `spawn`. `secret` is what all workers of this node share.

        Raises OSError if the machine will not (no memory, too many processes).
        """
        ours, theirs = pair()
        read, write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(read, False)
        birth = {"role": self.role, "slot": self.slot, "settings": settings.to_json(),
                 "secret": secret, "generation": self.generation, "succeeds": self.succeeds}  # fmt: skip
        try:
            if self.role == "gateway" and self.inbox is None:
                # Not SOCK_DGRAM: of that ten packets may wait (net.unix.max_dgram_qlen), here as many as have room.
                self.inbox = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                self.inbox[1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, INBOX_BYTES)
            self.process = spawn(birth, Owned(theirs.detach()), Owned(write))
        except OSError:
            ours.close()
            os.close(read)
            raise
        self.line, self.output, self.cutter = ours, read, Cutter(settings.name, self.label)
        self.started_at, self.start_at, self.reason = now, None, ""

    def read_output(self) -> list[bytes] | None:
        """Returns log lines that have come, or None at the end of the output."""
        assert self.cutter is not None
        try:
            data = os.read(self.output, 65536)
        except BlockingIOError:
            return []
        return self.cutter.lines(data) if data else None

    def bury(self) -> list[bytes]:
        """Closes what is left of a process that has ended; returns its last log lines."""
        assert self.cutter is not None and self.line is not None
        lines = []
        while read := self.read_output():
            lines += read
        lines += self.cutter.lines(b"")
        os.close(self.output)
        self.line.close()
        self.process, self.line, self.output = None, None, -1
        return lines

    def forget(self) -> None:
        """Nobody will be in this place again."""
        for sock in self.inbox or ():
            sock.close()


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
        env={**os.environ, "MERIDIAN_ZYGOTE": word},
        **identity,
    )
