"""What the document says of further tries (core/retry_words), as core/retrying decides by it."""

from math import inf

from meridian.core import retry_words
from meridian.core.hedging import Hedge
from meridian.core.retrying import Cause, Policy


def make_retry(words: retry_words.Retry) -> Policy:
    """Compiles it; a status counts as a cause."""
    statuses = frozenset(one for one in words.causes if isinstance(one, int))
    causes = frozenset(Cause(one) for one in words.causes if isinstance(one, str))
    return Policy(
        tries=words.tries,
        causes=causes | {Cause.STATUS} if statuses else causes,
        statuses=statuses,
        methods=frozenset(method.encode() for method in words.methods),
        backoff_seconds=words.backoff.base_seconds,
        backoff_seconds_max=words.backoff.max_seconds,
        per_try_seconds=words.per_try_timeout_seconds or inf,
    )


def make_hedge(words: retry_words.Hedge) -> Hedge:
    """When a second try begins, as the document says it."""
    return Hedge(words.after_percentile / 100, words.after_seconds_min)
