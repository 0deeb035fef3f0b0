"""When certificates are renewed and failures tried again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meridian.core.acme import (
    AGAIN_FIRST_SECONDS,
    AGAIN_MAX_SECONDS,
    ASKED_MAX_SECONDS,
    HOUR_SECONDS,
    LOOK_MAX_SECONDS,
    LOOK_MIN_SECONDS,
    LOOK_SECONDS,
    Window,
    certificate_id,
    challenge_name,
    look_time,
    order_time,
    recent,
    renewal_time,
    retry_time,
)

DRAWS = st.floats(0.0, 1.0, exclude_max=True)
DAY = 86_400.0


@given(DRAWS)
def test_renewal_is_in_the_window_or_after_two_thirds_and_never_later(draw: float) -> None:
    window = Window(100.0, 200.0)
    assert 100.0 <= renewal_time(0.0, 1000.0, window, draw) <= 200.0
    assert 57 * DAY - 1e-3 <= renewal_time(0.0, 90 * DAY, None, draw) <= 60 * DAY + 1e-3


@given(st.integers(1, 10_000), DRAWS)
def test_a_failure_waits_longer_each_time_and_within_bounds(failures: int, draw: float) -> None:
    wait = retry_time(1000.0, failures, 0.0, draw) - 1000.0
    assert 0.75 * AGAIN_FIRST_SECONDS <= wait <= 1.25 * AGAIN_MAX_SECONDS
    assert wait <= retry_time(1000.0, failures + 2, 0.0, draw) - 1000.0


def test_an_authority_is_not_asked_before_it_wants_but_once_a_day() -> None:
    assert retry_time(0.0, 1, 7200.0, 0.5) == 7200.0
    assert retry_time(0.0, 1, 1e9, 0.5) == ASKED_MAX_SECONDS


@pytest.mark.parametrize(
    ("asked", "wait"),
    [(None, LOOK_SECONDS), (1.0, LOOK_MIN_SECONDS), (3600.0, 3600.0), (1e9, LOOK_MAX_SECONDS)],
)
def test_the_suggestion_is_asked_for_as_often_as_the_authority_says(asked: float | None, wait: float) -> None:
    assert look_time(5.0, asked) == 5.0 + wait


@given(st.lists(st.floats(0.0, 3 * HOUR_SECONDS), max_size=30), st.integers(1, 10))
def test_no_hour_has_more_orders_than_allowed(times: list[float], per_hour: int) -> None:
    begun: tuple[float, ...] = ()
    every = []
    for now in sorted(times):
        if order_time(begun, now, per_hour) <= now:
            begun = (*recent(begun, now), now)
            every.append(now)
        else:
            assert order_time(begun, now, per_hour) <= now + HOUR_SECONDS
    for at in every:
        assert sum(at <= other < at + HOUR_SECONDS for other in every) <= per_hour


def test_a_certificate_is_known_by_its_authority_and_hosts_in_any_order() -> None:
    one = certificate_id("https://a/", ["b.example.com", "A.example.com."])
    assert one == certificate_id("https://a/", ["a.example.com", "b.example.com"])
    assert one != certificate_id("https://b/", ["a.example.com", "b.example.com"])
    assert one != certificate_id("https://a/", ["a.example.com"])


def test_a_wildcard_is_proven_at_the_name_that_it_is_of() -> None:
    assert (
        challenge_name("*.Shop.example.com")
        == challenge_name("shop.example.com.")
        == "_acme-challenge.shop.example.com."
    )
