"""The line between the launcher and a child: one JSON message per packet of a SOCK_SEQPACKET pair, with file
descriptors beside it (SCM_RIGHTS).

Invariant: the launcher never waits for a child. What a child does not take is kept, and of each kind of message only
the latest, because each one carries the whole of what it speaks about; so what is kept is bounded by the kinds.

launcher -> child   sockets {sockets: [taker, kind, host, port, name]} + descriptors in that order: the full set
                    channel {kind, slot, generation} + one descriptor: a stream to the agent, or from the agent's side
                    to a worker
                    children {children: [role, slot, pid, restarts]}: to the agent
                    listening {} or refused {problems}: answer to listen
                    neighbours {neighbours: [slot, generation]} + descriptors: a gateway worker's own inbox, then
                    theirs in that order: the full set
                    succeed {} + one descriptor: take over from the predecessor at its other end
                    retire {seconds} + one descriptor: hand over to the successor at its other end, finish, exit
                    succeeded {kind, slot, generation}: to the agent: that worker serves the place now
                    upgrade {...}: to the agent, the report of the last upgrade
                    drain {}: to the agent: let the cluster know that this node leaves; to a gateway worker: serve on,
                    but tell clients to go;   leave {}: finish and exit
                    depart {}: to the agent: give up what the node has in the store
                    fork {slot, birth} + two descriptors: to the zygote: a child with this birth certificate, whose
                    line and stderr these are; `slot` numbers the order
child -> launcher   listen {sockets}: the agent wants exactly these sockets for the gateway workers, idempotent
                    ready {version};   left {linger_seconds}: the agent has announced that this node leaves
                    prepared {version}: a successor could serve;   inherited {limits}: it serves, with what the other
                    knew of limits or without;   finished {connections, cut}: a retired worker is about to exit
                    upgrade {seconds}: the operator wants new workers
                    failed {reason}: the child gives up, and why
                    forked {slot, pid}: the zygote has done so
"""

import json
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

PACKET_BYTES_MAX = 64 * 1024  # 64 listeners of 200 bytes are 12 KiB; a packet must fit the socket's buffer whole
DESCRIPTORS_MAX = 250  # SCM_MAX_FD of Linux is 253; model.Document allows 64 listeners of two sockets

Message = dict[str, Any]


class LineClosed(Exception):
    """The other end is gone."""


class Descriptor(Protocol):
    """What can be sent."""

    def fileno(self) -> int:
        """Its number in this process."""


class Owned:
    """A descriptor that is closed when nobody holds this object any more: when it has been sent, or never will be."""

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        """See Descriptor."""
        return self._number

    def __del__(self) -> None:
        os.close(self._number)


class Line:
    """One end. The socket is non-blocking; the owner waits for it to be readable, and writable while `waiting`."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self._kept: dict[tuple[object, ...], tuple[bytes, tuple[Descriptor, ...]]] = {}

    @property
    def waiting(self) -> bool:
        """Whether something is kept until the other end takes it."""
        return bool(self._kept)

    def send(self, message: Mapping[str, Any], sockets: Sequence[Descriptor] = ()) -> None:
        """Sends or keeps a message. The line holds on to `sockets` (their objects) until they are sent.

        A line whose other end is gone swallows the message: the reader of the line sees the end.
        """
        packet = json.dumps(message, separators=(",", ":")).encode()
        assert len(packet) <= PACKET_BYTES_MAX and len(sockets) <= DESCRIPTORS_MAX
        key = (message["say"], message.get("kind"), message.get("slot"), message.get("generation"))
        self._kept.pop(key, None)
        self._kept[key] = (packet, tuple(sockets))
        self.flush()

    def flush(self) -> None:
        """Sends what is kept, as far as the other end takes it."""
        while self._kept:
            key = next(iter(self._kept))
            packet, sockets = self._kept[key]
            try:
                socket.send_fds(self.socket, [packet], [sock.fileno() for sock in sockets])
            except BlockingIOError:
                return
            except OSError:
                self._kept.clear()
                return
            del self._kept[key]

    def receive(self) -> tuple[Message, list[int]] | None:
        """Returns a message and its descriptors (the caller's to close), or None if there is none now.

        Raises LineClosed at the end, also for a packet that was cut: then the two sides no longer agree on anything.
        """
        try:
            packet, descriptors, flags, _ = socket.recv_fds(self.socket, PACKET_BYTES_MAX, DESCRIPTORS_MAX)
        except BlockingIOError:
            return None
        except OSError as error:
            raise LineClosed(str(error)) from error
        if not packet:
            raise LineClosed("closed")
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            for descriptor in descriptors:
                socket.close(descriptor)
            raise LineClosed("a packet was cut")
        try:
            message: Message = json.loads(packet)
        except ValueError as error:
            raise LineClosed(f"a packet that is no JSON: {error}") from error
        return message, list(descriptors)

    def close(self) -> None:
        """Closes this end."""
        self._kept.clear()
        self.socket.close()


def pair() -> tuple[Line, socket.socket]:
    """A new line: the launcher's end, and the socket to give to the child."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Line(ours), theirs
