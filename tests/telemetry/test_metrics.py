"""Instruments count exactly, are found again by name and labels, and cannot grow without end."""

import pytest

from meridian.telemetry.metrics import Metrics, Series


def of(metrics: Metrics, name: str) -> list[Series]:
    return [series for series in metrics.series() if series.name == name]


def test_the_same_name_and_labels_are_the_same_instrument() -> None:
    metrics = Metrics()
    metrics.counter("requests_total", "Requests.", route="a", code="2xx").add()
    metrics.counter("requests_total", "Requests.", code="2xx", route="a").value += 2
    metrics.counter("requests_total", "Requests.", route="b", code="2xx").add(5)
    assert {series.labels["route"]: series.value for series in of(metrics, "requests_total")} == {"a": 3.0, "b": 5.0}


def test_a_value_on_a_bound_falls_into_that_bucket() -> None:
    metrics = Metrics()
    histogram = metrics.histogram("seconds", "Time.", (0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 1.0, 7.0):
        histogram.observe(value)
    [series] = of(metrics, "seconds")
    assert (series.kind, series.bounds, series.counts) == ("histogram", (0.1, 1.0), (2, 2, 1))
    assert series.sum == pytest.approx(8.65)


def test_a_gauge_shows_its_level_and_a_report_does_not_change_afterwards() -> None:
    metrics = Metrics()
    gauge = metrics.gauge("connections", "Open connections.")
    gauge.value = 7
    before = of(metrics, "connections")
    gauge.value = 8
    assert [series.value for series in before] == [7]


def test_what_is_forgotten_leaves_and_begins_anew() -> None:
    metrics = Metrics(series_max=4)  # one is its own
    gone = metrics.counter("requests_total", "Requests.", route="gone")
    kept = metrics.counter("requests_total", "Requests.", route="kept")
    bare = metrics.counter("bare_total", "No route.")
    for counter in (gone, kept, bare):
        counter.add(3)
    metrics.forget("route", {"kept"})
    assert [series.labels for series in of(metrics, "requests_total")] == [{"route": "kept"}]
    assert of(metrics, "bare_total")[0].value == 3.0
    gone.add()
    again = metrics.counter("requests_total", "Requests.", route="gone")
    assert again.value == 0 and len(of(metrics, "requests_total")) == 2, "there is room again"
    assert metrics.counter("requests_total", "Requests.", route="kept") is kept


def test_a_name_has_one_kind() -> None:
    metrics = Metrics()
    metrics.gauge("level", "A level.")
    with pytest.raises(AssertionError, match="level is a Gauge already"):
        metrics.histogram("level", "A level.")


def test_series_beyond_the_limit_work_but_are_not_reported_and_are_counted() -> None:
    metrics = Metrics(series_max=3)
    for route in "abcde":
        metrics.counter("requests_total", "Requests.", route=route).add()
    assert [series.labels["route"] for series in of(metrics, "requests_total")] == ["a", "b"]
    assert [series.value for series in of(metrics, "meridian_metric_series_refused_total")] == [3.0]
