"""Days and months of a time zone, as intervals of Unix time."""

from datetime import datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

PeriodName = Literal["day", "month"]


def period_of(unix_seconds: float, period: PeriodName, zone: ZoneInfo) -> tuple[float, float]:
    """The beginning and the end of the day or month that holds a moment. A day may have 23 or 25 hours."""
    here = datetime.fromtimestamp(unix_seconds, zone)
    start = here.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if period == "day":
        following = start + timedelta(days=1)  # of the wall clock: not always 24 hours
    else:
        start = start.replace(day=1)
        following = (start + timedelta(days=32)).replace(day=1)
    return start.timestamp(), following.timestamp()
