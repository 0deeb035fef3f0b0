"""Values on their way from worker to agent come out as they went in."""

from meridian.nodes.reports import metrics_from_proto, metrics_to_proto, spans_from_proto, spans_to_proto
from meridian.telemetry.metrics import Metrics, Series
from meridian.telemetry.spans import Kind, SpanRecord
from meridian_proto.v1 import channel_pb2 as pb


def test_metrics() -> None:
    metrics = Metrics()
    metrics.counter("a_total", "A.", route="x").add(3)
    metrics.gauge("b", "B.").value = 1.5
    metrics.histogram("c_seconds", "C.", (0.1, 1.0)).observe(0.5)
    series: list[Series] = metrics.series()
    assert metrics_from_proto(metrics_to_proto(series).metrics) == series


def test_a_kind_of_a_newer_version_is_left_out() -> None:
    assert metrics_from_proto(pb.Metrics(series=[pb.Series(name="x", kind="summary")])) == []


def test_spans() -> None:
    spans = [
        SpanRecord(b"t" * 16, b"s" * 8, b"", "GET /", Kind.SERVER, 10, 20, {"url.path": "/", "meridian.tries": 2}),
        SpanRecord(b"t" * 16, b"u" * 8, b"s" * 8, "GET", Kind.CLIENT, 11, 19, {}, "timeout"),
        SpanRecord(b"t" * 16, b"v" * 8, b"s" * 8, "GET", Kind.CLIENT, 11, 19, {}, ""),
    ]
    assert spans_from_proto(spans_to_proto(spans).spans) == spans
