"""Every request is counted once, and percentiles are what they say."""

import pytest

from chaosmeridian.tally import EXAMPLES_PER_REASON, Recorder, Tally


def test_counts_percentiles_and_timeline() -> None:
    recorder = Recorder(10.0)
    for number in range(100):
        at = 10.005 + number / 100
        recorder.offered("h1", at, at)
        recorder.answered("h1", at, at + (number + 1) / 1000)
    recorder.offered("h2", 10.95, 10.96)
    recorder.failed("h2", "h2=127.0.0.1:1", 10.95, 11.45, "timeout", "status 0")
    tally = recorder.tally(12.0, 0.5)
    assert (tally.offered, tally.answered, tally.failed, tally.reasons) == (101, 100, 1, {"timeout": 1})
    assert tally.p50_seconds == pytest.approx(0.050)
    assert tally.p99_seconds == pytest.approx(0.100)
    assert tally.max_seconds == pytest.approx(0.100)
    assert tally.late_max_seconds == pytest.approx(0.01)
    assert [part.offered for part in tally.timeline] == [10] * 9 + [11]
    assert tally.timeline[9].failed == 1
    assert tally.timeline[9].max_seconds == pytest.approx(0.5)
    assert tally.protocols["h2"].failed == 1
    assert tally.examples[0].at_seconds == pytest.approx(0.95)
    assert Tally.from_json(tally.to_json()) == tally


def test_examples_are_few_and_counts_are_whole() -> None:
    recorder = Recorder(0.0)
    for _ in range(1000):
        recorder.offered("h1", 0.0, 0.0)
        recorder.failed("h1", "x", 0.0, 1.0, "lost", "")
    tally = recorder.tally(1.0, 0.0)
    assert tally.reasons == {"lost": 1000}
    assert len(tally.examples) == EXAMPLES_PER_REASON


def test_nothing_offered_is_a_tally_too() -> None:
    tally = Recorder(0.0).tally(1.0, 0.0)
    assert (tally.offered, tally.p99_seconds, tally.timeline) == (0, 0.0, ())


def test_a_request_that_was_never_settled_is_an_error_of_ours() -> None:
    recorder = Recorder(0.0)
    recorder.offered("h1", 0.0, 0.0)
    with pytest.raises(AssertionError):
        recorder.tally(1.0, 0.0)
