"""What a node knows of its cluster, from the control room's words into the admin API's. Pure."""

from collections.abc import Sequence

from meridian.admin.rollouts import rollout_status
from meridian.admin.status import (
    CertificateStatus,
    LimitStatus,
    NodeStatus,
    RegionStatus,
    SeatStatus,
    Standing,
    Status,
    StoreMember,
    StoreStatus,
    VerdictStatus,
    WorkerStatus,
)
from meridian.control import status as control_status
from meridian.control.members import Endpoints, MemberRecord
from meridian.control.status import ControlStatus
from meridian.core import verdicts
from meridian.nodes.crew import WorkerState
from meridian.store.port import StoreHealth

_STANDINGS: dict[verdicts.Standing, Standing] = {
    verdicts.Standing.SERVING: "serving",
    verdicts.Standing.SUSPECT: "suspect",
    verdicts.Standing.DRAINING: "draining",
    verdicts.Standing.WITHDRAWN: "withdrawn",
}


def build_status(
    cluster: str,
    control: ControlStatus,
    workers: Sequence[WorkerState],
    certificates: tuple[CertificateStatus, ...] = (),
) -> Status:
    """Everything at a glance: members of the store and nodes of the verdict, whoever knows them."""
    members = {member.name: member for member in control.members}
    names = sorted(members.keys() | control.verdict.nodes.keys())
    return Status(
        cluster=cluster,
        node=control.node,
        store=_store(control.store),
        regional_store=_store(control.regional) if control.regional is not None else None,
        store_writes_per_second=control.store_writes_per_second,
        warnings=((control.join_refused,) if control.join_refused else ()) + control.upkeep,
        speaks=tuple(sorted(control.speaks.capabilities)),
        leader=control.leader,
        verdict=VerdictStatus(
            fence=control.verdict.fence, version=control.verdict.version, fallback=control.verdict.fallback
        ),
        config_version=control.config_current or control.config_version,
        config_from_disk=control.config_from_disk,
        rollout=rollout_status(control.rollout),
        nodes=tuple(_node(name, members.get(name), control) for name in names),
        regions=tuple(
            RegionStatus(
                name=region.name,
                standing=_STANDINGS[region.standing],
                reason=region.reason,
                load=control.loads[region.name].load,
                capacity=control.loads[region.name].capacity,
                share=region.part,
            )
            for region in control.verdict.regions.values()
        ),
        workers=tuple(
            WorkerStatus(kind=worker.kind, slot=worker.slot, pid=worker.pid, config_version=worker.config_version)
            for worker in workers
            if worker.connected
        ),
        seats=SeatStatus(home=control.seats_home, leased=control.seats_leased, detail=control.seat_detail),
        limits=tuple(_limit(limit, workers) for limit in control.limits),
        certificates=certificates,
    )


def _limit(limit: control_status.LimitStatus, workers: Sequence[WorkerState]) -> LimitStatus:
    def total(name: str, **labels: str) -> float:
        wanted = {"limit": limit.name, **labels}.items()
        return sum(
            one.value
            for worker in workers
            for one in worker.series
            if one.name == name and one.labels.items() >= wanted
        )

    return LimitStatus(
        name=limit.name,
        rate_per_second=limit.current.rate_per_second,
        burst=limit.current.burst,
        next_rate_per_second=limit.following.rate_per_second if limit.following else None,
        next_burst=limit.following.burst if limit.following else None,
        waits_for=limit.blocking,
        borrowed_tokens=total("meridian_limit_borrowed_tokens"),
        lent_tokens=total("meridian_limit_lent_tokens"),
        admitted=int(total("meridian_limit_decisions_total", outcome="admitted")),
        refused=int(total("meridian_limit_decisions_total", outcome="refused")),
    )


def _node(name: str, member: MemberRecord | None, control: ControlStatus) -> NodeStatus:
    judged = control.verdict.nodes.get(name)
    endpoints = member.endpoints if member is not None else Endpoints()
    witness = member is not None and member.witness
    return NodeStatus(
        name=name,
        region=member.region if member is not None else judged.region if judged is not None else "",
        standing=_STANDINGS[judged.standing] if judged is not None else "witness" if witness else "unknown",
        reason=judged.reason if judged is not None else "" if witness else "no verdict has named it yet",
        leader=name == control.leader,
        addresses=judged.addresses if judged is not None else member.addresses if member is not None else (),
        http=endpoints.http,
        https=endpoints.https,
        dns=endpoints.dns,
        admin=endpoints.admin,
        config_version=member.config_version if member is not None else 0,
        config_refused=member.config_refused if member is not None else "",
        seat=member.seat if member is not None else None,
        verdict_version=control.in_force.get(name, 0),
        software=member.software if member is not None else "",
        protocols=member.protocols if member is not None else (1, 1),
        capabilities=member.capabilities if member is not None else (),
    )


def _store(health: StoreHealth) -> StoreStatus:
    members = tuple(
        StoreMember(
            endpoint=member.endpoint,
            reachable=member.reachable,
            leader=member.leads,
            detail=member.detail,
            db_bytes=member.db_bytes,
            used_bytes=member.used_bytes,
            quota_bytes=member.quota_bytes,
            alarms=member.alarms,
        )
        for member in health.members
    )
    return StoreStatus(reachable=health.reachable and health.leader, detail=health.detail, members=members)
