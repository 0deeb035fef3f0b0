"""Tokens: for whom, how often, until when; and that the folder does not hold the secret."""

import datetime
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from meridian.pki import tokens
from meridian.pki.authority import Identity, PkiError, addresses_of, make_authority
from meridian.pki.tokens import Grant

NOW = 1_800_000_000.0
AUTHORITY = make_authority("shop", datetime.datetime.fromtimestamp(NOW, datetime.UTC)).certificate
EU = Identity("eu-west-1", addresses_of(["10.1.0.7"]))


def grant(names: str = "eu-west-*", uses: int = 1, seconds: float = 60.0) -> Grant:
    return Grant(names, ("10.1.0.0/16",), uses, NOW + seconds)


def secret_of(token: str) -> str:
    return tokens.split(token)[0]


def test_a_token_lets_one_machine_in_once(tmp_path: Path) -> None:
    token = tokens.make(tmp_path, AUTHORITY, grant(), NOW)
    assert tokens.split(token + "\n")[1] == tokens.fingerprint(AUTHORITY)
    assert tokens.use(tmp_path, secret_of(token), EU, NOW).cluster_key
    with pytest.raises(PkiError, match="unknown, or was used"):
        tokens.use(tmp_path, secret_of(token), EU, NOW)


def test_of_many_that_come_at_once_as_many_join_as_may(tmp_path: Path) -> None:
    secret = secret_of(tokens.make(tmp_path, AUTHORITY, grant(uses=3), NOW))

    def tries(_: int) -> bool:
        try:
            tokens.use(tmp_path, secret, EU, NOW)
        except PkiError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(tries, range(24))) == 3


@pytest.mark.parametrize(
    ("identity", "after", "reason"),
    [
        (Identity("us-east-1", EU.addresses), 0.0, "not for the name us-east-1"),
        (Identity("eu-west-1", EU.addresses, ("etcd.example.com",)), 0.0, "not for the name etcd"),
        (Identity("eu-west-1", addresses_of(["10.2.0.7"])), 0.0, "not for the address 10.2.0.7"),
        (EU, 60.0, "time is over"),
    ],
)
def test_a_refusal_counts_nothing(tmp_path: Path, identity: Identity, after: float, reason: str) -> None:
    secret = secret_of(tokens.make(tmp_path, AUTHORITY, grant(), NOW))
    with pytest.raises(PkiError, match=reason):
        tokens.use(tmp_path, secret, identity, NOW + after)
    tokens.use(tmp_path, secret, EU, NOW)


def test_the_folder_does_not_hold_the_secret(tmp_path: Path) -> None:
    secret = secret_of(tokens.make(tmp_path, AUTHORITY, grant(), NOW))
    for file in (tmp_path / "tokens").iterdir():
        assert secret not in file.name and secret not in file.read_text()


def test_old_tokens_are_swept_and_their_number_is_bounded(tmp_path: Path) -> None:
    tokens.make(tmp_path, AUTHORITY, grant(), NOW)
    tokens.make(tmp_path, AUTHORITY, grant(), NOW + 61)
    assert len(list((tmp_path / "tokens").iterdir())) == 1
    for i in range(tokens.TOKENS_MAX):
        (tmp_path / "tokens" / f"{i}.json").write_bytes(next((tmp_path / "tokens").iterdir()).read_bytes())
    with pytest.raises(PkiError, match="holds 1000 tokens"):
        tokens.make(tmp_path, AUTHORITY, grant(), NOW)


@pytest.mark.parametrize("text", ["", "mrd1.short.abc", "x" * 200])
def test_what_is_no_token_is_told_so(text: str) -> None:
    with pytest.raises(PkiError, match="no token"):
        tokens.split(text)


def test_a_network_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PkiError, match=r"--network 10\.0\.0\.1/8"):
        tokens.make(tmp_path, AUTHORITY, Grant("*", ("10.0.0.1/8",), 1, NOW + 1), NOW)
