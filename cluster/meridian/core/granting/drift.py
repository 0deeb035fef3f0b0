"""Whether this machine's clock keeps the promise that seats and loans rest on: within `Cut.drift` of true time.

NTP bends the clock that everything here is timed by. The oscillator under it is within some 0.01 % of true time, so
what the one gains on the other is the error. Beyond half of what is promised the machine keeps to its home seats.
"""

from dataclasses import dataclass

WATCHED_SECONDS = 10.0  # over which a rate is taken: reading both clocks takes microseconds, so this is exact to 1e-6


@dataclass(frozen=True, slots=True)
class Drift:
    """What was read last, and what was concluded of it."""

    steered: float
    raw: float
    bad: bool = False

    def look(self, steered: float, raw: float, drift_max: float) -> "Drift":
        """Takes a reading of both clocks, in seconds; judges when enough time has passed since the last."""
        passed = raw - self.raw
        if passed < WATCHED_SECONDS:
            return self
        return Drift(steered, raw, abs((steered - self.steered) / passed - 1.0) > drift_max / 2)
