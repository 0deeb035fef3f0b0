"""`meridian apply --follow`: a document is applied again whenever it, or a file that it names, has changed.

For certificates that something renews on this machine. What is broken is said and changes nothing: files are looked at
again when they change once more, so that a chain and its key may be written one after the other.
"""

from collections.abc import Callable
from pathlib import Path

from meridian.cli.documents import parse, read_text
from meridian.cli.errors import CommandError, Mistake
from meridian.cli.output import note, show_error
from meridian.cli.processes import pause

LOOK_SECONDS = 1.0

Stamp = tuple[int, int, int]


def follow_files(path: Path, apply: Callable[[], None], *, as_json: bool) -> None:
    """Calls `apply`, and again after each change; returns only by Ctrl-C."""
    while True:
        files = _files_of(path)
        seen = [_stamp(file) for file in files]
        try:
            apply()
        except CommandError as error:
            show_error(error, as_json)
        note(f"following {len(files)} files; Ctrl-C ends it")
        while [_stamp(file) for file in files] == seen:
            pause(LOOK_SECONDS)


def _files_of(path: Path) -> list[Path]:
    """The document, and what it names, if it can be read."""
    try:
        document = parse(path, read_text(path))
    except Mistake:
        return [path]
    return [path, *(path.parent / name for _, name in document.files())]


def _stamp(file: Path) -> Stamp:
    """What changes when a file is written or replaced; zeros while it is missing."""
    try:
        stat = file.stat()
    except OSError:
        return (0, 0, 0)
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino)
