"""What one worker may have under way."""

from meridian.core.metering.concurrency import AGAIN_SECONDS, Concurrency
from meridian.core.metering.portions import ALL, NEVER, NOTHING, Portion


def test_so_many_at_a_time() -> None:
    one = Concurrency("few", 2)
    one.take(ALL)
    assert [one.admit("k", 0.0) for _ in range(3)] == [0.0, 0.0, AGAIN_SECONDS]
    one.release("k")
    assert one.look("k", 0.0)[0] == 1.0 and one.admit("k", 0.0) == 0.0
    assert one.admit("other", 0.0) == 0.0


def test_a_slice_is_free_only_when_what_it_admitted_has_ended() -> None:
    one = Concurrency("few", 4)
    one.take(Portion(2, (0, 1)))
    for _ in range(3):
        one.admit("k", 0.0)
    one.take(Portion(2, (0,)))
    assert not one.settled() and one.admit("k", 0.0) == AGAIN_SECONDS
    one.release("k")
    assert one.settled()
    one.take(NOTHING)
    assert not one.settled() and one.admit("k", 0.0) == NEVER


def test_the_table_is_bounded() -> None:
    one = Concurrency("few", 4, keys_max=1)
    one.take(ALL)
    assert one.admit("a", 0.0) == one.admit("a", 0.0) == 0.0 < one.admit("b", 0.0)
    assert one.refused_for_room == 1
