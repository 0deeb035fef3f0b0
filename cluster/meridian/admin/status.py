"""What a node knows of its cluster, in the words that the admin API answers and the command line prints.

One vocabulary for both sides: the API serialises these models and `meridian status` reads them back.
"""

from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict

# The verdict's four standings in lower case, "unknown" for a member that no verdict has named yet, and "witness" for
# one that serves nobody and is never judged.
Standing = Literal["serving", "suspect", "draining", "withdrawn", "unknown", "witness"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class StoreMember(_Frozen):
    """One server of the store, with the bytes of its file, those in use, and where it stops taking writes (0: it does
    not say)."""

    endpoint: str
    reachable: bool
    leader: bool = False
    detail: str = ""
    db_bytes: int = 0
    used_bytes: int = 0
    quota_bytes: int = 0
    alarms: tuple[str, ...] = ()


class StoreStatus(_Frozen):
    """Whether the shared state can be asked and written, and the reason if not."""

    reachable: bool
    detail: str = ""
    members: tuple[StoreMember, ...] = ()


class VerdictStatus(_Frozen):
    """Which judgement is in force here; the greater (fence, version) is the newer.

    `fallback` counts what this node merged itself upon that version while no leader was heard; else it is 0.
    """

    fence: int = 0
    version: int = 0
    fallback: int = 0


class NodeStatus(_Frozen):
    """One node. `addresses` are what DNS answers for it; http, https, dns and admin are host:port, empty if absent.

    `verdict_version` is the fenced verdict in force there, as it last told the node that answers; 0 if it told nothing.
    """

    name: str
    region: str
    standing: Standing = "unknown"
    reason: str = ""
    leader: bool = False
    addresses: tuple[str, ...] = ()
    http: str = ""
    https: str = ""
    dns: str = ""
    admin: str = ""
    config_version: int = 0
    config_refused: str = ""
    seat: int | None = None
    verdict_version: int = 0
    software: str = ""
    protocols: tuple[int, int] = (1, 1)
    capabilities: tuple[str, ...] = ()


class RegionStatus(_Frozen):
    """One region. `load` and `capacity` (None: not declared) are requests per second, as its nodes told last; `share`
    is the part (0 to 1) of the clients who come to it that it keeps.
    """

    name: str
    standing: Standing = "unknown"
    reason: str = ""
    load: float = 0.0
    capacity: float | None = None
    share: float = 1.0


class KeyStatus(_Frozen):
    """One published key of a signed zone. `ds` is its record for the parent, where only what is `offered` belongs."""

    id: str
    role: str
    tag: int
    signs_keys: bool
    signs_zone: bool
    offered: bool
    dnskey: str
    ds: str


class ZoneKeysStatus(_Frozen):
    """A signed zone's keys. `until` is when the state changes by itself, ISO 8601, empty if it waits for a person."""

    zone: str
    algorithm: int
    state: str
    until: str
    next_step: str
    keys: tuple[KeyStatus, ...]


class WorkerStatus(_Frozen):
    """One worker of the node that answers."""

    kind: str
    slot: int
    pid: int = 0
    config_version: int = 0


class LimitStatus(_Frozen):
    """One limit, of the whole cluster; from `borrowed_tokens` on, of the workers of the node that answers.

    While it changes, the lesser of it and `next_rate_per_second`, `next_burst` is in force, and `waits_for` names the
    nodes that have not acknowledged that yet.
    """

    name: str
    rate_per_second: float
    burst: int
    next_rate_per_second: float | None = None
    next_burst: int | None = None
    waits_for: tuple[str, ...] = ()
    borrowed_tokens: float = 0.0
    lent_tokens: float = 0.0
    admitted: int = 0
    refused: int = 0


class SeatStatus(_Frozen):
    """Of all seats of limits, how many this node may spend now, and what keeps it from more."""

    home: int = 0
    leased: int = 0
    detail: str = ""


class CertificateStatus(_Frozen):
    """A certificate that the cluster obtains. Times are ISO 8601, empty if there is none. `reason`: why there is none
    yet, or why the next one is late; `try_at` is when it is tried again."""

    hosts: tuple[str, ...]
    authority: str
    state: Literal["valid", "expired", "missing"]
    not_after: str = ""
    renew_at: str = ""
    reason: str = ""
    try_at: str = ""


class RolloutStatus(_Frozen):
    """A document on its way, or how the last one ended: `stage` is checking, canary, region, done or undone.

    Of the present stage: exchanges, and how many failed, of the candidate and of the version in force.
    """

    candidate: int
    base: int
    stage: str
    detail: str = ""
    author: str = ""
    message: str = ""
    at: str = ""
    ended: str = ""
    canaries: tuple[str, ...] = ()
    region: str = ""
    min_exchanges: int = 0
    candidate_exchanges: int = 0
    candidate_failed: int = 0
    current_exchanges: int = 0
    current_failed: int = 0

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return bool(self.ended)


class Status(_Frozen):
    """Everything at a glance. `leader` is a node's name or empty; `config_version` is the current one, 0 if none.

    `config_from_disk`: the node that answers serves its own copy, since it has not reached the store yet.
    `store_writes_per_second` are that node's, of all stores, keep-alives of leases too; 0 of a store in memory.
    """

    cluster: str
    node: str
    store: StoreStatus
    leader: str = ""
    verdict: VerdictStatus = VerdictStatus()
    config_version: int = 0
    config_from_disk: bool = False
    rollout: RolloutStatus | None = None
    nodes: tuple[NodeStatus, ...] = ()
    regions: tuple[RegionStatus, ...] = ()
    workers: tuple[WorkerStatus, ...] = ()
    regional_store: StoreStatus | None = None  # of members, where that is another one
    store_writes_per_second: float = 0.0
    warnings: tuple[str, ...] = ()  # each with its remedy
    speaks: tuple[str, ...] = ()  # the capabilities that every node has
    seats: SeatStatus = SeatStatus()
    limits: tuple[LimitStatus, ...] = ()
    certificates: tuple[CertificateStatus, ...] = ()


def why_not_ready(status: Status) -> str | None:
    """Returns why no new clients should be sent to the node that answers; None if they may."""
    own = next((node for node in status.nodes if node.name == status.node), None)
    gateways = [worker for worker in status.workers if worker.kind == "gateway"]
    if not any(worker.config_version for worker in gateways):
        return "no gateway worker serves a document yet"
    if own is not None and own.standing in ("draining", "withdrawn"):
        region = next((region for region in status.regions if region.name == own.region), None)
        if region is not None and region.standing == own.standing == "draining" and region.share > 0.0:
            return None  # it leaves in steps, and is not gone yet
        return f"this node is {own.standing}"
    return None


def laggards(status: Status, version: int) -> Iterator[NodeStatus]:
    """Yields the nodes that do not serve `version` or a later one yet, those that refused it included.

    A withdrawn node is not waited for: nothing goes to it, and it catches up before it is judged serving again.
    """
    for node in status.nodes:
        if node.standing != "withdrawn" and node.config_version < version:
            yield node
