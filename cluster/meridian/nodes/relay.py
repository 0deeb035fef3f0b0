"""Log lines from children to the launcher's stderr, with the node's and the worker's name put into each.

Invariant: a child is never blocked by whoever reads our stderr. What stderr does not take is kept up to a bound, and
beyond it whole lines are dropped and counted.
"""

import json
import os
import select

LINE_BYTES_MAX = 16 * 1024  # longer ones are cut: a log line is for reading
BACKLOG_BYTES_MAX = 1024 * 1024  # a reader that stops for a few seconds loses nothing


class Cutter:
    """Cuts a child's output into lines and names their origin."""

    def __init__(self, node: str, worker: str) -> None:
        self._origin = f'"node":{json.dumps(node)},"worker":{json.dumps(worker)}'.encode()
        self._rest = bytearray()
        self._cut = False  # in the tail of a line whose head went out already

    def lines(self, data: bytes) -> list[bytes]:
        """Takes output, returns the finished lines. An empty `data` means the end: the rest is a line too."""
        self._rest += data if data else b"\n" * bool(self._rest)
        *finished, rest = bytes(self._rest).split(b"\n")
        self._rest[:] = rest
        out = []
        for text in finished:
            if text and not self._cut:
                out.append(self._named(text[:LINE_BYTES_MAX]))
            self._cut = False
        if len(self._rest) > LINE_BYTES_MAX:
            if not self._cut:
                out.append(self._named(bytes(self._rest[:LINE_BYTES_MAX])))
            self._cut = True
            self._rest.clear()
        return out

    def _named(self, text: bytes) -> bytes:
        if text.startswith(b'{"') and text.endswith(b"}"):
            return b"{" + self._origin + b"," + text[1:] + b"\n"
        message = json.dumps(text.decode("utf-8", "replace"))
        return b'{%s,"level":"error","event":"output","text":%s}\n' % (self._origin, message.encode())


class Writer:
    """Writes to a descriptor that may be slow or gone, without ever waiting for it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()  # unlike epoll it takes regular files, which are always ready
        self._poll.register(descriptor, select.POLLOUT)
        self._kept = bytearray()
        self.dropped = 0

    @property
    def waiting(self) -> bool:
        """Whether something is kept until the descriptor takes it."""
        return bool(self._kept)

    def write(self, line: bytes) -> None:
        """Takes one line; drops it when too much is kept."""
        if len(self._kept) + len(line) > BACKLOG_BYTES_MAX:
            self.dropped += 1
            return
        self._kept += line
        self.flush()

    def flush(self) -> None:
        """Writes as much as the descriptor takes now."""
        while self._kept:
            ready = self._poll.poll(0)
            if not ready or not ready[0][1] & select.POLLOUT:
                return
            try:
                # A pipe that is ready takes PIPE_BUF bytes at once without blocking; more might not fit.
                written = os.write(self._descriptor, self._kept[: select.PIPE_BUF])
            except OSError:
                self._kept.clear()  # nobody reads any more, or the disk is full
                self.dropped += 1
                return
            del self._kept[:written]
