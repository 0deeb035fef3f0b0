"""Split horizon: which clients are answered from which zones. Each view has a fast path of its own, so that none of its
answers can reach clients of another.

It goes by the address that a query comes from, which a resolver cannot pass on for others: client subnets (RFC 7871)
are for steering only.
"""

from collections.abc import Mapping

from meridian_dns.fastpath import FastPath
from meridian_dns.zone import ZoneSet

CLIENTS_MAX = 50_000  # addresses whose view is kept; about 200 bytes each


class Split:
    """The paths of all views, and the one for clients of none."""

    def __init__(self, zones: ZoneSet, paths: Mapping[str, FastPath], others: FastPath) -> None:
        self._zones = zones
        self._paths = {**paths, "": others}
        self._found: dict[str, FastPath] = {}

    def path_of(self, source: str) -> FastPath:
        """The path of a client, by its textual address."""
        found = self._found.get(source)
        if found is None:
            if len(self._found) >= CLIENTS_MAX:
                self._found.clear()
            found = self._found[source] = self._paths[self._zones.view_of(source)]
        return found
