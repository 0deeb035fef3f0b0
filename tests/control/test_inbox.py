from meridian.control.inbox import OBSERVERS_MAX, Inbox
from meridian.core.verdicts import Report


def report(observer: str, sequence: int, age: float = 0.0) -> Report:
    return Report(observer, "eu", f"{observer}.1", 1, sequence, {}, age_seconds=age)


def test_the_newest_of_each_observer_is_kept_and_aged() -> None:
    now = 10.0
    inbox = Inbox(lambda: now)
    assert inbox.take(report("a", 2, age=0.5))
    assert not inbox.take(report("a", 1))
    assert not inbox.take(report("a", 2))
    assert inbox.heard["a"].made == 9.5
    assert inbox.ages() == {"a": 0.5}
    assert inbox.take(report("a", 3))
    assert inbox.heard["a"].made == 10.0


def test_it_is_bounded_and_forgets_who_is_silent_for_longest() -> None:
    now = 0.0
    inbox = Inbox(lambda: now)
    for number in range(OBSERVERS_MAX + 5):
        now += 1.0
        assert inbox.take(report(f"n{number}", 1))
    assert len(inbox.heard) == OBSERVERS_MAX
    assert "n4" not in inbox.heard
    assert "n5" in inbox.heard
