"""The checkers themselves: each finds what it is for, and is silent else."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meridian.core.invariants import Tenure, admission_violations, leadership_violations, sequence_violations
from meridian.core.verdicts import NodeVerdict, Standing, Verdict


def brute_force(times: list[float], rate: float, burst: int) -> bool:
    times = sorted(times)
    return any(
        j - i + 1 > rate * (times[j] - times[i]) + burst + 1e-6 for i in range(len(times)) for j in range(i, len(times))
    )


@given(st.lists(st.floats(0, 10), max_size=30), st.floats(0.5, 20), st.integers(1, 8))
def test_the_bound_is_that_of_every_window(times: list[float], rate: float, burst: int) -> None:
    assert bool(admission_violations(times, rate, burst)) == brute_force(times, rate, burst)


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (Tenure("b", 7, 2.0, 3.0), ()),
        (Tenure("b", 7, 0.9, 3.0), ("two leaders",)),
        (Tenure("b", 4, 2.0, 3.0), ("follows fence",)),
    ],
)
def test_tenures(second: Tenure, words: tuple[str, ...]) -> None:
    found = leadership_violations([second, Tenure("a", 5, 0.0, 1.0)])
    assert len(found) == len(words)
    assert all(word in text for word, text in zip(words, found, strict=True))


def test_a_fallback_stands_upon_its_base_and_gives_way() -> None:
    base = Verdict(5, 2, {"a": NodeVerdict("a", "eu", (), Standing.SERVING)}, {})
    suspect = {"a": NodeVerdict("a", "eu", (), Standing.SUSPECT)}
    merged = replace(base, nodes=suspect, fallback=1)
    assert sequence_violations([base, merged, replace(merged, fallback=2, nodes=base.nodes)]) == []
    assert sequence_violations([base, merged, base]) == []
    assert sequence_violations([base, merged, replace(base, fence=9)]) == []
    assert sequence_violations([base, merged, replace(base, nodes=suspect)])  # one version, two contents
    assert sequence_violations([base, replace(merged, version=3)])
    assert sequence_violations([base, merged, merged])
    assert sequence_violations([base, merged, replace(base, version=1)])


def test_sequences_of_verdicts() -> None:
    serving = {"a": NodeVerdict("a", "eu", (), Standing.SERVING)}
    first = Verdict(5, 1, serving, {})
    assert sequence_violations([first, replace(first, version=2), replace(first, fence=9, version=2)]) == []
    assert sequence_violations([first, first])
    assert sequence_violations([first, replace(first, fence=9, version=0)])
    gone = {"a": replace(serving["a"], standing=Standing.WITHDRAWN)}
    assert sequence_violations([first, replace(first, fence=9, nodes=gone)])
    assert sequence_violations([first, replace(first, version=2, nodes=gone)])
    assert sequence_violations([first, replace(first, version=2, nodes={})]) == []  # it left on purpose
