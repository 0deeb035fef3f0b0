"""Certificates that are obtained by ACME: what they are kept under, when they are renewed, when a failure is tried
again.

Times are seconds since 1970: they outlast processes and machines. `draw` is chance in [0, 1), so that nodes and
clusters that began together do not come together.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

LIFE_BEFORE_RENEWAL = 2 / 3  # where the authority suggests no time; what large clients do
LIFE_OF_JITTER = 1 / 30  # three days of ninety, and always earlier
AGAIN_FIRST_SECONDS = 120.0  # the largest authority allows five failures of a host in an hour
AGAIN_MAX_SECONDS = 6 * 3600.0
ASKED_MAX_SECONDS = 24 * 3600.0  # an authority that wants us to wait longer is asked again all the same
HOUR_SECONDS = 3600.0
LOOK_SECONDS = 6 * 3600.0  # between looks at the suggested time, where its answer does not say (RFC 9773 section 4.3)
LOOK_MIN_SECONDS, LOOK_MAX_SECONDS = 60.0, 24 * 3600.0  # section 4.3.1


@dataclass(frozen=True, slots=True)
class Window:
    """When an authority suggests that a certificate be replaced (RFC 9773 section 4.2)."""

    start: float
    end: float


def certificate_id(directory: str, hosts: Sequence[str]) -> str:
    """What a certificate is kept under: another authority, or other hosts, make another certificate."""
    names = sorted({host.lower().rstrip(".") for host in hosts})
    return hashlib.sha256("\n".join([directory, *names]).encode()).hexdigest()[:40]


def account_id(directory: str, external_key_id: str) -> str:
    """What the account at an authority is kept under."""
    return hashlib.sha256(f"{directory}\n{external_key_id}".encode()).hexdigest()[:40]


def renewal_time(not_before: float, not_after: float, window: Window | None, draw: float) -> float:
    """When to renew: at a time in the window that the authority suggests, else after two thirds of the life."""
    if window is not None:
        return window.start + draw * (window.end - window.start)
    return not_before + (not_after - not_before) * (LIFE_BEFORE_RENEWAL - draw * LIFE_OF_JITTER)


def look_time(now: float, asked_seconds: float | None) -> float:
    """When to ask for the suggested time again; `asked_seconds` is what the authority said."""
    wait = LOOK_SECONDS if asked_seconds is None else asked_seconds
    return now + min(max(wait, LOOK_MIN_SECONDS), LOOK_MAX_SECONDS)


def retry_time(now: float, failures: int, asked_seconds: float, draw: float) -> float:
    """When to try again after `failures` in a row (at least 1): later each time, and not before the authority wants."""
    pause = min(AGAIN_FIRST_SECONDS * 2.0 ** min(failures - 1, 20), AGAIN_MAX_SECONDS)
    return now + max(pause * (0.75 + 0.5 * draw), min(asked_seconds, ASKED_MAX_SECONDS))


def recent(begun: Sequence[float], now: float) -> tuple[float, ...]:
    """The orders of the last hour; one of the future was begun by a clock that is wrong."""
    return tuple(at for at in begun if now - HOUR_SECONDS < at <= now)


def order_time(begun: Sequence[float], now: float, per_hour: int) -> float:
    """When the next order may begin: `now`, if fewer than `per_hour` began in the last hour."""
    last = recent(begun, now)
    return now if len(last) < per_hour else sorted(last)[-per_hour] + HOUR_SECONDS


def challenge_name(host: str) -> str:
    """Where the record stands that proves a host (RFC 8555 section 8.4), absolute."""
    return f"_acme-challenge.{host.removeprefix('*.').lower().rstrip('.')}."
