"""The one place that reads clocks for production code; everything else takes `now` as an argument.

CLOCK_BOOTTIME goes on while the machine is suspended, so that a node that slept through its lease knows it.
"""

import time
from datetime import UTC, datetime
from pathlib import Path


def now() -> float:
    """Seconds since the machine's boot, sleep included (CLOCK_BOOTTIME). Never goes back."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def rates() -> tuple[float, float]:
    """Seconds of the clock that NTP steers, and of the one that nothing steers (CLOCK_MONOTONIC and its RAW), read
    together: what one gains on the other is how far this machine's time is being bent."""
    return time.clock_gettime(time.CLOCK_MONOTONIC), time.clock_gettime(time.CLOCK_MONOTONIC_RAW)


def unix_nanoseconds() -> int:
    """Nanoseconds since 1970, for spans, logs and the calendar of quotas only: this clock may be set back."""
    return time.time_ns()


def unix_seconds() -> float:
    """Seconds since 1970: `unix_nanoseconds`, for what outlasts processes and machines (keys, secrets of cookies)."""
    return unix_nanoseconds() / 1e9


def boot_id() -> str:
    """Which boot of the machine this is: `now` of two boots cannot be compared."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def timestamp() -> str:
    """The present wall-clock time as ISO 8601 with milliseconds, for logs and for the history of versions."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
