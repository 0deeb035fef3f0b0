"""In every window W all spenders together admit at most R*W + B (invariant 2)."""

from hypothesis import given
from hypothesis import strategies as st

from meridian.core import limiting
from meridian.core.limiting import Buckets, Share, joined, share

_rates = st.floats(0.1, 1000)
_bursts = st.integers(1, 50)


@given(_rates, _bursts, st.integers(1, 60))
def test_shares_sum_to_the_whole(rate: float, burst: int, spenders: int) -> None:
    parts = [share(rate, burst, spenders, index, 0.0) for index in range(spenders)]
    assert sum(part.burst for part in parts) == burst
    assert sum(part.rate_per_second for part in parts) * 1.01 <= rate * 1.000001
    whole = joined(parts, 0.0)
    assert whole.burst == burst and whole.rate_per_second * 1.01 <= rate * 1.000001


@given(_rates, _bursts, st.integers(1, 4), st.data())
def test_the_bound_holds_for_all_spenders_in_every_window(
    rate: float, burst: int, spenders: int, data: st.DataObject
) -> None:
    """Spenders come and go: each change of their number gives every one a new share at the same moment; one may
    restart at any time. A key is asked for at any worker. Clocks run up to 1 % fast."""
    speeds = [data.draw(st.floats(0.99, 1.01)) for _ in range(spenders)]
    now, number = 0.0, spenders
    buckets = [Buckets(share(rate, burst, number, index, 0.0)) for index in range(spenders)]
    admitted: list[float] = []
    for _ in range(data.draw(st.integers(1, 60))):
        now += data.draw(st.floats(0, 3 / rate))
        match data.draw(st.sampled_from(["ask", "ask", "ask", "ask", "shares", "restart"])):
            case "ask":
                at = data.draw(st.integers(0, spenders - 1))
                if buckets[at].admit("k", now * speeds[at]) == 0.0:
                    admitted.append(now)
            case "shares":
                number = data.draw(st.integers(spenders, spenders + 3))
                for index, one in enumerate(buckets):
                    one.resize(share(rate, burst, number, index, now * speeds[index]))
            case "restart":
                at = data.draw(st.integers(0, spenders - 1))
                buckets[at] = Buckets(share(rate, burst, number, at, now * speeds[at]))
    for first in range(len(admitted)):
        for last in range(first, len(admitted)):
            window = admitted[last] - admitted[first]
            assert last - first + 1 <= rate * window + burst + 1e-6


@given(_rates, _bursts)
def test_what_the_bound_allows_is_admitted(rate: float, burst: int) -> None:
    one = Buckets(share(rate, burst, 1, 0, 0.0))
    later = 2 * burst / rate + 1
    assert [one.admit("k", later) for _ in range(burst)] == [0.0] * burst
    wait = one.admit("k", later)
    assert 0 < wait <= 1.02 / rate
    assert one.admit("k", later + wait * 1.000001 + 1e-6) == 0.0


def test_no_token_means_never() -> None:
    one = Buckets(share(10, 2, 3, 2, 0.0))
    assert one.admit("k", 100.0) == float("inf")


def test_a_full_table_refuses_new_keys_and_forgets_only_full_ones(monkeypatch) -> None:  # type: ignore[no-untyped-def] # pytest's
    monkeypatch.setattr(limiting, "KEYS_MAX", 2)
    one = Buckets(Share(1.0, 2, 0.0))
    assert one.admit("a", 10.0) == one.admit("b", 10.0) == 0.0
    assert 0 < one.admit("c", 10.0) <= 1.0
    assert one.admit("c", 11.5) == 0.0, "a is full again"
    assert one.admit("c", 11.5) == 0.0 and one.admit("c", 11.5) > 0.0
    assert one.admit("b", 11.5) == 0.0 and one.admit("a", 11.6) > 0.0, "neither b nor c is full: no room for a"


def test_a_resize_of_many_keys_gives_nobody_a_burst(monkeypatch) -> None:  # type: ignore[no-untyped-def] # pytest's
    monkeypatch.setattr(limiting, "KEYS_SETTLED_MAX", 1)
    one = Buckets(Share(1.0, 2, 0.0))
    one.admit("a", 10.0)
    one.admit("b", 10.0)
    one.resize(Share(2.0, 4, 10.0))
    assert one.admit("a", 10.0) > 0 and one.admit("a", 10.5) == 0.0
