"""Tells systemd how the node stands (sd_notify(3)): it is ready, it leaves, the launcher's loop turns.

Started by anything else, it says nothing. The launcher waits for nobody: what cannot be sent now is sent at a later
turn of the loop, except for a beat of the watchdog, which is worth nothing later.
"""

import socket
from collections.abc import MutableMapping


class Notifier:
    """Speaks to the socket of NOTIFY_SOCKET. The variables are taken out of `environment`, so that no child speaks."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        self._address = environment.pop("NOTIFY_SOCKET", "")
        pause_microseconds = environment.pop("WATCHDOG_USEC", "")
        environment.pop("WATCHDOG_PID", None)
        # Half of the time that systemd allows, as sd_watchdog_enabled(3) advises.
        self._period_seconds = int(pause_microseconds) / 2e6 if pause_microseconds.isdigit() else 0.0
        self._next = 0.0
        self._unsent: list[bytes] = []  # READY and STOPPING, so two at most
        self._socket: socket.socket | None = None
        if self._address.startswith(("/", "@")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)

    def tell(self, *words: str) -> None:
        """Sends assignments such as READY=1, now or at a later turn."""
        if self._socket is not None:
            self._unsent.append("\n".join(words).encode())
            self._flush()

    def turn(self, now: float) -> None:
        """The loop turned at `now` (seconds): feeds the watchdog when that is due."""
        if self._unsent:
            self._flush()
        if self._period_seconds and now >= self._next:
            self._next = now + self._period_seconds
            self._send(b"WATCHDOG=1")

    def close(self) -> None:
        """Says nothing any more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _flush(self) -> None:
        while self._unsent and self._send(self._unsent[0]):
            self._unsent.pop(0)

    def _send(self, words: bytes) -> bool:
        """Whether there is nothing more to do about these words; False while systemd's queue is full."""
        if self._socket is not None:
            try:
                self._socket.sendto(words, self._address.replace("@", "\0", 1))
            except BlockingIOError:
                return False
            except OSError:
                return True  # nobody listens there
        return True
