"""The stage that answers with a file from the node's disk, and what sends one that is larger than a piece.

    look (in a thread: open, judge, read the first piece) -> all of it is in one piece: answer
                                                          -> else send, and read the next once the client has taken it

Invariants:
- The loop never waits for a disk: all that touches it runs in a few threads of the worker's own, so that one that
  hangs holds up files and nothing else.
- Of a file at most one piece is held beyond what the connection holds, however slow the client.
- A file is closed exactly once, and never while a thread reads it.
"""

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from meridian.core import files
from meridian.core.fields import header
from meridian.core.files import Files, Reply, Span
from meridian.gateway import answers
from meridian.gateway.answers import Failure
from meridian.gateway.disk import FolderError, NoFileError, OpenFile, find
from meridian.gateway.source import Source
from meridian.wire.events import Headers

if TYPE_CHECKING:
    from meridian.gateway.stages import Stages

METHODS = (b"GET", b"HEAD")
PIECE_BYTES = 128 * 1024
"""What is read at once: a thread's coming and going is then a small part of what it takes to send it, and 10,000
clients that do not read hold 1.3 GB at worst."""

_T = TypeVar("_T")


def serve(exchange: "Stages") -> bool:
    """The stage. Always False: it answers."""
    found = exchange._live.route.files
    assert found is not None
    if exchange.head.method not in METHODS:
        exchange._answer(answers.METHOD_NOT_ALLOWED, [(b"allow", b", ".join(METHODS))])
        return False
    source = exchange._source = FileSource(exchange, found)
    source.look()
    return False


def look(wanted: Files, target: bytes, method: bytes, headers: Headers) -> tuple[OpenFile, Reply]:
    """What is on the disk for a request. Raises as disk.find does; blocks."""
    path = files.path_of(target)
    codings = files.wanted_codings(header(headers, b"accept-encoding"), wanted.codings) if wanted.codings else []
    try:
        if path is None:
            raise NoFileError
        found = find(wanted, path, codings)
    except NoFileError:
        if wanted.fallback is None:
            raise
        found = find(wanted, wanted.fallback, codings)
    return found, files.reply(method, headers, found.stored)


def failure_of(error: OSError) -> Failure:
    """What a client is told of a disk that does not give what is there."""
    return answers.FILE_FORBIDDEN if isinstance(error, PermissionError) else answers.FILE_FAILED


