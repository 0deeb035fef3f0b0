"""Secrets that all servers of the cluster share, in the course of time: those of DNS cookies (RFC 9018 section 5), and
those of TLS session tickets (RFC 5077 section 5.5). What is made with one, and shown again, is a token here.

    made --staged: accepted, so that every server knows it--> makes tokens --followed by the next--> still accepted

Invariant: a token that one server gives is accepted by all others for as long as it lives, also over a change of the
secret. What keeps it: a secret makes no token before it has stood in the store for `STAGED_SECONDS`, and goes only
when the last token that it made is too old. A server that has not reached the store for longer than that gives
tokens that others renew: it costs a client nothing but the proof, or a whole handshake.

Times are seconds since 1970: they outlast processes and machines.
"""

from collections.abc import Sequence
from dataclasses import dataclass

ROTATE_SECONDS = 86_400.0  # RFC 7873 section 7.1 recommends about a day
STAGED_SECONDS = 3_600.0  # a restart of etcd and of a node are long over by then
TOKEN_SECONDS = 3_600.0  # a cookie's life (RFC 9018 section 4.3), and a ticket's with it
KEPT_SECONDS = TOKEN_SECONDS + 300.0  # by clocks that differ by five minutes
AHEAD_SECONDS = 300.0  # what was made later than this from now was made by a clock that is wrong


@dataclass(frozen=True, slots=True)
class Secret:
    """One secret by its id, and when it was made."""

    id: str
    made_at: float


def is_due(secrets: Sequence[Secret], now: float) -> bool:
    """Whether a new secret is to be made: there is none, the last is old, or its time cannot be."""
    return not secrets or not secrets[-1].made_at - AHEAD_SECONDS <= now < secrets[-1].made_at + ROTATE_SECONDS


def followed(secrets: Sequence[Secret], new: Secret) -> tuple[Secret, ...]:
    """The secrets, oldest first, with a new one behind them; without those that nobody needs any more."""
    possible = [secret for secret in secrets if secret.made_at <= new.made_at + AHEAD_SECONDS]
    return (*(secret for secret in possible if _is_needed(secret, possible, new.made_at)), new)


def in_use(secrets: Sequence[Secret], now: float) -> tuple[Secret, ...]:
    """The secrets to accept at `now`; the first of them makes tokens. Empty only if there are none."""
    needed = [secret for secret in secrets if _is_needed(secret, secrets, now)]
    if not needed:
        return ()
    ready = [secret for secret in needed if secret.made_at + STAGED_SECONDS <= now]
    maker = ready[-1] if ready else needed[0]
    return (maker, *(secret for secret in reversed(needed) if secret is not maker))


def _is_needed(secret: Secret, secrets: Sequence[Secret], now: float) -> bool:
    """Whether it makes tokens, will, or made some that may still be shown."""
    later = [other for other in secrets if other.made_at > secret.made_at]
    return not later or now < later[0].made_at + STAGED_SECONDS + KEPT_SECONDS
