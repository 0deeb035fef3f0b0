import pytest

from meridian.store.keys import Keys

KEYS = Keys("prod")


def test_every_key_lies_below_the_cluster_and_under_its_own_prefix() -> None:
    assert KEYS.chunk("ab") == "/meridian/v1/prod/config/chunks/ab"
    assert KEYS.current() == "/meridian/v1/prod/config/current"
    assert KEYS.rollout() == "/meridian/v1/prod/config/rollout"
    assert KEYS.member("n1.0f") == "/meridian/v1/prod/members/n1.0f"
    assert KEYS.leader() == "/meridian/v1/prod/leader"
    assert KEYS.verdict() == "/meridian/v1/prod/verdicts/current"
    assert KEYS.drain("eu-west") == "/meridian/v1/prod/drains/eu-west"
    assert KEYS.limit_seat(7) == "/meridian/v1/prod/limits/seats/7"
    assert KEYS.purge("1") == "/meridian/v1/prod/cache/1"
    assert KEYS.acme_account("1f") == "/meridian/v1/prod/acme/accounts/1f"
    assert KEYS.acme_certificate("1f") == "/meridian/v1/prod/acme/certificates/1f"
    assert KEYS.acme_challenge("1f") == "/meridian/v1/prod/acme/challenges/1f"
    assert KEYS.secret("tls") == "/meridian/v1/prod/keys/tls"


def test_the_order_of_version_keys_is_the_order_of_numbers() -> None:
    assert KEYS.version(9) < KEYS.version(10) < KEYS.version(1000)
    assert KEYS.version(9).startswith(KEYS.versions())


@pytest.mark.parametrize("name", ["", "a/b", "..", "-a", "a b", "a\n", "ü", "x" * 201])
def test_a_name_that_could_leave_its_place_is_refused(name: str) -> None:
    for make in (
        Keys,
        KEYS.member,
        KEYS.drain,
        KEYS.chunk,
        KEYS.secret,
        KEYS.limit_value,
        lambda bad: KEYS.limit_ack("l", bad),
    ):
        with pytest.raises(ValueError, match="cannot be part of a key"):
            make(name)


@pytest.mark.parametrize("number", [0, -1, 10**10])
def test_a_version_is_a_positive_number(number: int) -> None:
    with pytest.raises(ValueError, match="from 1 on"):
        KEYS.version(number)
