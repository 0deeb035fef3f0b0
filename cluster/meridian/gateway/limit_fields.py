"""RateLimit-Policy and RateLimit: what a client is told of its limits (draft-ietf-httpapi-ratelimit-headers-11).

Both are Lists of Structured Fields (RFC 9651): a String, the limit's name, with parameters. `q` is what the document
allows, `r` what this worker could still admit at once: hints, as the draft has it, and never more than the truth.
"""

from collections.abc import Sequence
from math import ceil, inf

from meridian.core.snapshot import Limit
from meridian.gateway.limits import Standing
from meridian.wire.events import Headers

INTEGER_MAX = 999_999_999_999_999
"""Of an Integer in a structured field (RFC 9651 section 3.3.1)."""


def fields(standings: Sequence[Standing]) -> Headers:
    """The two fields, or none if no limit wants to be announced."""
    shown = [one for one in standings if one.limit.announce and not one.limit.dry_run]
    if not shown:
        return []
    return [
        (b"ratelimit-policy", ", ".join([policy(one.limit, one.period_seconds) for one in shown]).encode()),
        (b"ratelimit", ", ".join([service_limit(one) for one in shown]).encode()),
    ]


def policy(limit: Limit, period_seconds: float) -> str:
    """One quota policy item (section 3.1). A token bucket's window is the time in which it fills."""
    if limit.kind == "concurrent":
        return f'"{limit.name}";q={limit.amount};qu="concurrent-requests"'
    if limit.kind == "rate":
        return f'"{limit.name}";q={limit.burst};w={_seconds(limit.burst / limit.rate_per_second)}'
    return f'"{limit.name}";q={limit.amount};w={_seconds(period_seconds)}'


def service_limit(standing: Standing) -> str:
    """One service limit item (section 4.1)."""
    item = f'"{standing.limit.name}";r={min(max(0, standing.remaining), INTEGER_MAX)}'
    if standing.limit.kind == "concurrent" or standing.reset_seconds == inf:
        return item
    return f"{item};t={min(ceil(max(0.0, standing.reset_seconds)), INTEGER_MAX)}"


def retry_after(seconds: float) -> Headers:
    """Retry-After (RFC 9110 section 10.2.3); nothing if waiting does not help."""
    return [(b"retry-after", b"%d" % _seconds(seconds))] if seconds != inf else []


def _seconds(seconds: float) -> int:
    """Whole seconds, at least one: neither a window nor a wait of none means anything."""
    return min(max(1, ceil(seconds)), INTEGER_MAX)
