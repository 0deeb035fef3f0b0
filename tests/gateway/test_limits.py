"""Buckets outlive snapshots, so that no change of the document hands out a second burst."""

from meridian.core.snapshot import Limit
from meridian.gateway.limits import Decision, Limits


def test_a_new_snapshot_keeps_levels_and_a_new_key_starts_empty() -> None:
    limits = Limits()
    old = Limit("few", "client_ip", 10.0, 5)
    limits.replace({"few": old}, 0.0)
    buckets = limits.buckets(old)
    assert [buckets.admit("a", 10.0) for _ in range(5)] == [0.0] * 5
    new = Limit("few", "client_ip", 100.0, 50)
    limits.replace({"few": new}, 10.0)
    assert limits.buckets(new) is buckets and buckets.admit("a", 10.0) > 0.0, "no burst by a change of the burst"
    assert buckets.admit("a", 10.1) == 0.0, "but the new rate counts"
    by_route = Limit("few", "route", 100.0, 50)
    limits.replace({"few": by_route}, 20.0)
    assert limits.buckets(by_route).admit("r", 20.0) > 0.0


def test_a_worker_spends_the_parts_it_was_given() -> None:
    limits = Limits()
    limit = Limit("few", "client_ip", 10.0, 10)
    limits.set_shares(10, (0, 1), 0.0)
    limits.replace({"few": limit}, 0.0)
    buckets = limits.buckets(limit)
    assert [buckets.admit("a", 100.0) for _ in range(2)] == [0.0] * 2 and buckets.admit("a", 100.0) > 0.0
    limits.set_shares(10, (0, 1, 2, 3, 4), 100.0)
    assert buckets.admit("a", 100.0) > 0.0, "what is given starts empty"
    assert buckets.share.burst == 5
    limits.set_shares(10, (), 100.0)
    assert buckets.admit("a", 200.0) == float("inf")


def test_a_request_that_one_limit_refuses_takes_from_none() -> None:
    limits = Limits()
    wide, narrow = Limit("wide", "route", 1.0, 5), Limit("narrow", "client_ip", 1.0, 2)
    limits.replace({"wide": wide, "narrow": narrow}, 0.0)
    asked = [(wide, "r"), (narrow, "a")]
    assert limits.decide(asked, 10.0) == Decision(True, "narrow", 1, 0.0, 0.0)
    assert limits.decide(asked, 10.0).admitted
    refused = limits.decide(asked, 10.0)
    assert not refused.admitted and refused.limit == "narrow" and 0.9 < refused.retry_after_seconds < 1.1
    assert [limits.decide([(wide, "r")], 10.0).remaining for _ in range(3)] == [2, 1, 0], "nothing was taken of wide"
