"""The door of the `meridian` command; all its code is read behind it.

A command lives for half a second, and half of its computing was the collector's, which walked what imports make and
found nothing to throw away. So it is off while code is read, looks seldom from then on, and not at all at the end: what
a process leaves behind, the system takes back.
"""

import atexit
import gc
from typing import NoReturn

OBJECTS = 100_000  # made between two looks; `meridian serve` sets its own number (nodes/compiling)


def main() -> NoReturn:
    """Runs the command line and exits."""
    gc.disable()
    from meridian.cli.main import main as run

    gc.set_threshold(OBJECTS, 20, 100)
    gc.enable()
    atexit.register(gc.freeze)
    run()
