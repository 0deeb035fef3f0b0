"""Limits of a candidate: nothing beyond those in force, and what would refuse more is seen on a scale."""

from collections.abc import Callable

import pytest

from meridian.core.snapshot import Limit
from meridian.gateway import trial_limits
from meridian.gateway.admission import Admission, Verdict
from meridian.gateway.limits import Limits
from meridian.gateway.meters import Meters
from meridian.gateway.trial_limits import TrialAdmission
from meridian.telemetry.metrics import Metrics

NOW, UNIX = 5000.0, 1_800_000_000.0
CLIENT = ("client",)


def rate(name: str, per_second: float, burst: int) -> Limit:
    return Limit(name, CLIENT, per_second, burst)


def concurrent(name: str, amount: int) -> Limit:
    return Limit(name, CLIENT, kind="concurrent", amount=amount)


def on_trial(*known: Limit, part: float = 1.0, share: float = 0.05) -> TrialAdmission:
    """A trial beside limits in force, of which all have accrued."""
    limits, meters = Limits(lambda: 0.0), Meters.alone(0.0, UNIX)
    by_name = {one.name: one for one in known}
    limits.replace({one.name: one for one in known if one.kind == "rate"}, 0.0)
    meters.replace(by_name, 0.0, UNIX)
    in_force = Admission(limits, meters, Metrics(), lambda: NOW, lambda: UNIX)
    return TrialAdmission(in_force, by_name, part, share, lambda: NOW, lambda: UNIX)


def decided(trial: TrialAdmission, *candidates: Limit) -> Verdict:
    asked = [(limit, "ann") for limit in trial.limits_of(candidates)]
    verdicts: list[Verdict] = []
    if trial.consults(asked):
        trial.consult(asked, verdicts.append)
        return verdicts[0]
    return trial.decide(asked)


def admitted(trial: TrialAdmission, *candidates: Limit, tries: int = 200) -> int:
    return sum(decided(trial, *candidates).refused_by is None for _ in range(tries))


@pytest.mark.parametrize("raised", [rate("a", 1e6, 100_000), rate("a", 1.0, 100_000)])
def test_a_candidate_never_gets_more_than_is_in_force(raised: Limit) -> None:
    assert admitted(on_trial(rate("a", 1.0, 30)), raised) == 30


def test_what_both_documents_take_is_one_level() -> None:
    known = rate("a", 1.0, 30)
    trial = on_trial(known)
    assert sum(trial._in_force.decide([(known, "ann")]).refused_by is None for _ in range(20)) == 20
    assert admitted(trial, rate("a", 10.0, 1000)) == 10


def test_a_limit_that_stays_or_is_raised_refuses_nothing_of_its_own() -> None:
    trial = on_trial(rate("a", 1.0, 150))
    assert trial.limits_of([rate("a", 1.0, 150)]) == trial.limits_of([rate("a", 5.0, 500)]) == (rate("a", 1.0, 150),)


def test_a_limit_that_is_lower_refuses_in_a_trial_what_it_would_refuse() -> None:
    verdict_of: Callable[[TrialAdmission], Verdict] = lambda trial: decided(trial, rate("a", 1.0, 1))  # noqa: E731
    trial = on_trial(rate("a", 100.0, 1000))
    assert verdict_of(trial).refused_by is None
    refused = verdict_of(trial)
    assert refused.refused_by is not None and refused.refused_by.status == 429
    assert b"ratelimit" not in {name for name, _ in refused.told}, "the scaled numbers mean nothing to a client"


@pytest.mark.parametrize(
    ("part", "share", "expected"), [(1.0, 0.05, 50), (0.5, 0.05, 25), (0.01, 0.05, 10), (1.0, 0.5, 200)]
)
def test_a_trial_sees_its_share_of_a_worker_s_part(part: float, share: float, expected: int) -> None:
    trial = on_trial(rate("a", 1.0, 5000), part=part, share=share)
    assert admitted(trial, rate("a", 1e-4, 1000)) == expected


def test_another_key_is_tried_and_the_limit_in_force_keeps_its_own() -> None:
    trial = on_trial(rate("a", 1.0, 30))
    other = Limit("a", ("route",), 1.0, 1000)
    known, tried = trial.limits_of([other])
    assert (known.key, tried.key) == (CLIENT, ("route",))
    assert admitted(trial, other) == 30


def test_concurrency_is_counted_by_both_and_given_back_by_both() -> None:
    trial = on_trial(concurrent("c", 400))
    lower = concurrent("c", 20)
    held = [decided(trial, lower) for _ in range(10)]
    assert all(one.refused_by is None for one in held)
    assert decided(trial, lower).refused_by is not None
    for one in held:
        trial.release(one.held)
    assert decided(trial, lower).refused_by is None


def test_what_the_limit_in_force_refuses_is_given_back_to_the_candidate_s_own() -> None:
    trial = on_trial(rate("a", 1.0, 5), concurrent("c", 400))
    lower = [rate("a", 1.0, 5), concurrent("c", 20)]
    assert [decided(trial, *lower).refused_by is None for _ in range(6)] == [True] * 5 + [False]
    assert trial._meters.look(trial._tried["tried c"], "ann", NOW, UNIX)[0] == 5


def test_of_more_limits_than_can_be_tried_the_others_hold_as_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_limits, "TRIED_MAX", 2)
    trial = on_trial(*(rate(f"l{i}", 1.0, 100) for i in range(4)))
    assert [len(trial.limits_of([rate(f"l{i}", 1.0, 10)])) for i in range(4)] == [2, 2, 1, 1]
