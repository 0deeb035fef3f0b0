"""One child of the launcher: how it is started, and when it is started again.

Children are made by exec, never by fork alone (grpc does not survive a fork), and see nothing of the launcher but
their line, their stderr and their birth certificate in the environment.
"""

import json
import os
import pwd
import socket
import subprocess
from dataclasses import dataclass

from meridian.nodes.line import Line, pair
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


@dataclass(slots=True, eq=False)
class Child:
    """One child: its place (role, slot) stays, the process in it changes. `process` is None while it is not running."""

    role: str
    slot: int
    generation: int = 0  # rises with every upgrade
    succeeds: bool = False  # it takes over from one that serves
    process: "subprocess.Popen[bytes] | None" = None
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
        return self.role if self.role == "agent" else f"{self.role}-{self.slot}"

    def start(self, settings: Settings, secret: str, python: str, now: float) -> None:
        """Starts the process. `secret` is what all workers of this node share, `python` the interpreter.

        Raises OSError if the machine will not (no memory, too many processes).
        """
        ours, theirs = pair()
        read, write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(read, False)
        birth = {"role": self.role, "slot": self.slot, "line": theirs.fileno(), "settings": settings.to_json(),
                 "secret": secret, "generation": self.generation, "succeeds": self.succeeds}  # fmt: skip
        try:
            if self.role == "gateway" and self.inbox is None:
                # Not SOCK_DGRAM: of that ten packets may wait (net.unix.max_dgram_qlen), here as many as have room.
                self.inbox = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                self.inbox[1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, INBOX_BYTES)
            self.process = _execute(settings, python, self.role, self.label, theirs, write, birth)
        except OSError:
            ours.close()
            os.close(read)
            raise
        finally:
            theirs.close()
            os.close(write)
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


def _execute(
    settings: Settings,
    python: str,
    role: str,
    label: str,
    theirs: socket.socket,
    stderr: int,
    birth: dict[str, object],
) -> "subprocess.Popen[bytes]":
    identity: dict[str, object] = {}
    if settings.user is not None and os.geteuid() == 0:
        account = pwd.getpwnam(settings.user)
        groups = os.getgrouplist(account.pw_name, account.pw_gid)
        identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": groups}
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]  # identity is not typed key by key
        # -P: modules come from where Meridian is installed, not from the folder the operator happens to stand in.
        [python, "-P", "-m", settings.module(role), f"{settings.name}/{label}"],
        stdin=subprocess.DEVNULL,
        stdout=stderr,
        stderr=stderr,
        pass_fds=[theirs.fileno()],
        env={**os.environ, "MERIDIAN_CHILD": json.dumps(birth)},
        **identity,
    )
