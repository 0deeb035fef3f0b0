"""What the document says of too much (core/overload_words), as core/adaptive and core/shedding decide by it."""

from math import inf

from meridian.core import overload_words
from meridian.core.adaptive import Adaptive
from meridian.core.shedding import Bounds


def make_adaptive(words: overload_words.AdaptiveConcurrency) -> Adaptive:
    """The bounds of a limit that is learned."""
    return Adaptive(words.min, words.max, words.initial, words.tolerance)


def make_bounds(words: overload_words.Overload) -> Bounds:
    """What is no sign of overload is infinite."""
    return Bounds(words.requests_max or inf, words.loop_lag_seconds_max or inf)
