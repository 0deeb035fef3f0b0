"""Verdicts and reports between core and proto. Workers use this too, so nothing here imports grpc.

Times travel as ages: `now` is the clock of whoever encodes or decodes. Who needs none (a worker) leaves it out.

Unknown numbers of an enum, from a newer node, are read as the harmless value: sights as unknown, standings as serving.
"""

from collections.abc import Mapping
from itertools import islice
from math import inf, isfinite
from typing import Any, cast

from meridian.core.distances import REGIONS_MAX, is_round_trip
from meridian.core.health import Sight
from meridian.core.standings import Distance, NodeVerdict, RegionVerdict, Report, Standing, Verdict
from meridian_proto.v1 import health_pb2 as pb

# The stubs give enum types to fields that hold plain integers: hence the casts below.

_STANDINGS = {standing.value: standing for standing in Standing}
_SIGHTS = {sight.value: sight for sight in Sight}


def verdict_to_proto(verdict: Verdict, now: float = 0.0) -> pb.Verdict:
    """Returns the message; nodes and regions in order of name, so that equal verdicts have equal bytes."""
    nodes = [
        pb.NodeVerdict(
            name=node.name,
            region=node.region,
            addresses=node.addresses,
            standing=cast("pb.Standing", node.standing.value),
            reason=node.reason,
            age_seconds=max(0.0, now - node.changed),
            penalty=node.penalty,
            keeps=node.keeps,
        )
        for _, node in sorted(verdict.nodes.items())
    ]
    regions = [
        pb.RegionVerdict(
            name=region.name,
            standing=cast("pb.Standing", region.standing.value),
            reason=region.reason,
            age_seconds=max(0.0, now - region.changed),
            share=region.share,
            demand=region.demand,
            moved_seconds=max(0.0, now - region.moved) if isfinite(region.moved) else None,
        )
        for _, region in sorted(verdict.regions.items())
    ]
    return pb.Verdict(
        fence=verdict.fence,
        version=verdict.version,
        nodes=nodes,
        regions=regions,
        leader=verdict.leader,
        fallback=verdict.fallback,
        distances=[
            pb.Distance(one=one, other=other, seconds=held.seconds, age_seconds=max(0.0, now - held.taken))
            for (one, other), held in sorted(verdict.distances.items())
        ],
    )


def verdict_from_proto(message: pb.Verdict, now: float = 0.0) -> Verdict:
    """Returns the verdict that `verdict_to_proto` made."""
    nodes = {
        node.name: NodeVerdict(
            node.name,
            node.region,
            tuple(node.addresses),
            _STANDINGS.get(node.standing, Standing.SERVING),
            node.reason,
            now - node.age_seconds,
            node.penalty,
            node.keeps,
        )
        for node in message.nodes
    }
    regions = {
        region.name: RegionVerdict(
            region.name,
            _STANDINGS.get(region.standing, Standing.SERVING),
            region.reason,
            now - region.age_seconds,
            region.share if region.HasField("share") else None,
            region.demand,
            now - region.moved_seconds if region.HasField("moved_seconds") else -inf,
        )
        for region in message.regions
    }
    distances = {
        (held.one, held.other): Distance(held.seconds, now - held.age_seconds)
        for held in message.distances
        if is_round_trip(held.seconds)
    }
    return Verdict(message.fence, message.version, nodes, regions, message.leader, message.fallback, distances)


def beat_to_proto(fence: int, version: int) -> pb.Verdict:
    """Returns a leader's sign of life: the verdict's number without its content, some twenty bytes."""
    return pb.Verdict(fence=fence, version=version, beat=True)


def encode_verdict(verdict: Verdict, now: float = 0.0, *, over: bytes = b"") -> bytes:
    """Returns the bytes kept in the store, `over` those of the verdict before it.

    Fields that this software does not know, of a newer leader's, are kept: of the whole, and of each node and region
    that is still named.
    """
    message = verdict_to_proto(verdict, now)
    before = pb.Verdict.FromString(over)
    for news, olds in ((message.nodes, before.nodes), (message.regions, before.regions)):
        unknown = {old.name: _unknown(old) for old in olds}
        for entry in news:
            entry.MergeFromString(unknown.get(entry.name, b""))
    message.MergeFromString(_unknown(before))
    return bytes(message.SerializeToString(deterministic=True))


def _unknown(message: Any) -> bytes:
    """Returns the fields of a message that this software's .proto does not name. Changes the message."""
    for field in message.DESCRIPTOR.fields:
        message.ClearField(field.name)
    return bytes(message.SerializeToString(deterministic=True))


def decode_verdict(value: bytes, now: float = 0.0) -> Verdict:
    """Reads what `encode_verdict` wrote; raises google.protobuf.message.DecodeError."""
    return verdict_from_proto(pb.Verdict.FromString(value), now)


def report_to_proto(report: Report, age_seconds: float) -> pb.Report:
    """Returns the message, made `age_seconds` ago."""
    return pb.Report(
        observer=report.observer,
        region=report.region,
        node_id=report.node_id,
        epoch=report.epoch,
        sequence=report.sequence,
        nodes={name: cast("pb.Sight", sight.value) for name, sight in report.sights.items()},
        draining=report.draining,
        age_seconds=age_seconds,
        serving=report.serving,
        heard=report.heard,
        dark=sorted(report.dark),
        withdrawn=sorted(report.withdrawn),
        witness=report.witness,
        fence=report.fence,
        version=report.version,
        load=report.load,
        capacity=report.capacity,
        round_trips=report.round_trips,
    )


def report_from_proto(message: pb.Report) -> Report:
    """Returns the report that `report_to_proto` made."""
    return Report(
        observer=message.observer,
        region=message.region,
        node_id=message.node_id,
        epoch=message.epoch,
        sequence=message.sequence,
        sights={name: _SIGHTS.get(sight, Sight.UNKNOWN) for name, sight in message.nodes.items()},
        draining=message.draining,
        serving=message.serving,
        age_seconds=max(0.0, message.age_seconds),
        heard=dict(message.heard),
        dark=frozenset(message.dark),
        withdrawn=frozenset(message.withdrawn),
        witness=message.witness,
        fence=message.fence,
        version=message.version,
        load=message.load,
        capacity=message.capacity,
        round_trips=_round_trips(message.round_trips),
    )


def _round_trips(told: Mapping[str, float]) -> dict[str, float]:
    """What of it can be one, at most of as many regions as are surveyed."""
    found = ((region, seconds) for region, seconds in told.items() if is_round_trip(seconds))
    return dict(islice(found, REGIONS_MAX))
