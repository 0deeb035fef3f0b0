"""The verdict passes only what was seen to be good: each way to fail, and each way not to have looked, is red."""

import copy
import io
from typing import Any

import pytest
from rich.console import Console

from chaosmeridian import report
from chaosmeridian.tally import Recorder
from chaosmeridian.verdict import Changes, Right, UnjudgedError, judge, settled_seconds

A, B, C = "192.0.2.1", "192.0.2.2", "192.0.2.3"
ALL, WITHOUT_B = [A, B, C], [A, C]
RIGHT = Right(frozenset({A, C}), frozenset({B}))


def changes(*seen: tuple[float, list[str] | None]) -> Changes:
    return [(at, frozenset(answer) if answer is not None else None) for at, answer in seen]


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (changes((0, ALL), (12, WITHOUT_B)), 2.0),
        (changes((0, WITHOUT_B)), 0.0),
        (changes((0, ALL)), None),
        (changes(), None),
        (changes((0, ALL), (11, []), (12, WITHOUT_B)), 2.0),  # an empty answer names nobody: not right
        (changes((0, ALL), (11, WITHOUT_B), (12, ALL), (13, WITHOUT_B)), 3.0),  # right for a moment is not settled
        (changes((0, ALL), (11, WITHOUT_B), (12, None)), None),
        (changes((0, ALL), (11, [A]), (14, WITHOUT_B)), 4.0),  # a survivor is missing
        (changes((0, ALL), (25, WITHOUT_B)), None),  # after the next step
    ],
)
def test_dns_has_moved_when_it_is_right_and_stays_so(seen: Changes, expected: float | None) -> None:
    assert settled_seconds(seen, 10.0, 20.0, RIGHT) == expected


def make_journal(failed: int = 0, moved: float = 2.0, healed: float = 3.0) -> dict[str, Any]:
    """A run in which the node is killed at 103 and started at 110, by the clock of a machine up for 100 s."""
    recorder = Recorder(100.0)
    for number in range(1200):
        at = 100.0 + number / 50
        recorder.offered("h2", at, at)
        if number < failed:
            recorder.failed("h2", "h2=127.0.0.11:8443", at, at + 0.5, "lost", "connection closed")
        else:
            recorder.answered("h2", at, at + 0.004)
    seen = [[99, ALL], [103 + moved, WITHOUT_B], [110 + healed, ALL]]
    own = [[99, ALL], [103.1, None], [110 + healed, ALL]]

    def run(func: str, output: Any) -> dict[str, Any]:
        return {
            "activity": {"name": func, "provider": {"func": func}}, "status": "succeeded", "output": output,
        }  # fmt: skip

    met = {"steady_state_met": True, "probes": []}
    return {
        "experiment": {
            "title": "A node is killed",
            "extensions": [
                {"name": "meridian", "slo": {"failed_max": 0, "dns_seconds_max": 5, "heal_seconds_max": 10}}
            ],
        },
        "start": "2026-01-01T00:00:00.000000+00:00",
        "status": "completed",
        "deviated": False,
        "steady_states": {"before": met, "after": met},
        "run": [
            run("watch_dns", {"node": "b", "addresses": [B], "others": [A, C],
                              "changes": {"a": seen, "b": own, "c": seen}}),
            run("stop_load", {"tally": recorder.tally(124.0, 1.0).to_plain()}),
            run("kill_node", {"at": 103.0}),
            run("dns_without", True),
            run("start_node", {"at": 110.0}),
            run("dns_back", True),
        ],
    }  # fmt: skip


