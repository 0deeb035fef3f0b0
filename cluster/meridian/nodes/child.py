"""What every child of the launcher does alike: read its birth certificate, listen to its line, end with the launcher.

Invariant: no child outlives its launcher by more than five seconds, even if it hangs: an alarm of the kernel, which no
code of ours handles, sees to it.
"""

import asyncio
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meridian.nodes import logs
from meridian.nodes.line import Line, LineClosed, Message
from meridian.nodes.settings import Settings

ORPHAN_SECONDS = 5
ORPHAN_GRACE_SECONDS = 3.0  # of which this much may go into finishing exchanges
GRACE_SECONDS = 10.0  # after `leave`, as the launcher's


class BadStart(Exception):
    """The child cannot start, and the message says what the operator can do. It ends with exit code 2."""


@dataclass(frozen=True, slots=True)
class Birth:
    """Who this child is."""

    role: str
    slot: int
    settings: Settings
    line: Line
    secret: bytes = field(repr=False)
    generation: int = 0
    succeeds: bool = False  # another process serves in its place until `succeed`

    @property
    def label(self) -> str:
        """For logs, metrics and ps."""
        return self.role if self.role == "agent" else f"{self.role}-{self.slot}"


def born(certificate: Mapping[str, Any]) -> Birth:
    """Reads what the launcher says of this child, and names the process for ps."""
    line = Line(socket.socket(fileno=certificate["line"]))
    settings, secret = Settings.from_json(certificate["settings"]), bytes.fromhex(certificate["secret"])
    generation, succeeds = certificate["generation"], certificate["succeeds"]
    birth = Birth(certificate["role"], certificate["slot"], settings, line, secret, generation, succeeds)
    Path("/proc/self/comm").write_text(f"mrd-{birth.label}"[:15])
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a closed terminal is no reason to stop serving
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the launcher decides what it means
    return birth


class Post:
    """The child's side of the line on an event loop. `on_message` gets each message with its sockets, which it owns."""

    def __init__(
        self,
        birth: Birth,
        on_message: Callable[[Message, list[socket.socket]], None],
        on_leave: Callable[[float], None],
    ) -> None:
        """`on_leave` is called, once, with the seconds that are left: at `leave`, SIGTERM, or the line's end."""
        self._line = birth.line
        self._loop = asyncio.get_running_loop()
        self._on_message = on_message
        self._on_leave: Callable[[float], None] | None = on_leave
        self._loop.add_reader(self._line.socket.fileno(), self._readable)
        self._loop.add_signal_handler(signal.SIGTERM, self._leave, GRACE_SECONDS)

    def say(self, say: str, **fields: Any) -> None:
        """Sends to the launcher."""
        self._line.send({"say": say, **fields})
        if self._line.waiting:
            self._loop.call_later(0.05, self._line.flush)

    def close(self) -> None:
        """Ends the line."""
        self._loop.remove_reader(self._line.socket.fileno())
        self._line.close()

    def _readable(self) -> None:
        try:
            while (received := self._line.receive()) is not None:
                message, descriptors = received
                sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
                for sock in sockets:  # it is so already, but `dup` of a socket that does not know would change that,
                    sock.setblocking(False)  # and for all processes that share it
                if message["say"] == "leave":
                    self._leave(GRACE_SECONDS)
                else:
                    self._on_message(message, sockets)
        except LineClosed:
            self._loop.remove_reader(self._line.socket.fileno())
            signal.alarm(ORPHAN_SECONDS)
            self._leave(ORPHAN_GRACE_SECONDS)

    def _leave(self, grace_seconds: float) -> None:
        if self._on_leave is not None:
            on_leave, self._on_leave = self._on_leave, None
            on_leave(grace_seconds)


def run_child(main: Callable[[Birth], int], birth: Birth) -> None:
    """Runs a child's `main` and ends the process. BadStart becomes a word to the launcher and exit code 2."""
    try:
        code = main(birth)
    except BadStart as error:
        logs.log("error", "cannot start", reason=str(error))
        birth.line.send({"say": "failed", "reason": str(error)})
        code = 2
    sys.exit(code)


def sockets_of(message: Mapping[str, Any], sockets: list[socket.socket]) -> dict[tuple[str, str, int], socket.socket]:
    """The full set of a `sockets` message, by (kind, host, port)."""
    return {
        (kind, host, port): sock for (_, kind, host, port, _), sock in zip(message["sockets"], sockets, strict=True)
    }


def first(group: BaseExceptionGroup[Any]) -> BaseException:
    """The first of the errors in a group of groups."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