class FileSource(Source):
    """What answers instead of an upstream."""

    __slots__ = ("_at", "_closed", "_exchange", "_file", "_files", "_pieces", "_reading")

    def __init__(self, exchange: "Stages", wanted: Files) -> None:
        self._exchange = exchange
        self._files = wanted
        self._file: OpenFile | None = None
        self._pieces: list[bytes | Span] = []  # that are still to be sent, the last first
        self._reading = False
        self._closed = False

    # What the exchange does

    def resume(self) -> None:
        """See Source."""
        if not self._reading:
            self._read_on()

    def close(self) -> None:
        """See Source."""
        self._closed = True
        if self._file is not None and not self._reading:
            self._file.close()
            self._file = None

    def expire(self) -> None:
        """See Source."""
        exchange = self._exchange
        if not exchange._response_status:
            exchange._answer(answers.FILE_TIMEOUT)
        elif exchange.stream.writable:
            exchange._cut("the disk fell silent", "_idle")
        else:
            exchange._cut("the client does not read", "_client")

    # The head

    def look(self) -> None:
        """Asks the disk."""
        exchange = self._exchange
        head = exchange.head
        self._in_thread(partial(self._look, exchange._sent_target, head.method, head.headers), self._found)

    def _look(self, target: bytes, method: bytes, headers: Headers) -> tuple[OpenFile, Reply, bytes]:
        """In a thread."""
        found, said = look(self._files, target, method, headers)
        try:
            if method == b"HEAD" or len(said.spans) > 1 or said.status not in (200, 206):
                return found, said, b""
            start, stop = said.spans[0] if said.spans else (0, found.stored.size)
            return found, said, found.read(start, min(PIECE_BYTES, stop - start))
        except BaseException:
            found.close()
            raise

    def _found(self, made: "Future[tuple[OpenFile, Reply, bytes]]") -> None:
        error = made.exception()
        if error is None:
            self._file, said, first = made.result()
        if self._closed:
            self.close()
        elif error is None:
            self._reply(said, first)
        elif isinstance(error, FolderError):
            self._exchange._redirect_to(files.with_slash(self._exchange._target), 308)
        elif isinstance(error, NoFileError):
            self._exchange._answer(answers.NO_FILE)
        elif isinstance(error, OSError):
            self._exchange._answer(failure_of(error))
        else:
            raise error

    def _reply(self, said: Reply, first: bytes) -> None:
        exchange, file = self._exchange, self._file
        assert file is not None
        if said.status == 412:
            exchange._answer(answers.PRECONDITION_FAILED)
        elif said.status == 416:
            exchange._answer(answers.RANGE_NOT_SATISFIABLE, [(b"content-range", b"bytes */%d" % file.stored.size)])
        else:
            self._send_head(said, file, first)

    def _send_head(self, said: Reply, file: OpenFile, first: bytes) -> None:
        exchange, status, size = self._exchange, said.status, file.stored.size
        headers = files.fields(self._files, file.name, file.stored, status)
        if len(said.spans) > 1:
            boundary = exchange.worker.draw_bytes(16).hex().encode()
            self._pieces, length = files.multipart(said.spans, boundary, size, headers)
        else:
            start, stop = said.spans[0] if said.spans else (0, size)
            length = stop - start
            if said.spans:
                headers.append((b"content-range", b"bytes %d-%d/%d" % (start, stop - 1, size)))
            self._pieces = [(start + len(first), stop)] if len(first) < length else []
        if status != 304:
            headers.append((b"content-length", b"%d" % length))
        exchange._response_status = status
        exchange._first_byte = exchange.worker.clock()
        exchange._complete(headers)
        self._begin(status, headers, first)

    def _begin(self, status: int, headers: Headers, first: bytes) -> None:
        exchange = self._exchange
        stream = exchange.stream
        if status == 304 or exchange.head.method == b"HEAD":
            stream.respond(status, headers, end=True)
        elif not self._pieces:
            exchange._response_bytes = len(first)
            stream.answer(status, headers, first)
        else:
            stream.respond(status, headers, end=False)
            if first:
                self._send(first)
            else:
                self._read_on()
            return
        exchange._end(status, "")
        stream.flush()

    # The body

    def _send(self, piece: bytes) -> None:
        """More is to follow."""
        exchange = self._exchange
        stream = exchange.stream
        exchange._response_bytes += len(piece)
        exchange.deadline = exchange.worker.coarse_now + exchange._silence_seconds
        stream.send_data(piece, end=False)
        stream.flush()
        if not self._closed and stream.writable:
            self._read_on()

    def _read_on(self) -> None:
        """The next piece of the file, and what stands before it."""
        file = self._file
        assert file is not None
        prefix = b""
        while self._pieces:
            piece = self._pieces.pop()
            if isinstance(piece, bytes):
                prefix += piece
                continue
            start, stop = piece
            if stop - start > PIECE_BYTES:
                self._pieces.append((start + PIECE_BYTES, stop))
                stop = start + PIECE_BYTES
            self._in_thread(partial(file.read, start, stop - start), partial(self._came, prefix, stop - start))
            return
        self._finish(prefix)

    def _came(self, prefix: bytes, count: int, made: "Future[bytes]") -> None:
        exchange = self._exchange
        if self._closed:
            self.close()
            return
        error = made.exception()
        piece = made.result() if error is None else b""
        if len(piece) < count:
            exchange._cut("the file is shorter than it was, or cannot be read", "_file")
        elif self._pieces:
            self._send(prefix + piece)
        else:
            self._finish(prefix + piece)

    def _finish(self, piece: bytes) -> None:
        exchange = self._exchange
        stream = exchange.stream
        exchange._response_bytes += len(piece)
        stream.send_data(piece, end=True)
        exchange._end(exchange._response_status, "")
        stream.flush()

    def _in_thread(self, work: Callable[[], _T], then: "Callable[[Future[_T]], None]") -> None:
        """Does it there, then goes on here."""
        worker = self._exchange.worker
        self._reading = True
        self._exchange.deadline = worker.coarse_now + self._exchange._silence_seconds

        def over(made: "Future[_T]") -> None:
            self._reading = False
            then(made)

        worker.disk.submit(work).add_done_callback(lambda made: worker.loop.call_soon_threadsafe(over, made))
