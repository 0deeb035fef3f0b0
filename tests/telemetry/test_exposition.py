"""The joined page, read back by prometheus-client's own parser (and promtool's rules where names are concerned)."""

from prometheus_client.parser import text_string_to_metric_families

from meridian.telemetry.exposition import render
from meridian.telemetry.metrics import Metrics, Series


def test_workers_are_joined_and_told_apart() -> None:
    workers = {}
    for worker, count in (("gateway-0", 3), ("gateway-1", 4)):
        metrics = Metrics()
        metrics.counter("meridian_requests_total", "Requests.", route='a"\n\\').add(count)
        metrics.gauge("meridian_connections", "Open connections.").value = count / 2
        histogram = metrics.histogram("meridian_request_seconds", "Time.", (0.1, 1.0))
        for value in [0.05] * count + [0.5, 9.0]:
            histogram.observe(value)
        workers[worker] = metrics.series()
    page = render(workers)
    assert page.count("# TYPE meridian_requests_total counter") == 1
    assert page.count("# HELP meridian_request_seconds Time.") == 1
    samples = {
        (sample.name, sample.labels["worker"], sample.labels.get("le", "")): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
    assert samples["meridian_requests_total", "gateway-0", ""] == 3
    assert samples["meridian_requests_total", "gateway-1", ""] == 4
    assert samples["meridian_connections", "gateway-0", ""] == 1.5
    buckets = [samples["meridian_request_seconds_bucket", "gateway-1", le] for le in ("0.1", "1.0", "+Inf")]
    assert buckets == [4, 5, 6]
    assert samples["meridian_request_seconds_count", "gateway-1", ""] == 6
    assert 'route="a\\"\\n\\\\"' in page


def test_a_worker_that_contradicts_anothers_kind_is_left_out_and_the_page_stays_valid() -> None:
    page = render(
        {"old": [Series("level", "gauge", "A level.", {}, 1.0)], "new": [Series("level", "histogram", "A level.", {})]}
    )
    assert [s.labels for f in text_string_to_metric_families(page) for s in f.samples] == [{"worker": "old"}]


def test_no_workers_is_an_empty_page() -> None:
    assert render({}) == ""
