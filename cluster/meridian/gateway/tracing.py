"""The spans of a sampled exchange: one of the exchange, one of each try. Nothing here runs for the others."""

from dataclasses import dataclass

from meridian.gateway.answers import CUT
from meridian.gateway.outcome import Outcome
from meridian.gateway.worker import Worker
from meridian.telemetry import context, spans
from meridian.telemetry.context import TraceContext
from meridian.telemetry.spans import Kind, SpanRecord
from meridian.wire.events import RequestHead


@dataclass(frozen=True, slots=True)
class Traced:
    """An exchange's place in a trace: `traceparent` goes on as it is where nothing is recorded (`trace` is None)."""

    trace: "Trace | None"
    trace_id: bytes
    traceparent: bytes | None


def begin_trace(worker: Worker, came: bytes | None, ratio: float) -> Traced:
    """Joins the trace that the client's `traceparent` names (W3C Trace Context), or begins one; `ratio` of the
    exchanges that come without one are recorded."""
    parent = context.parse(came) if came is not None else None
    if parent is None and ratio == 0.0:
        return Traced(None, b"", None)
    if parent is not None and not parent.sampled:
        return Traced(None, parent.trace_id, context.format(parent))
    span = context.start(parent, ratio, worker.draw_bytes)
    if span.sampled:
        return Traced(Trace(worker, parent, span), span.trace_id, None)
    return Traced(None, span.trace_id, context.format(span))


class Trace:
    """A recorded exchange's place in its trace."""

    __slots__ = ("_parent", "_start", "_try", "_try_start", "_worker", "span")

    def __init__(self, worker: Worker, parent: TraceContext | None, span: TraceContext) -> None:
        """Begins now."""
        self._worker = worker
        self._parent = parent
        self.span = span
        self._start = worker.unix_nanoseconds()
        self._try: TraceContext | None = None
        self._try_start = 0

    def begin_try(self) -> bytes:
        """Begins the span of a try; returns the `traceparent` that makes it the upstream's parent."""
        self._try = context.child(self.span, self._worker.draw_bytes)
        self._try_start = self._worker.unix_nanoseconds()
        return context.format(self._try)

    def beside(self) -> "Trace":
        """For a try that is under way at the same time."""
        return Trace(self._worker, self._parent, self.span)

    def take_try(self, other: "Trace") -> None:
        """The try of `other` is the one under way."""
        self._try, self._try_start = other._try, other._try_start

    def end_try(self, method: bytes, endpoint: str, number: int, status: int | None, failure: str | None) -> None:
        """Ends it; `status` is the upstream's, None if it gave none."""
        if self._try is None:
            return
        host, _, port = endpoint.rpartition(":")
        attributes: dict[str, str | int] = {
            spans.HTTP_REQUEST_METHOD: method.decode("ascii"),
            spans.SERVER_ADDRESS: host.strip("[]"),
            spans.SERVER_PORT: int(port),
            spans.MERIDIAN_ENDPOINT: endpoint,
        }
        if number > 1:
            attributes[spans.HTTP_REQUEST_RESEND_COUNT] = number - 1
        if status is not None:
            attributes[spans.HTTP_RESPONSE_STATUS_CODE] = status
        if failure is None and status is not None and status >= 400:
            failure = str(status)
        if failure is not None:
            attributes[spans.ERROR_TYPE] = failure
        self._report(self._try, self.span.span_id, method.decode("ascii"), Kind.CLIENT, self._try_start, attributes, failure)  # fmt: skip  # noqa: E501 # one line reads better
        self._try = None

    def end(self, outcome: Outcome, head: RequestHead, pattern: str) -> None:
        """Ends the span of the exchange; `pattern` is the route's path, "" if there was none."""
        method = outcome.method.decode("ascii")
        attributes: dict[str, str | int] = {
            spans.HTTP_REQUEST_METHOD: method,
            spans.HTTP_RESPONSE_STATUS_CODE: outcome.status,
            spans.HTTP_REQUEST_BODY_SIZE: outcome.request_body_bytes,
            spans.HTTP_RESPONSE_BODY_SIZE: outcome.response_body_bytes,
            spans.URL_SCHEME: head.scheme.decode("ascii"),
            spans.URL_PATH: outcome.target.partition(b"?")[0].decode("latin-1"),
            spans.SERVER_ADDRESS: outcome.authority.decode("latin-1"),
            spans.CLIENT_ADDRESS: outcome.client,
            spans.NETWORK_PEER_ADDRESS: outcome.peer.address,
            spans.NETWORK_PEER_PORT: outcome.peer.port,
            spans.NETWORK_PROTOCOL_VERSION: outcome.version.decode("ascii"),
            spans.MERIDIAN_WORKER: self._worker.number,
            spans.MERIDIAN_REQUEST_ID: outcome.request_id.decode("ascii"),
            spans.MERIDIAN_TRIES: outcome.tries,
            spans.MERIDIAN_CONFIG_VERSION: outcome.config_version,
            spans.MERIDIAN_VERDICT_VERSION: outcome.verdict_version,
            spans.MERIDIAN_VERDICT_FALLBACK: outcome.verdict_fallback,
        }
        if outcome.route:
            attributes[spans.MERIDIAN_ROUTE] = outcome.route
            attributes[spans.MERIDIAN_UPSTREAM] = outcome.upstream
            attributes[spans.MERIDIAN_ENDPOINT] = outcome.endpoint
            attributes[spans.HTTP_ROUTE] = pattern
        failed = outcome.status >= 500 or outcome.why.startswith(CUT)
        failure = (outcome.why or str(outcome.status)) if failed else None
        if failure is not None:
            attributes[spans.ERROR_TYPE] = failure
        parent = self._parent.span_id if self._parent is not None else b""
        self._report(self.span, parent, f"{method} {pattern}".strip(), Kind.SERVER, self._start, attributes, failure)

    def _report(
        self, span: TraceContext, parent: bytes, name: str, kind: Kind, start: int,
        attributes: dict[str, str | int], failure: str | None,
    ) -> None:  # fmt: skip
        end = max(start, self._worker.unix_nanoseconds())
        self._worker.report.on_span(
            SpanRecord(span.trace_id, span.span_id, parent, name, kind, start, end, attributes, failure)
        )
