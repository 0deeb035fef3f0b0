"""What workers report, between telemetry's values and the channel's messages."""

from collections.abc import Iterable

from meridian.telemetry.metrics import Series, SeriesKind
from meridian.telemetry.spans import Kind, SpanRecord
from meridian_proto.v1 import channel_pb2 as pb

_SERIES_KINDS: dict[str, SeriesKind] = {"counter": "counter", "gauge": "gauge", "histogram": "histogram"}
_KINDS = {kind.value: kind for kind in Kind}


def metrics_to_proto(series: Iterable[Series]) -> pb.Frame:
    """One frame with all series of a worker."""
    return pb.Frame(
        metrics=pb.Metrics(
            series=[
                pb.Series(
                    name=one.name,
                    kind=one.kind,
                    help=one.help,
                    labels=one.labels,
                    value=one.value,
                    bounds=one.bounds,
                    counts=one.counts,
                    sum=one.sum,
                )
                for one in series
            ]
        )
    )


def metrics_from_proto(message: pb.Metrics) -> list[Series]:
    """The series of a frame; those of a kind that this version does not know are left out."""
    return [
        Series(
            one.name,
            _SERIES_KINDS[one.kind],
            one.help,
            dict(one.labels),
            one.value,
            tuple(one.bounds),
            tuple(one.counts),
            one.sum,
        )
        for one in message.series
        if one.kind in _SERIES_KINDS
    ]


def spans_to_proto(spans: Iterable[SpanRecord]) -> pb.Frame:
    """One frame with these spans."""
    return pb.Frame(spans=pb.Spans(spans=[_span_to_proto(span) for span in spans]))


def spans_from_proto(message: pb.Spans) -> list[SpanRecord]:
    """The spans of a frame."""
    return [
        SpanRecord(
            trace_id=span.trace_id,
            span_id=span.span_id,
            parent_span_id=span.parent_span_id,
            name=span.name,
            kind=_KINDS.get(span.kind, Kind.INTERNAL),
            start_unix_nanoseconds=span.start_unix_nanoseconds,
            end_unix_nanoseconds=span.end_unix_nanoseconds,
            attributes={**span.attributes, **span.numbers},
            failure=span.failure if span.failed else None,
        )
        for span in message.spans
    ]


def _span_to_proto(span: SpanRecord) -> pb.Span:
    return pb.Span(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_span_id,
        name=span.name,
        kind=span.kind,
        start_unix_nanoseconds=span.start_unix_nanoseconds,
        end_unix_nanoseconds=span.end_unix_nanoseconds,
        attributes={name: value for name, value in span.attributes.items() if isinstance(value, str)},
        numbers={name: value for name, value in span.attributes.items() if isinstance(value, int)},
        failed=span.failure is not None,
        failure=span.failure or "",
    )
