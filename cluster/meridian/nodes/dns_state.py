"""From the document and the verdict to what the DNS library answers from. Pure.

Invariant 5 at this seam: what the verdict does not speak about is answered as the document says it (fail open); the
library then never answers an empty set for a name that has endpoints.
"""

from collections.abc import Iterator, Sequence

from meridian.core import model
from meridian.core.verdicts import NodeVerdict, Standing, Verdict
from meridian_dns.steering import Steer
from meridian_dns.view import Member, Region, RegionView
from meridian_dns.zone import RecordSpec, Zone, ZoneSet, build_zone

_PUBLISHED = (Standing.SERVING, Standing.SUSPECT)
NO_STEERING = model.Steering()
SERIAL_MODULUS = 2**32  # of the SOA's serial, RFC 1035 section 3.3.13


def build_zones(zones: Sequence[model.Zone], version: int) -> ZoneSet:
    """The zones at one version of the document, which is their serial. Raises meridian_dns.zone.ZoneError."""
    return ZoneSet([_zone(zone, version) for zone in zones])


def build_view(
    regions: Sequence[model.Region],
    verdict: Verdict,
    own: NodeVerdict,
    now: float = 0.0,
    steering: model.Steering = NO_STEERING,
) -> RegionView:
    """All regions of the document, then those that only the verdict knows; who is in doubt at `now` (node's clock).

    `own` is this node as it would describe itself. Before the first verdict (version 0) it is the only member known,
    and every region that has addresses in the document serves.
    """
    nodes = list(verdict.nodes.values()) if verdict.version else [own]
    described = {region.name: region for region in regions}
    names = list(described) + sorted({node.region for node in nodes} - described.keys())
    return RegionView(
        verdict.version,
        {
            name: _region(
                described.get(name) or model.Region(name=name),
                verdict,
                [n for n in nodes if n.region == name],
                now - steering.doubt_lasts_seconds,
            )
            for name in names
        },
        verdict.fallback,
        steering.doubt_ttl_seconds,
    )


def doubt_ends(verdict: Verdict, now: float, steering: model.Steering) -> float | None:
    """When the next region leaves its doubt by time alone; None if none will."""
    ends = (region.changed + steering.doubt_lasts_seconds for region in verdict.regions.values())
    return min((end for end in ends if end > now), default=None)


def _zone(zone: model.Zone, version: int) -> Zone:
    records = [spec for record in zone.records for spec in _specs(record)]
    return build_zone(zone.name, zone.nameservers, records, contact=zone.contact, serial=version % SERIAL_MODULUS)


def _specs(record: model.Record) -> Iterator[RecordSpec]:
    if record.steer is not None:
        yield RecordSpec(record.name, record.type, record.ttl_seconds, None, _steer(record.steer), record.alpn)
    for value in record.values if record.value is None else (record.value,):
        yield RecordSpec(record.name, record.type, record.ttl_seconds, value, None)


def _steer(steer: model.Steer) -> Steer:
    return Steer(
        steer.policy,
        steer.regions,
        steer.answers_max,
        tuple(steer.weights.items()),
        tuple((client, tuple(row.items())) for client, row in steer.latency_milliseconds.items()),
    )


def _region(region: model.Region, verdict: Verdict, nodes: Sequence[NodeVerdict], since: float) -> Region:
    judged = verdict.regions.get(region.name)
    standing = judged.standing if judged is not None else Standing.SERVING
    members = tuple(Member(node.name, node.addresses, node.standing in _PUBLISHED) for node in nodes)
    if region.addresses:
        # One address in front of several nodes (anycast, a load balancer): it serves while any of them does.
        serving = any(member.serving for member in members) or verdict.version == 0
        members = (Member(region.name, region.addresses, serving),)
    return Region(
        name=region.name,
        members=members,
        serving=standing in _PUBLISHED,
        suspect=standing is Standing.SUSPECT,
        in_doubt=judged is not None and (standing is Standing.SUSPECT or judged.changed > since),
        near=region.near,
        fallback=region.fallback,
    )
