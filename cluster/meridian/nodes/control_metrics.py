"""The control plane's state as metrics."""

from meridian.control.status import ControlStatus
from meridian.telemetry.export import SpanExport
from meridian.telemetry.metrics import IN_FORCE, MERGED, Series


def control_series(status: ControlStatus, export: SpanExport) -> list[Series]:
    """Of the control plane, and of the spans that leave this node."""
    counts = export.counts
    regions = [
        Series(name, "gauge", help, {"region": region.name}, value)
        for region in status.verdict.regions.values()
        for load in (status.loads[region.name],)
        for name, help, value in (
            ("meridian_region_load", "Requests per second that it serves, as its nodes told last.", load.load),
            ("meridian_region_capacity", "Requests per second that it declares to carry.", load.capacity),
            ("meridian_region_share", "Part of the clients who come to it that it keeps.", region.part),
        )
        if value is not None
    ]
    return [
        *regions,
        _gauge("meridian_store_reachable", "Whether etcd answers.", status.store.reachable and status.store.leader),
        _gauge("meridian_store_warnings", "What the store's files need; status says what.", len(status.upkeep)),
        *_store_sizes(status),
        *_store_writes(status),
        _gauge("meridian_leader", "Whether this node leads.", status.leads),
        _gauge("meridian_verdict_version", IN_FORCE, status.verdict.version),
        _gauge("meridian_verdict_fallback", MERGED, status.verdict.fallback),
        _gauge("meridian_config_version", "The document in force here.", status.config_version),
        _gauge("meridian_config_current", "The document in force in the cluster.", status.config_current),
        _gauge("meridian_config_from_disk", "Whether it is this node's own copy.", status.config_from_disk),
        _gauge("meridian_rollout", "Whether a rollout is on its way.", status.rollout_runs),
        _gauge(
            "meridian_limit_seats",
            "Seats of all limits that this node may spend.",
            status.seats_home + status.seats_leased,
        ),
        _counter("meridian_spans_exported_total", "Spans that arrived.", counts.exported),
        _counter("meridian_spans_export_dropped_total", "Spans dropped on the way out.", counts.dropped),
        _counter("meridian_span_export_failures_total", "Sends that failed.", counts.failures),
    ]


def _store_sizes(status: ControlStatus) -> list[Series]:
    help = "Bytes of a store member's file."
    stores = [status.store] if status.regional is None else [status.store, status.regional]
    return [
        Series("meridian_store_db_bytes", "gauge", help, {"member": member.endpoint}, float(member.db_bytes))
        for store in stores
        for member in store.members
        if member.reachable
    ]


def _store_writes(status: ControlStatus) -> list[Series]:
    help = "What this node asked a store to write, keep-alives of leases too."
    stores = {"global": status.store} | ({"regional": status.regional} if status.regional is not None else {})
    return [
        Series("meridian_store_writes_total", "counter", help, {"store": name}, float(store.writes))
        for name, store in stores.items()
    ]


def _gauge(name: str, help: str, value: float) -> Series:
    return Series(name, "gauge", help, {}, float(value))


def _counter(name: str, help: str, value: int) -> Series:
    return Series(name, "counter", help, {}, float(value))
