"""The tiny log writer of launcher and workers: JSON lines on stderr. (The agent logs through structlog.)

A worker's stderr is a pipe that the launcher always reads, so that writing does not block for long.
"""

import contextlib
import json
import os

from meridian.nodes import clock


def line(level: str, event: str, **fields: object) -> bytes:
    """Returns one log line with its line feed."""
    entry = {"time": clock.timestamp(), "level": level, "event": event, **fields}
    return json.dumps(entry, default=str, separators=(",", ":")).encode() + b"\n"


def log(level: str, event: str, **fields: object) -> None:
    """Writes one line to stderr. A launcher that is gone takes the line with it: that is no reason to fail."""
    with contextlib.suppress(OSError):
        os.write(2, line(level, event, **fields))
