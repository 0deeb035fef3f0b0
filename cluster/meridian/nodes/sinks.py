"""Where a gateway worker's reports go: its spans to the agent, its access log to stderr."""

from datetime import UTC, datetime
from random import random

from meridian.gateway.outcome import Outcome
from meridian.telemetry.access_log import AccessLog, AccessRecord, path_of
from meridian.telemetry.line_log import write_without_waiting
from meridian.telemetry.spans import SpanRecord

SPANS_MAX = 4096  # between two ticks; 20,000 a second


class Sinks:
    """Where a gateway's reports go: spans wait for the next tick, the access log for its own."""

    def __init__(self, ratio: float) -> None:
        """`ratio` of the exchanges that went well is logged; the others always are."""
        self.spans: list[SpanRecord] = []
        self.spans_dropped = 0
        self.access = AccessLog(write_without_waiting(2), sample_ratio=ratio, draw=random)
        self._quiet = ratio == 0.0

    def on_outcome(self, outcome: Outcome) -> None:
        """Logs an exchange, if it is to be logged."""
        if self._quiet and 0 < outcome.status < 500 and outcome.tries <= 1:
            return
        self.access.log(access_record(outcome, datetime.now(UTC)))

    def on_span(self, span: SpanRecord) -> None:
        """Keeps a span for the next tick."""
        if len(self.spans) < SPANS_MAX:
            self.spans.append(span)
        else:
            self.spans_dropped += 1


def access_record(outcome: Outcome, ended: datetime) -> AccessRecord:
    """The line of an exchange that ended at `ended`."""
    return AccessRecord(
        time=ended.isoformat(timespec="milliseconds"),
        request_id=outcome.request_id.decode("latin-1"),
        client=outcome.client,
        protocol=outcome.version.decode("latin-1"),
        method=outcome.method.decode("latin-1"),
        host=outcome.authority.decode("latin-1"),
        path=path_of(outcome.target),
        status=outcome.status,
        duration_seconds=round(outcome.duration_seconds, 6),
        request_body_bytes=outcome.request_body_bytes,
        response_body_bytes=outcome.response_body_bytes,
        route=outcome.route,
        upstream=outcome.upstream,
        endpoint=outcome.endpoint,
        tries=outcome.tries,
        why=outcome.why,
        trace_id=outcome.trace_id.hex(),
        config_version=outcome.config_version,
        verdict_version=outcome.verdict_version,
        verdict_fallback=outcome.verdict_fallback,
    )
