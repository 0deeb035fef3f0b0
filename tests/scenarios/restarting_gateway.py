"""A gateway worker whose swap is broken on purpose: a new document ends all connections, as a naive reload does.

The test of applying under load is run against it too, and has to go red.
"""

from meridian.core.snapshot import Snapshot
from meridian.nodes.child import Birth
from meridian.nodes.gateway_worker import GatewayDuties
from meridian.nodes.worker import run_worker


class RestartingDuties(GatewayDuties):
    """See the module's head."""

    def _put_in_force(self, snapshot: Snapshot) -> None:
        if self._gateway is not None:
            for connection in tuple(self._gateway._connections):
                connection.cut()
        super()._put_in_force(snapshot)


def main(birth: Birth) -> int:
    """Runs the worker."""
    return run_worker(birth, lambda: RestartingDuties(birth.settings, birth.slot, birth.secret))
