"""What operators see of single DNS queries: a sample of them as log lines and as spans, each at a bounded rate.

Only queries of the sample are looked at; all others cost one draw, and nothing at all if nothing is to be shown.
"""

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network

from meridian.core.dns_words import QuerySample
from meridian.nodes import clock
from meridian.telemetry import context, spans
from meridian.telemetry.line_log import LineLog
from meridian.telemetry.metrics import Series
from meridian.telemetry.query_log import QueryRecord
from meridian.telemetry.spans import Kind, SpanRecord
from meridian_dns.message import TC, Query, parse
from meridian_dns.names import name_to_text
from meridian_dns.observing import Sight
from meridian_dns.records import RCODE_NAMES, SERVFAIL, TYPE_NAMES
from meridian_dns.steering import SLOT_PREFIX


class _Share:
    """One use of the sample: its part of the queries, at most so many in each second."""

    def __init__(self) -> None:
        self.ratio, self.left_out = 0.0, 0
        self._per_second_max = 0
        self._second, self._taken = 0, 0

    def set(self, sample: QuerySample | None) -> None:
        """Takes what the document says; None: no part."""
        self.ratio = sample.sample_ratio if sample is not None else 0.0
        self._per_second_max = sample.per_second_max if sample is not None else 0

    def takes(self, draw: float, now: float) -> bool:
        """Whether this query, of the sample by `draw`, is within the rate too."""
        if draw >= self.ratio:
            return False
        if int(now) != self._second:
            self._second, self._taken = int(now), 0
        if self._taken >= self._per_second_max:
            self.left_out += 1
            return False
        self._taken += 1
        return True


class DnsWatcher:
    """Makes log lines and spans of what a server shows. A meridian_dns Watcher."""

    def __init__(self, lines: LineLog, draw: Callable[[], float]) -> None:
        """Shows nothing yet. `draw` gives chance in [0, 1)."""
        self._log, self._trace, self._lines = _Share(), _Share(), lines
        self._spans: list[SpanRecord] = []
        self._ratio = 0.0
        self._draw, self._drawn = draw, 0.0

    def watch(self, log: QuerySample | None, trace: QuerySample | None) -> bool:
        """Takes what the document says; whether there is anything to be shown at all."""
        self._log.set(log)
        self._trace.set(trace)
        self._ratio = max(self._log.ratio, self._trace.ratio)
        return self._ratio > 0.0

    def flush(self) -> Sequence[SpanRecord]:
        """Writes the lines that wait; returns the spans that ended since the last call."""
        self._lines.flush()
        ended, self._spans = self._spans, []
        return ended

    def begin(self) -> float:
        """The time if the next query is of the sample, else 0.0."""
        self._drawn = self._draw()
        return clock.now() if self._drawn < self._ratio else 0.0

    def end(self) -> float:
        """The time."""
        return clock.now()

    def take(self, sight: Sight) -> None:
        """Logs and traces one query; what is both has one trace id in both."""
        now = clock.now()
        logged, traced = self._log.takes(self._drawn, now), self._trace.takes(self._drawn, now)
        query = parse(sight.query) if logged or traced else None
        if query is None:
            return
        place = context.new(os.urandom, True) if traced else None
        if place is not None:
            self._spans.append(_span(sight, query, place))
        if logged:
            self._lines.put(_record(sight, query, place.trace_id.hex() if place is not None else ""))

    def series(self) -> Sequence[Series]:
        """What was not shown, though the sample had it."""
        help = "Sampled queries not shown: too many in one second, or the log was not read."
        left_out = (("log", self._log.left_out), ("trace", self._trace.left_out), ("lines", self._lines.dropped_lines))
        return [
            Series("meridian_dns_sample_left_out_total", "counter", help, {"of": of}, float(count))
            for of, count in left_out
        ]


def _record(sight: Sight, query: Query, trace_id: str) -> QueryRecord:
    tally = sight.tally
    return QueryRecord(
        time=datetime.now(UTC).isoformat(timespec="milliseconds"),
        client=_network(sight.source),
        transport=sight.transport.name,
        name=_name(query),
        type=_type(query),
        rcode=_rcode(sight),
        duration_microseconds=round(sight.seconds * 1e6, 1),
        query_bytes=len(sight.query),
        response_bytes=len(sight.reply),
        subnet=_subnet(query),
        zone=tally.zone,
        regions=tally.regions,
        extended_error=tally.error,
        truncated=bool(sight.reply[2] & TC >> 8),
        trace_id=trace_id,
        verdict_version=sight.view.version,
        verdict_fallback=sight.view.fallback,
    )


def _span(sight: Sight, query: Query, place: context.TraceContext) -> SpanRecord:
    tally, ended = sight.tally, clock.unix_nanoseconds()
    attributes: dict[str, str | int] = {
        spans.DNS_QUESTION_NAME: _name(query),
        spans.MERIDIAN_DNS_TYPE: _type(query),
        spans.MERIDIAN_DNS_RCODE: _rcode(sight),
        spans.MERIDIAN_DNS_ZONE: tally.zone,
        spans.MERIDIAN_DNS_REGIONS: ",".join(tally.regions),
        spans.NETWORK_TRANSPORT: sight.transport.name,
        spans.CLIENT_ADDRESS: _subnet(query) or _network(sight.source),
        spans.MERIDIAN_VERDICT_VERSION: sight.view.version,
        spans.MERIDIAN_VERDICT_FALLBACK: sight.view.fallback,
    }
    if tally.error is not None:
        attributes[spans.MERIDIAN_DNS_ERROR] = tally.error
    return SpanRecord(
        trace_id=place.trace_id,
        span_id=place.span_id,
        parent_span_id=b"",
        name=f"{_type(query)} {tally.zone}".strip(),
        kind=Kind.SERVER,
        start_unix_nanoseconds=ended - int(sight.seconds * 1e9),
        end_unix_nanoseconds=ended,
        attributes=attributes,
        failure=_rcode(sight) if tally.rcode == SERVFAIL else None,
    )


def _name(query: Query) -> str:
    return name_to_text(query.asked[:-4]).rstrip(".") or "." if query.asked else ""


def _type(query: Query) -> str:
    if query.question is None:
        return ""
    return TYPE_NAMES.get(query.question.type, f"TYPE{query.question.type}")


def _rcode(sight: Sight) -> str:
    return RCODE_NAMES.get(sight.tally.rcode, str(sight.tally.rcode))


def _subnet(query: Query) -> str:
    subnet = query.edns.subnet.network if query.edns is not None and query.edns.subnet is not None else None
    return str(subnet) if subnet is not None else ""


def _network(source: str) -> str:
    address = ip_address(source.partition("%")[0])
    address = getattr(address, "ipv4_mapped", None) or address
    return str(ip_network((address, SLOT_PREFIX[address.version]), strict=False))
