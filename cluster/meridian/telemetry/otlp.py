"""The one place that knows OpenTelemetry: SpanRecords become its ReadableSpans and leave by its OTLP gRPC exporter.

Only `export.py` imports this, in its own thread and only when there is somewhere to send: the SDK costs a second of
start and 30 MB. It blocks; `Sender.send` belongs into a thread. Headers (for example an API key) and a private
certificate authority come from the variables OpenTelemetry defines, OTEL_EXPORTER_OTLP_HEADERS and
OTEL_EXPORTER_OTLP_CERTIFICATE.
"""

from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from meridian.telemetry.spans import MERIDIAN_NODE, MERIDIAN_REGION, Kind, SpanRecord

SERVICE_NAME = "meridian-gateway"

_KINDS = {Kind.INTERNAL: SpanKind.INTERNAL, Kind.SERVER: SpanKind.SERVER, Kind.CLIENT: SpanKind.CLIENT}
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_SCOPE = InstrumentationScope("meridian.gateway")
_OK = Status(StatusCode.UNSET)


def readable(record: SpanRecord, resource: Resource) -> ReadableSpan:
    """The same span as OpenTelemetry's type. A server span's parent is remote, a client span's is ours."""
    trace_id = int.from_bytes(record.trace_id, "big")
    parent = None
    if record.parent_span_id:
        parent_id = int.from_bytes(record.parent_span_id, "big")
        parent = SpanContext(trace_id, parent_id, record.kind is Kind.SERVER, _SAMPLED)
    return ReadableSpan(
        name=record.name,
        context=SpanContext(trace_id, int.from_bytes(record.span_id, "big"), False, _SAMPLED),
        parent=parent,
        resource=resource,
        attributes=record.attributes,
        kind=_KINDS[record.kind],
        status=_OK if record.failure is None else Status(StatusCode.ERROR, record.failure),
        start_time=record.start_unix_nanoseconds,
        end_time=record.end_unix_nanoseconds,
        instrumentation_scope=_SCOPE,
    )


class Sender:
    """A connection to one OTLP receiver. Every method blocks; `close` may be called from another thread."""

    def __init__(self, endpoint: str, *, node: str, region: str, version: str, timeout_seconds: float) -> None:
        """`endpoint` is http://host:port (clear text) or https://host:port. Connects at the first `send`."""
        self._resource = Resource.create(
            {"service.name": SERVICE_NAME, "service.version": version, MERIDIAN_NODE: node, MERIDIAN_REGION: region}
        )
        self._exporter = OTLPSpanExporter(
            endpoint=endpoint, insecure=not endpoint.startswith("https://"), timeout=timeout_seconds
        )

    def send(self, records: Sequence[SpanRecord]) -> bool:
        """Sends one batch, retrying what OTLP calls retryable within the timeout; False if it did not arrive."""
        spans = [readable(record, self._resource) for record in records]
        return self._exporter.export(spans) is SpanExportResult.SUCCESS

    def close(self) -> None:
        """Ends a `send` under way and the connection."""
        self._exporter.shutdown()
