"""Spans of a request through the running cluster, received by a real OTLP receiver: parent and child."""

from pathlib import Path

from tests.local_cluster import LocalCluster
from tests.scenarios.test_protocols import curl
from tests.telemetry.otlp_receiver import OtlpReceiver

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_a_traced_request_gives_a_server_span_and_its_upstream_try(cluster: LocalCluster, tmp_path: Path) -> None:
    source = cluster.document.read_text()
    node = next(iter(cluster.nodes().values()))
    with OtlpReceiver() as receiver:
        document = tmp_path / "traced.yaml"
        document.write_text(f"{source}\ntracing: {{sample_ratio: 0, otlp_endpoint: '{receiver.endpoint}'}}\n")
        cluster.run("apply", "--now", str(document))
        curl(cluster, node, "-H", f"traceparent: 00-{TRACE}-{PARENT}-01")
        spans = receiver.wait_for(lambda spans: len(spans) >= 2, within_seconds=10)
    server = next(span for span in spans if span.kind == 2)
    client = next(span for span in spans if span.kind == 3)
    assert server.trace_id.hex() == client.trace_id.hex() == TRACE
    assert server.parent_span_id.hex() == PARENT
    assert client.parent_span_id == server.span_id
    assert server.start_unix_nanoseconds <= client.start_unix_nanoseconds
    assert client.end_unix_nanoseconds <= server.end_unix_nanoseconds
    assert server.attributes["http.response.status_code"] == 200
    assert server.resource["service.name"] == "meridian-gateway"
    cluster.run("apply", "--now", str(cluster.document))
