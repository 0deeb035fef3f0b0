"""What a failed call to etcd means: was it done, may it be repeated, and what should the operator do. Pure.

The one question that matters is whether a write may have happened. Only answers that etcd gives *before* it proposes
anything to Raft count as "not done"; whatever we do not know counts as "unknown". The texts are those of etcd 3.4 and
3.5 (its package rpctypes).
"""

from dataclasses import dataclass
from enum import Enum

import grpc

from meridian.store.port import LeaseLost, Refused, StoreError

REASON_CHARACTERS_MAX = 200


class Fate(Enum):
    NOT_DONE = "not done"  # refused by this member before any effect: another may do it
    UNKNOWN = "unknown"  # may have been done, or may be done later
    TOKEN = "token"  # not done: the token is not (or no longer) known  # noqa: S105  # a word, not a secret
    FINAL = "final"  # decided by the store; every member would say the same


@dataclass(frozen=True, slots=True)
class Judgement:
    """`error` is what the caller gets when the fate is FINAL."""

    fate: Fate
    reason: str
    error: type[StoreError] = StoreError


# Our own close() ended the call.
CLOSED = Judgement(Fate.UNKNOWN, "the store is closed")

_UNDECIDED = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)
_NOT_PROPOSED = ("etcdserver: no leader", "etcdserver: too many requests", "raft proposal dropped")
# The second is what a call without a token gets once authentication is on; the third, what an older token gets.
_TOKEN_REFUSED = ("invalid auth token", "user name is empty", "revision of auth store is old")
_LEASE_MISSING = "requested lease not found"

# (part of the text, what it means, what to do)
_REMEDIES = (
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not signed by the CA we were given: check the CA file"),
    ("Hostname Verification", "its certificate does not name this host: issue one that does"),
    ("is not in peer certificate", "its certificate does not name this host: issue one that does"),
    # In TLS 1.3 a server refuses the client's certificate after the handshake, and gRPC shows only that the stream of
    # records broke off; its log has the alert.
    ("TSI_DATA_CORRUPTED", "it refused our certificate: check the client certificate and its key"),
    ("WRONG_VERSION_NUMBER", "it does not speak TLS: write the endpoint as http:// or give etcd certificates"),
    ("handshake failed", "the TLS handshake failed: check the CA file and the client certificate"),
    ("Connection refused", "connection refused: is this member running?"),
    ("Socket closed", "it hung up: it stopped, or it speaks TLS where the endpoint says http"),
    ("No route to host", "no route to host: check the network"),
    ("database space exceeded", "out of space (NOSPACE): compact, defragment and disarm the alarm"),
    ("authentication failed", "user or password is wrong: check the etcd user given"),
    ("permission denied", "this user may not touch the key: grant its role the prefix /meridian/"),
    ("request is too large", "the request is too large for etcd: split the values into chunks"),
)


def judge(code: grpc.StatusCode, details: str | None) -> Judgement:
    """Returns what the status of a call that was sent means for it."""
    text = details or ""
    reason = explain(code, text)
    if any(part in text for part in _TOKEN_REFUSED):
        return Judgement(Fate.TOKEN, reason)
    if any(part in text for part in _NOT_PROPOSED):
        return Judgement(Fate.NOT_DONE, reason)
    if _LEASE_MISSING in text:
        return Judgement(Fate.FINAL, "no such lease: grant a new one", LeaseLost)
    if code in _UNDECIDED:
        return Judgement(Fate.UNKNOWN, reason)
    return Judgement(Fate.FINAL, reason, Refused)


def explain(code: grpc.StatusCode, details: str | None) -> str:
    """Returns the reason in an operator's words, with the remedy where there is one; the library's own words else."""
    text = details or ""
    for part, meaning in _REMEDIES:
        if part in text:
            return meaning
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return "no answer in time"
    return (text or code.name)[:REASON_CHARACTERS_MAX]
