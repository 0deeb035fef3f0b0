"""Counts of a trial over the channel."""

from meridian.core.judging import BOUNDS_SECONDS, HANDSHAKES, Arms, Sample, Tally
from meridian.nodes.trials import arms_from_proto, arms_to_proto

SLOW = tuple(range(len(BOUNDS_SECONDS)))


def test_all_that_is_counted_arrives() -> None:
    arms = Arms(
        0.05,
        {"": Tally(9, 1, 2, 3, 4, SLOW), "r": Tally(1)},
        {"r": Tally(7, failed=7, slower=SLOW)},
        {HANDSHAKES: Sample(0.05, Tally(8), Tally(3, failed=2))},
    )
    frame = arms_to_proto(11, arms)
    assert frame.tallies.generation == 11
    assert arms_from_proto(0.05, frame.tallies) == arms


def test_what_was_counted_by_other_bounds_is_left_out() -> None:
    frame = arms_to_proto(1, Arms(0.5, {"r": Tally(1)}, {"r": Tally(1)}, {HANDSHAKES: Sample(0.5, Tally(1), Tally(1))}))
    for tally in (frame.tallies.current[0], frame.tallies.candidate[0], frame.tallies.samples[0].candidate):
        del tally.slower[:3]
    assert arms_from_proto(0.5, frame.tallies) == Arms(0.5, {}, {})
