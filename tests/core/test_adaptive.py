"""A limit that is learned, against a service that can do so much at once and makes the rest wait."""

import random
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from meridian.core.adaptive import PROBE_AFTER, SAMPLES_MAX, WINDOW_SECONDS, Adaptive, AdaptiveLimit

POLICY = Adaptive()


@dataclass
class Service:
    """What waits takes longer, by Little's law."""

    at_once: float
    seconds: float
    limit: AdaptiveLimit = field(default_factory=lambda: AdaptiveLimit(float(POLICY.initial)))
    now: float = 0.0
    draw: random.Random = field(default_factory=lambda: random.Random(1))

    def run(self, windows: int, wanted: float, policy: Adaptive = POLICY) -> list[float]:
        """So many requests want to be under way at a time; gives what was allowed of them in each window."""
        allowed = []
        for _ in range(windows):
            active = min(wanted, self.limit.allowed)
            allowed.append(active)
            for _ in range(40):
                spread = self.draw.uniform(0.8, 1.3)
                self.limit.observe(self.seconds * spread * max(1.0, active / self.at_once), int(active))
            self.now += WINDOW_SECONDS
            self.limit.step(policy, self.now)
        return allowed


def middle(values: list[float]) -> float:
    """Without the windows of probes, which are few."""
    return sorted(values)[len(values) // 2]


@settings(deadline=None, max_examples=30)
@given(st.integers(8, 300), st.floats(0.001, 1.0), st.integers(0, 99))
def test_it_comes_to_about_what_the_service_can_do_and_stays_there_under_load(
    at_once: int, seconds: float, seed: int
) -> None:
    service = Service(at_once, seconds, draw=random.Random(seed))
    service.run(4, at_once / 2)
    service.run(60, 10_000.0)
    late = service.run(200, 10_000.0)
    assert 0.8 * at_once <= middle(late) <= 3.0 * at_once, "an overload that lasts is not taken for the measure"


def test_without_limit_of_the_service_it_grows_and_holds_nobody_back() -> None:
    service = Service(100_000, 0.01)
    assert service.run(12, 600.0)[-1] == 600.0
    assert service.limit.limit <= POLICY.most


def test_an_idle_upstream_does_not_make_it_grow() -> None:
    service = Service(100, 0.01)
    service.run(100, 5.0)
    assert service.limit.limit == POLICY.initial


def test_it_follows_a_service_that_loses_half_of_itself_and_one_that_gets_it_back() -> None:
    service = Service(100, 0.02)
    service.run(4, 50.0)
    service.run(100, 10_000.0)
    service.at_once = 30
    service.run(2 * PROBE_AFTER, 10_000.0)
    assert middle(service.run(100, 10_000.0)) <= 90
    service.at_once = 100
    service.run(2 * PROBE_AFTER, 10_000.0)
    assert middle(service.run(100, 10_000.0)) >= 80


def test_a_service_that_becomes_slower_but_is_not_full_is_not_starved() -> None:
    service = Service(1000, 0.01)
    service.run(20, 40.0)
    service.seconds = 0.05
    service.run(4 * PROBE_AFTER, 40.0)
    assert middle(service.run(100, 40.0)) == 40.0


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.0, 100.0), st.integers(0, 5000)), max_size=300), st.integers(1, 50))
def test_it_is_always_within_its_bounds(samples: list[tuple[float, int]], least: int) -> None:
    policy = Adaptive(least, 2 * least, least, 1.5)
    limit = AdaptiveLimit(float(least))
    for turn, (seconds, active) in enumerate(samples):
        limit.observe(seconds, active)
        limit.step(policy, turn * WINDOW_SECONDS / 5)
        assert least <= limit.limit <= 2 * least and least / 2 <= limit.allowed <= limit.limit


def test_what_is_kept_of_a_window_is_bounded() -> None:
    limit = AdaptiveLimit(50.0)
    for _ in range(10 * SAMPLES_MAX):
        limit.observe(0.1, 1)
    assert len(limit.samples) == SAMPLES_MAX
