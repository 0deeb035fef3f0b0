"""The DNS server's counters as metrics. Labels are few, however many zones there are: the first `ZONES_MAX` that were
asked stand for themselves, all others together as `other`."""

from collections import Counter
from collections.abc import Iterator, Sequence

from meridian.telemetry.metrics import Series
from meridian_dns.observing import Counters
from meridian_dns.records import RCODE_NAMES, TYPE_NAMES
from meridian_dns.server import DnsServer
from meridian_dns.tally import Tallies

ZONES_MAX = 200  # 1,000 series with their codes, of the 10,000 that a worker reports at most
OTHER = "other"


def series_of(server: DnsServer) -> Sequence[Series]:
    """The server's counters as metrics."""
    counters = server.counters
    found = [
        _counter(
            "meridian_dns_answers_total",
            "Answers by type and code.",
            float(count),
            type=TYPE_NAMES.get(type_, OTHER),
            rcode=_rcode_name(rcode),
        )
        for (type_, rcode), count in sorted(counters.answers.items())
    ]
    found += _by_place(counters.tallies)
    found += (
        _counter("meridian_dns_queries_total", "Messages that came, by transport.", float(count), transport=transport)
        for transport, count in sorted(counters.queries.items())
    )
    return [*found, *_events(server, counters)]


def _by_place(tallies: Tallies) -> Iterator[Series]:
    zones: dict[str, Counter[int]] = {}
    regions: Counter[str] = Counter()
    errors: Counter[int] = Counter()
    for tally in tallies:
        if tally.zone:
            known = tally.zone in zones or len(zones) < ZONES_MAX
            zones.setdefault(tally.zone if known else OTHER, Counter())[tally.rcode] += tally.answers
        if tally.regions:
            regions[tally.regions[0]] += tally.answers
        if tally.error is not None:
            errors[tally.error] += tally.answers
    for zone, codes in zones.items():
        for rcode, count in sorted(codes.items()):
            help = "Answers of a zone by code."
            yield _counter("meridian_dns_zone_answers_total", help, count, zone=zone, rcode=_rcode_name(rcode))
    for region, count in sorted(regions.items()):
        help = "Answers with addresses of regions, by the region whose come first."
        yield _counter("meridian_dns_region_answers_total", help, count, region=region)
    for code, count in sorted(errors.items()):
        help = "Answers with an extended error, by its code (RFC 8914)."
        yield _counter("meridian_dns_extended_errors_total", help, count, code=str(code))


def _events(server: DnsServer, counters: Counters) -> Iterator[Series]:
    for name, help, value in (
        ("dropped", "Datagrams that were no questions.", counters.dropped),
        ("errors", "Questions that failed inside (SERVFAIL).", counters.errors),
        ("truncated", "Answers that did not fit a datagram.", counters.truncated),
        ("throttled", "Questions not answered because their network asks too often.", counters.throttled),
        ("unsent", "Answers that the kernel did not take.", counters.unsent),
        ("transfers", "Zone transfers begun.", counters.transfers),
        ("transfers_refused", "Zone transfers refused.", counters.transfers_refused),
        ("notifies_unanswered", "Secondaries that did not acknowledge a change.", server.notices_given_up),
        ("tcp_refused", "TCP connections refused because too many were open.", server.tcp_refused),
        ("quic_refused", "QUIC connections refused because too many were open.", server.quic_refused),
    ):
        yield _counter(f"meridian_dns_{name}_total", help, value)


def _rcode_name(rcode: int) -> str:
    return RCODE_NAMES.get(rcode, str(rcode))


def _counter(name: str, help: str, value: float, **labels: str) -> Series:
    return Series(name, "counter", help, labels, float(value))
