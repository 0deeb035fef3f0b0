"""A sample of queries as log lines and spans, from a server on real sockets; and its rate."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import dns.edns
import dns.message
import dns.query
import pytest
from tests.dns.running import Running, running
from tests.dns.world import make_view, make_zones

from meridian.core.dns_words import QuerySample
from meridian.nodes.dns_metrics import ZONES_MAX, series_of
from meridian.nodes.dns_watching import DnsWatcher
from meridian.telemetry.line_log import LineLog
from meridian.telemetry.spans import Kind
from meridian_dns.server import DnsServer
from meridian_dns.view import RegionView
from meridian_dns.zone import ZoneSet

ALL = QuerySample(sample_ratio=1.0)
RARE = QuerySample(sample_ratio=1.0, per_second_max=1)


@dataclass
class Seen:
    """A server that is watched, and what its watcher wrote. `draw` is the chance of the next query."""

    here: Running
    watcher: DnsWatcher
    written: bytearray = field(default_factory=bytearray)

    def lines(self) -> list[dict[str, object]]:
        self.watcher.flush()
        return [json.loads(line) for line in self.written.splitlines()]


@pytest.fixture
def seen() -> Iterator[Seen]:
    written = bytearray()

    def write(data: memoryview) -> int:
        written.extend(data)
        return len(data)

    server = DnsServer(make_zones(), make_view(version=17), None, draw=lambda: 0)
    watcher = DnsWatcher(LineLog(write), lambda: 0.5)
    server.watcher = watcher
    with running(server) as here:
        yield Seen(here, watcher, written)
    assert server.counters.errors == 0


def ask(here: Running, name: str, type_: str = "A", *, tcp: bool = False, **options: object) -> None:
    query = dns.message.make_query(name, type_, **options)  # type: ignore[arg-type]  # as the caller says
    (dns.query.tcp if tcp else dns.query.udp)(query, here.host, port=here.port, timeout=5)
    here.on_loop(lambda: None)


def test_a_line_says_who_asked_what_and_what_was_answered(seen: Seen) -> None:
    seen.watcher.watch(ALL, None)
    ask(seen.here, "Shop.gw.example.com", options=[dns.edns.ECSOption("203.0.113.77", 32)])
    ask(seen.here, "big.gw.example.com", "TXT", use_edns=-1)
    ask(seen.here, "missing.example.org", "TYPE4711", tcp=True)
    ask(seen.here, "www.example.net", payload=4096)
    ask(seen.here, "shop.gw.example.com", use_edns=1)
    geo, cut, missing, foreign, version = seen.lines()
    assert 0 < float(str(geo.pop("duration_microseconds"))) < 1e6
    assert str(geo.pop("time")).endswith("+00:00")
    assert geo == {
        "log": "dns", "client": "127.0.0.0/24", "subnet": "203.0.113.77/32", "transport": "udp", "type": "A",
        "name": "Shop.gw.example.com", "rcode": "NOERROR", "zone": "gw.example.com", "regions": ["eu", "us", "asia"],
        "query_bytes": 60, "response_bytes": 124, "verdict_version": 17,
    }  # fmt: skip
    assert cut["truncated"] is True and cut["type"] == "TXT" and "regions" not in cut
    assert (missing["transport"], missing["rcode"], missing["type"]) == ("tcp", "NXDOMAIN", "TYPE4711")
    assert (foreign["rcode"], foreign["extended_error"], foreign.get("zone")) == ("REFUSED", 20, None)
    assert version["rcode"] == "BADVERS"
    assert seen.watcher.flush() == []


def test_a_span_says_the_same_and_shares_its_trace_with_the_line(seen: Seen) -> None:
    seen.watcher.watch(ALL, ALL)
    ask(seen.here, "mars.gw.example.com")
    (span,) = seen.watcher.flush()
    assert span.name == "A gw.example.com" and span.kind is Kind.SERVER and span.failure == "SERVFAIL"
    assert span.attributes["dns.question.name"] == "mars.gw.example.com"
    assert span.attributes["meridian.dns.extended_error"] == 14
    assert span.attributes["client.address"] == "127.0.0.0/24"
    assert span.attributes["meridian.verdict.version"] == 17
    assert 0 < span.end_unix_nanoseconds - span.start_unix_nanoseconds < 1e9
    (line,) = seen.lines()
    assert line["trace_id"] == span.trace_id.hex()


def test_the_sample_and_its_rate_are_kept(seen: Seen) -> None:
    assert not seen.watcher.watch(None, None)
    ask(seen.here, "shop.gw.example.com")
    assert seen.watcher.watch(QuerySample(sample_ratio=0.5), QuerySample(sample_ratio=0.51)), "the draw is 0.5"
    ask(seen.here, "shop.gw.example.com")
    assert seen.lines() == [] and seen.watcher.watch(RARE, None)
    for _ in range(20):
        ask(seen.here, "shop.gw.example.com")
    (left_out,) = (series.value for series in seen.watcher.series() if series.labels["of"] == "log")
    assert len(seen.lines()) + left_out == 20 and left_out >= 15, "at most one in each second"


def test_metrics_say_what_was_asked_and_by_which_way(seen: Seen) -> None:
    for name in ("shop", "shop", "mars", "missing", "failover"):
        ask(seen.here, f"{name}.gw.example.com", tcp=name == "mars")
    ask(seen.here, "example.org")
    found = {(one.name, *one.labels.values()): one.value for one in series_of(seen.here.server)}
    assert found["meridian_dns_queries_total", "udp"] == 5 and found["meridian_dns_queries_total", "tcp"] == 1
    assert found["meridian_dns_zone_answers_total", "gw.example.com", "NOERROR"] == 3
    assert found["meridian_dns_zone_answers_total", "gw.example.com", "NXDOMAIN"] == 1
    assert found["meridian_dns_zone_answers_total", "example.org", "NOERROR"] == 1
    assert found["meridian_dns_region_answers_total", "eu"] == 2
    assert found["meridian_dns_region_answers_total", "us"] == 1
    assert found["meridian_dns_extended_errors_total", "14"] == 1
    assert found["meridian_dns_answers_total", "A", "NOERROR"] == 4


def test_zones_without_number_make_a_bounded_number_of_series() -> None:
    server = DnsServer(ZoneSet(), RegionView(1, {}), None)
    for index in range(ZONES_MAX + 50):
        server.counters.tallies.of(1, 0, f"zone{index}.example").answers += 1
    zones = [one for one in series_of(server) if one.name == "meridian_dns_zone_answers_total"]
    assert len(zones) == ZONES_MAX + 1
    assert zones[-1].labels["zone"] == "other" and zones[-1].value == 50
