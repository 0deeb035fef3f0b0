"""Shared secrets follow each other so that no token that lives is refused by anybody."""

from hypothesis import given
from hypothesis import strategies as st

from meridian.core.shared_secrets import (
    AHEAD_SECONDS,
    KEPT_SECONDS,
    ROTATE_SECONDS,
    STAGED_SECONDS,
    TOKEN_SECONDS,
    Secret,
    followed,
    in_use,
    is_due,
)

NOW = 1_700_000_000.0
FIRST = Secret("a", NOW)


def names(secrets: tuple[Secret, ...], now: float) -> str:
    return "".join(secret.id for secret in in_use(secrets, now))


def test_a_day_of_a_secret() -> None:
    assert is_due((), NOW)
    assert not is_due((FIRST,), NOW + ROTATE_SECONDS - 1)
    assert names((FIRST,), NOW) == "a", "the first is used at once: there is none that others know"
    assert is_due((FIRST,), NOW + ROTATE_SECONDS)
    second = NOW + ROTATE_SECONDS
    both = followed((FIRST,), Secret("b", second))
    assert names(both, second + STAGED_SECONDS - 1) == "ab", "all know it before anybody uses it"
    assert names(both, second + STAGED_SECONDS) == "ba"
    assert names(both, second + STAGED_SECONDS + KEPT_SECONDS) == "b"
    assert [secret.id for secret in followed(both, Secret("c", second + ROTATE_SECONDS))] == ["b", "c"]


def test_a_secret_from_a_clock_that_was_wrong_is_followed_at_once() -> None:
    wrong = Secret("x", NOW + 10 * ROTATE_SECONDS)
    assert is_due((FIRST, wrong), NOW)
    assert [secret.id for secret in followed((FIRST, wrong), Secret("b", NOW + 60))] == ["a", "b"]
    assert not is_due((Secret("y", NOW + AHEAD_SECONDS),), NOW), "clocks of two leaders differ a little"


GAPS = st.lists(st.floats(0, 3 * ROTATE_SECONDS), min_size=1, max_size=6)


@given(GAPS, st.one_of(st.floats(0, STAGED_SECONDS), st.floats(0, 2 * ROTATE_SECONDS)))
def test_what_made_a_cookie_is_accepted_for_as_long_as_the_cookie_lives(gaps: list[float], later: float) -> None:
    """Leaders look whenever they look; a server that knows the record of then, and one that knows that of now."""
    now, secrets = NOW, tuple[Secret, ...]()
    for index, gap in enumerate(gaps):
        now += gap
        if is_due(secrets, now):
            after = followed(secrets, Secret(str(index), now))
            assert len(after) <= 3
            if secrets:
                # Who has not heard of the new one yet and who has make cookies that both accept.
                old, new = in_use(secrets, now), in_use(after, now)
                assert old[0] in new and new[0] in old
            secrets = after
    made_at = now + later
    maker = in_use(secrets, made_at)[0]
    for when in (made_at, made_at + TOKEN_SECONDS):
        record = followed(secrets, Secret("next", when)) if is_due(secrets, when) else secrets
        assert maker in in_use(record, when)
