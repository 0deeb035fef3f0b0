"""Who is let in: Host, Origin, token, and how much may be sent."""

import pytest

from meridian.admin.gate import judge


def verdict(path: str = "/v1/status", **fields: str) -> int:
    headers = {"host": "127.0.0.11:9900", "authorization": "Bearer secret"} | fields
    denial = judge(
        path, {k.encode(): v.encode() for k, v in headers.items() if v}, "secret", {"localhost", "admin.lan"}
    )
    return denial.status if denial else 200


@pytest.mark.parametrize("host", ["127.0.0.11:9900", "127.0.0.11", "[::1]:9900", "localhost:9900", "admin.lan"])
def test_known_hosts_are_let_in(host: str) -> None:
    assert verdict(host=host) == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9900", "", "127.0.0.1.evil.example", "[::1", "a b"])
def test_a_rebound_name_is_not_let_in(host: str) -> None:
    assert verdict(host=host) == 421
    assert verdict("/metrics", host=host) == 421


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://127.0.0.11:9900", 200), ("http://evil.example", 403), ("null", 403), ("http://127.0.0.11:8080", 403)],
)
def test_a_foreign_page_is_not_let_in(origin: str, status: int) -> None:
    assert verdict(origin=origin) == status


@pytest.mark.parametrize("authorization", ["", "Bearer wrong", "Bearer", "Basic secret", "secret", "Bearer secre"])
def test_the_token_must_be_right(authorization: str) -> None:
    assert verdict(authorization=authorization) == 401


def test_health_and_metrics_need_no_token() -> None:
    assert verdict("/healthz", authorization="") == 200
    assert verdict("/metrics", authorization="") == 200
    assert verdict("/metrics/", authorization="") == 401


def test_no_token_lets_nobody_in() -> None:
    headers = {b"host": b"127.0.0.1", b"authorization": b"Bearer "}
    denial = judge("/v1/status", headers, "", ())
    assert denial is not None and denial.status == 401