def test_a_good_run_passes() -> None:
    verdict = judge("kill-node", make_journal())
    assert verdict.passed, verdict.checks
    assert verdict.moved_seconds == {"a": 2.0, "c": 2.0}
    assert verdict.healed_seconds == {"a": 3.0, "b": 3.0, "c": 3.0}
    assert [(moment.mark, round(moment.at_seconds, 3)) for moment in verdict.moments] == [
        ("K", 3.0), ("D", 5.0), ("S", 10.0), ("H", 13.0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("journal", "red"),
    [
        (make_journal(failed=1), "requests failed"),
        (make_journal(moved=5.1), "seconds until DNS moved"),
        (make_journal(healed=10.1), "seconds until healed"),
        (make_journal(moved=8), "seconds until DNS moved"),  # only after the node was started again
    ],
)
def test_a_bound_that_is_passed_is_red(journal: dict[str, Any], red: str) -> None:
    verdict = judge("kill-node", journal)
    assert [check.name for check in verdict.checks if not check.passed] == [red]
    assert not verdict.passed


@pytest.mark.parametrize("missing", ["stop_load", "watch_dns", "kill_node", "start_node"])
def test_what_was_not_seen_is_red(missing: str) -> None:
    journal = make_journal()
    for run in journal["run"]:
        if run["activity"]["name"] == missing:
            run.update(status="failed", output=None, exception=["Traceback", "LabError: no cluster"])
    verdict = judge("kill-node", journal)
    assert not verdict.passed
    red = {check.name: check.detail for check in verdict.checks if not check.passed}
    assert red[missing] == "LabError: no cluster"
    assert "not seen" in red.values()


@pytest.mark.parametrize("shift", [-12.0, 7.5])
def test_a_load_that_did_not_run_throughout_is_red(shift: float) -> None:
    journal = make_journal()
    for run in journal["run"]:
        if run["activity"]["name"] == "stop_load":
            run["output"]["tally"]["started_at"] += shift
    red = [check.name for check in judge("kill-node", journal).checks if not check.passed]
    assert red == ["load ran throughout"]


def test_a_run_without_requests_is_red() -> None:
    journal = make_journal()
    journal["run"][1]["output"]["tally"] = Recorder(100.0).tally(120.0, 1.0).to_plain()
    assert not judge("kill-node", journal).passed


@pytest.mark.parametrize(
    "change",
    [
        {"status": "interrupted"},
        {"status": "aborted"},
        {"deviated": True},
        {"steady_states": {"before": {"steady_state_met": True}, "after": None}},
        {"steady_states": {}},
    ],
)
def test_a_run_that_did_not_complete_is_red(change: dict[str, Any]) -> None:
    assert not judge("kill-node", {**make_journal(), **change}).passed


def test_a_probe_that_says_no_is_red() -> None:
    journal = make_journal()
    journal["run"][3]["output"] = False
    assert [check.name for check in judge("kill-node", journal).checks if not check.passed] == ["dns_without"]


@pytest.mark.parametrize("extensions", [None, [], [{"name": "other"}], [{"name": "meridian", "slo": {"typo_max": 1}}]])
def test_an_experiment_without_a_known_slo_is_not_judged(extensions: Any) -> None:
    journal = copy.deepcopy(make_journal())
    journal["experiment"]["extensions"] = extensions
    with pytest.raises(UnjudgedError):
        judge("kill-node", journal)


def render(journal: dict[str, Any]) -> str:
    text = io.StringIO()
    report.show(judge("kill-node", journal), Console(file=text, width=120))
    return text.getvalue()


def test_the_report_shows_numbers_failures_and_a_plot() -> None:
    text = render(make_journal(failed=7))
    assert "failed" in text.splitlines()[0]
    for part in (
        "h2=127.0.0.11:8443 lost: connection closed",
        "requests failed",
        "1193",
        "DNS moved everywhere",
        "4.0",
    ):
        assert part in text
    [failures] = [line for line in text.splitlines() if line.startswith("failed  |")]
    assert failures[9:].startswith("x.")
    [events] = [line for line in text.splitlines() if line.startswith("events  |")]
    assert "".join(events[9:89].split()) == "KDSH"


def test_the_report_of_a_run_that_saw_nothing_says_so() -> None:
    journal = make_journal()
    journal.update(run=[], status="failed", steady_states={"before": {"steady_state_met": False, "probes": []}})
    assert "not seen" in render(journal)
