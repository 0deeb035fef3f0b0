"""One child of the launcher: how it is started, and when it is started again.

A child sees nothing of the launcher but its line, its stderr and its birth certificate. How processes are made:
nodes/zygotes.
"""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from meridian.nodes.line import Line, Owned, pair
from meridian.nodes.relay import Cutter
from meridian.nodes.settings import Settings

DELAY_SECONDS = 0.1
DELAY_SECONDS_MAX = 5.0  # a child that cannot live must not eat the machine
INBOX_BYTES = 4 * 1024 * 1024  # as of UDP; the kernel cuts it to net.core.wmem_max, which gives some 180 packets
STABLE_SECONDS = 10.0  # who lived so long has earned a quick restart


def restart_delay(previous_seconds: float, lived_seconds: float) -> float:
    """How long to wait before a child is started again that lived so long; `previous_seconds` is the last such wait."""
    if lived_seconds >= STABLE_SECONDS or previous_seconds == 0.0:
        return DELAY_SECONDS
    return min(previous_seconds * 2, DELAY_SECONDS_MAX)


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
