"""What the admin API asks of the node it is mounted in: the seam between HTTP and the agent."""

from collections.abc import Sequence
from typing import Literal, Protocol

from pydantic import BaseModel

from meridian.admin.explained import DnsExplanation, RequestExplanation, RequestQuestion, ZoneCheck
from meridian.admin.status import Status, ZoneKeysStatus
from meridian.control.backup import Made, Restored
from meridian.control.configuration import Configuration
from meridian.control.upkeep import Defragmented
from meridian.core.purging import Purge

RoleName = Literal["csk", "ksk", "zsk"]


class ZoneDesk(Protocol):
    """What a node says of its zones and answers, from memory. Implemented by nodes/dns_explainer."""

    async def explain(self, name: str, type_: str, client: str) -> DnsExplanation:
        """How this node answers a DNS question. `client` is an address, a network that a resolver passed on, or empty.

        Raises admin.explained.CannotExplain.
        """
        ...

    async def check(self, zone: str, of_view: str = "") -> ZoneCheck:
        """What is to be said of a zone as it is served now, to clients of a view or of none.

        Raises admin.explained.UnknownZone.
        """
        ...

    async def export(self, zone: str, of_view: str = "") -> str:
        """A zone as a standard zone file, likewise. Raises admin.explained.UnknownZone."""
        ...


class RequestDesk(Protocol):
    """What a node says of requests. Implemented by nodes/request_explainer."""

    async def explain(self, question: RequestQuestion) -> RequestExplanation:
        """What a gateway worker of this node would do with a request. Raises admin.explained.CannotExplain."""
        ...


class CannotUpgrade(Exception):
    """Why this node does not begin an upgrade now."""


class UpgradeReport(BaseModel):
    """How the last upgrade of a node stands."""

    number: int = 0  # since the node started
    state: Literal["none", "preparing", "draining", "over", "failed"] = "none"
    reason: str = ""  # why it failed
    old_version: str = ""
    new_version: str = ""
    agent: str = ""
    workers: int = 0
    draining: int = 0  # old workers that still finish
    connections: int = 0  # that they had when the new ones took over, of those that have finished
    cut: int = 0  # of them
    lost: int = 0  # old workers that ended without a word


class UpgradeDesk(Protocol):
    """Upgrades of one node. Implemented by nodes/upgrade_desk."""

    async def begin(self, seconds: float) -> UpgradeReport:
        """Starts one; connections have `seconds` to end. Raises CannotUpgrade."""
        ...

    def report(self) -> UpgradeReport:
        """How the last one stands."""
        ...


class Panel(Protocol):
    """Implemented by nodes/. Nothing here may wait for the store except where it says so."""

    @property
    def configuration(self) -> Configuration:
        """The cluster's versioned document."""
        ...

    @property
    def zones(self) -> ZoneDesk:
        """What the node says of its zones."""
        ...

    @property
    def requests(self) -> RequestDesk:
        """What the node says of requests."""
        ...

    @property
    def upgrades(self) -> UpgradeDesk:
        """New code for this node's processes."""
        ...

    def status(self) -> Status:
        """What this node knows now, at once and from memory: it must answer while the store is away."""
        ...

    async def drain(self, name: str, on: bool, *, force: bool = False) -> None:
        """Orders a node or a region to leave (`on`) or to come back; writes to the store. Force: also the last.

        The name is one that `status` knows. Raises control.drains.DrainRefused or store.port.StoreError.
        """
        ...

    async def defragment(self) -> Sequence[Defragmented]:
        """Makes the store's files small, one member at a time. Raises store.port.StoreError."""
        ...

    async def back_up(self) -> tuple[Made, bytes]:
        """A backup of what is in the store. Raises control.backup.BackupError, store.port.StoreError."""
        ...

    async def restore(self, raw: bytes, *, author: str, force: bool) -> Restored:
        """Puts a backup into the store. Raises control.backup.BackupError or NotEmpty, store.port.StoreError."""
        ...

    async def purge(self, order: Purge) -> int:
        """Lets all gateway workers forget answers that they keep; returns the order's number. Raises StoreError."""
        ...

    async def settle_limits(self) -> None:
        """Ends limits' wait after a restore. Raises control.seat_orders.SeatsRefused, store.port.StoreError."""
        ...

    async def free_seats(self, node: str) -> int:
        """Takes the home seats of a machine that is off for good; returns how many. Raises as `settle_limits`."""
        ...

    async def metrics(self) -> str:
        """All series of this node and its workers in Prometheus' text format (version 0.0.4)."""
        ...

    def zone_keys(self, zone: str) -> ZoneKeysStatus:
        """The keys of a signed zone, from memory. Raises control.zone_keys.NotSigned."""
        ...

    async def tell_zone_keys(self, zone: str, word: RoleName | Literal["seen", "gone"]) -> None:
        """Rolls the key of a role, or says what the parent was seen to do; writes to the store.

        Raises control.zone_keys.NotSigned, control.zone_keys.KeysRefused or store.port.StoreError.
        """
        ...
