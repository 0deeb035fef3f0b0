import grpc
import pytest

from meridian.store.etcd_errors import REASON_CHARACTERS_MAX, Fate, judge
from meridian.store.port import LeaseLost, Refused

C = grpc.StatusCode


@pytest.mark.parametrize(
    ("code", "details", "fate"),
    [
        (C.UNAVAILABLE, "etcdserver: no leader", Fate.NOT_DONE),
        (C.RESOURCE_EXHAUSTED, "etcdserver: too many requests", Fate.NOT_DONE),
        (C.UNKNOWN, "raft proposal dropped", Fate.NOT_DONE),
        # Answers that come after the proposal, or from nobody: it may have been done.
        (C.UNAVAILABLE, "etcdserver: leader changed", Fate.UNKNOWN),
        (C.UNAVAILABLE, "etcdserver: request timed out", Fate.UNKNOWN),
        (C.UNAVAILABLE, "etcdserver: request timed out, possibly due to previous leader failure", Fate.UNKNOWN),
        (C.UNAVAILABLE, "etcdserver: server stopped", Fate.UNKNOWN),
        (C.UNAVAILABLE, "Socket closed", Fate.UNKNOWN),
        (C.DEADLINE_EXCEEDED, "Deadline Exceeded", Fate.UNKNOWN),
        (C.CANCELLED, None, Fate.UNKNOWN),
        (C.INTERNAL, "", Fate.UNKNOWN),
        (C.UNAUTHENTICATED, "etcdserver: invalid auth token", Fate.TOKEN),
        (C.INVALID_ARGUMENT, "etcdserver: user name is empty", Fate.TOKEN),
        (C.INVALID_ARGUMENT, "etcdserver: revision of auth store is old", Fate.TOKEN),
        (C.INVALID_ARGUMENT, "etcdserver: authentication failed, invalid user ID or password", Fate.FINAL),
        (C.PERMISSION_DENIED, "etcdserver: permission denied", Fate.FINAL),
        (C.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded", Fate.FINAL),
        (C.UNIMPLEMENTED, "unknown service", Fate.FINAL),
    ],
)
def test_only_what_was_surely_not_proposed_counts_as_not_done(
    code: grpc.StatusCode, details: str | None, fate: Fate
) -> None:
    assert judge(code, details).fate is fate


def test_a_final_answer_becomes_the_error_that_says_what_to_do() -> None:
    assert judge(C.NOT_FOUND, "etcdserver: requested lease not found").error is LeaseLost
    full = judge(C.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded")
    assert full.error is Refused
    assert "defragment" in full.reason


def test_the_reason_is_short_whatever_the_library_says() -> None:
    assert len(judge(C.UNAVAILABLE, "x" * 10_000).reason) == REASON_CHARACTERS_MAX
    assert judge(C.INTERNAL, "").reason == "INTERNAL"
