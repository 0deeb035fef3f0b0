"""Files below a folder, opened so that no name leads out of it. All of this blocks, so it runs in threads
(gateway/files).

Invariant: what is opened lies below the folder as it is then. The kernel says where it has ended up (/proc/self/fd) of
a descriptor that cannot be read (O_PATH), so that there is no moment at which a link could be changed, and no device is
opened on the way.
"""

import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from meridian.core.files import EXTENSIONS, Files, Stored

THREADS = 4
"""Of one worker. A disk answers several at once better than one after the other; with more they wait for each other's
turn at the interpreter: 8 served no more than 4."""


class FolderError(Exception):
    """A folder is there, and was asked for as a file."""


class NoFileError(Exception):
    """There is no such file, or none that may be shown."""


@dataclass(slots=True)
class OpenFile:
    """One to be read, closed by who has it. `name` is that of the file without a coding, below root."""

    descriptor: int
    name: bytes
    stored: Stored

    def read(self, offset: int, count: int) -> bytes:
        """Fewer only where the file has become shorter. Raises OSError."""
        pieces = []
        while count and (piece := os.pread(self.descriptor, count, offset)):
            pieces.append(piece)
            count -= len(piece)
            offset += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Once."""
        os.close(self.descriptor)


def threads() -> ThreadPoolExecutor:
    """Those that touch the disk. They begin when they are first needed."""
    return ThreadPoolExecutor(THREADS, "disk")


def find(files: Files, path: bytes, codings: Sequence[bytes]) -> OpenFile:
    """The file at `path` (see core.files.path_of), or one in a coding that the client takes. Raises FolderError,
    NoFileError, and OSError for what is there and cannot be read, such as root itself."""
    root = os.open(files.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _find(root, files, path, codings)
    finally:
        os.close(root)


def _find(root: int, files: Files, path: bytes, codings: Sequence[bytes]) -> OpenFile:
    if path and not path.endswith(b"/"):
        return _representation(root, path, codings)
    for name in files.index:
        with suppress(NoFileError, FolderError):
            return _representation(root, path + name, codings)
    raise NoFileError


def _representation(root: int, path: bytes, codings: Sequence[bytes]) -> OpenFile:
    plain = _below(root, path)
    try:
        found = os.fstat(plain)
        if stat.S_ISDIR(found.st_mode):
            raise FolderError
        if not stat.S_ISREG(found.st_mode):
            raise NoFileError
        for coding in codings:
            with suppress(NoFileError):
                return _in_coding(root, path, coding)
        return OpenFile(_readable(plain), path, Stored(found.st_size, found.st_mtime_ns))
    finally:
        os.close(plain)


def _in_coding(root: int, path: bytes, coding: bytes) -> OpenFile:
    encoded = _below(root, path + EXTENSIONS[coding.decode()])
    try:
        found = os.fstat(encoded)
        if not stat.S_ISREG(found.st_mode):
            raise NoFileError
        return OpenFile(_readable(encoded), path, Stored(found.st_size, found.st_mtime_ns, coding))
    finally:
        os.close(encoded)


def _below(root: int, path: bytes) -> int:
    """A descriptor that stands for what is there. Raises NoFileError, also for what lies outside."""
    try:
        found = os.open(path, os.O_PATH | os.O_CLOEXEC, dir_fd=root)
    except PermissionError:
        raise
    except OSError as error:  # none of these says more than that: ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG
        raise NoFileError from error
    try:
        inside = _place(root).rstrip(b"/") + b"/"
        if not _place(found).startswith(inside):
            raise NoFileError
    except BaseException:
        os.close(found)
        raise
    return found


def _place(descriptor: int) -> bytes:
    return os.readlink(b"/proc/self/fd/%d" % descriptor)  # noqa: PTH115 # names are bytes, and pathlib knows text


def _readable(descriptor: int) -> int:
    return os.open(b"/proc/self/fd/%d" % descriptor, os.O_RDONLY | os.O_CLOEXEC)
