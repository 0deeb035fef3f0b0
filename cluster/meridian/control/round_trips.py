"""How far this node is from the other regions, by the connections with which it probes their nodes.

Probing makes a connection to the address that DNS publishes twice a second anyway, and the kernel times its round trip:
not a packet more, and neither this process' load nor the other's is in the figure.
"""

from collections import deque
from collections.abc import Mapping
from statistics import median_low

from meridian.core.distances import REGIONS_MAX, is_round_trip

KEPT = 21  # of each node: some ten seconds
NEEDED = 5  # before anything is told; the first connection may have had to find its way


class RoundTrips:
    """The last round trips to each node that is probed, known by its host."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[float]] = {}
        self._regions: Mapping[str, str] = {}

    def follow(self, regions: Mapping[str, str]) -> None:
        """Replaces the hosts whose round trips count, each with its region."""
        self._regions = regions
        self._seen = {host: self._seen.get(host, deque(maxlen=KEPT)) for host in regions}

    def note(self, host: str, seconds: float) -> None:
        """One more was timed; of a host that is not followed it is let go."""
        if (seen := self._seen.get(host)) is not None and is_round_trip(seconds):
            seen.append(seconds)

    def by_region(self) -> dict[str, float]:
        """Returns, in seconds, the median to the nearest node of each region that is known well enough."""
        found: dict[str, float] = {}
        for host, seen in self._seen.items():
            region = self._regions[host]
            if len(seen) >= NEEDED and (region in found or len(found) < REGIONS_MAX):
                found[region] = min(median_low(seen), found.get(region, float("inf")))
        return found
