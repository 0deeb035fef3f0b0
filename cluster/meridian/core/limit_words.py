"""What an operator may say of a limit: how much, of what kind, and for whom (the words under `limits`)."""

import re
import zoneinfo
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from meridian.core.rates import UNIT_SECONDS, parse_rate
from meridian.core.words import Name, Word

TOKENS_MAX = 10_000_000
WINDOW_SECONDS_MAX = 3_600.0  # so long a part may be out of use after a crash; a quota is on the disk
KEY_PARTS_MAX = 4

_WINDOW = re.compile(r"^(\d+)/(\d+)([smh])$")
_QUOTA = re.compile(r"^(\d+)/(day|month)$")
_FIELD_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,64}")
_PARTS = ("client_ip", "consumer", "route", "host")


def parse_window(text: str) -> tuple[int, float]:
    """Returns (requests, seconds) of `1000/1h`, `20/10s` or `300/5m`; raises ValueError."""
    match = _WINDOW.match(text)
    if match is None or int(match[1]) == 0 or int(match[2]) == 0:
        raise ValueError(f"{text!r} is not a window; write for example 1000/1h, 300/5m or 20/10s")
    amount, seconds = _tokens(text, match[1]), float(match[2]) * UNIT_SECONDS[match[3]]
    if seconds > WINDOW_SECONDS_MAX:
        raise ValueError(f"{text!r}: a window is at most 1h long; for more use quota: {amount}/day or {amount}/month")
    return amount, seconds


def parse_quota(text: str) -> tuple[int, Literal["day", "month"]]:
    """Returns (requests, period) of `10000/day` or `200000/month`; raises ValueError."""
    match = _QUOTA.match(text)
    if match is None or int(match[1]) == 0:
        raise ValueError(f"{text!r} is not a quota; write for example 10000/day or 200000/month")
    return _tokens(text, match[1]), "day" if match[2] == "day" else "month"


def _tokens(text: str, digits: str) -> int:
    if len(digits) > 9 or int(digits) > TOKENS_MAX:
        raise ValueError(f"{text!r}: at most {TOKENS_MAX:,} requests can be counted")
    return int(digits)


def checked_rate(given: Any) -> str:
    """The rate as it was written; raises ValueError as `parse_rate` does."""
    parse_rate(str(given))  # 100 without a unit is a number in YAML, and is to be told what is missing
    return str(given)


def _checked_window(given: Any) -> str:
    parse_window(str(given))
    return str(given)


def _checked_quota(given: Any) -> str:
    parse_quota(str(given))
    return str(given)


def _checked_zone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):  # OSError: the name of a folder
        raise ValueError(f"{name!r} is no time zone here; write UTC, or a name such as Europe/Berlin") from None
    return name


def _checked_key(given: Any) -> tuple[str, ...]:
    """One part or several, each a known word. Always a tuple, so that `consumer` and `[consumer]` are the same."""
    parts = (given,) if isinstance(given, str) else given
    if not isinstance(parts, (list, tuple)) or not all(isinstance(part, str) for part in parts):
        raise ValueError("key is one of the known words or a list of them, for example [consumer, route]")
    if not 1 <= len(parts) <= KEY_PARTS_MAX:
        raise ValueError(f"key has {len(parts)} parts; it must have between 1 and {KEY_PARTS_MAX}")
    checked = tuple(_checked_part(part) for part in parts)
    if len(set(checked)) != len(checked):
        raise ValueError("key names a part twice; keep one")
    return checked


def _checked_part(part: str) -> str:
    kind, colon, name = part.partition(":")
    if part in _PARTS:
        return part
    if kind == "header" and colon and _FIELD_NAME.fullmatch(name.lower()):
        return f"header:{name.lower()}"
    raise ValueError(f"{part[:64]!r} is no key; known here: {', '.join(_PARTS)}, header:NAME, or a list of them")


Key = Annotated[
    tuple[str, ...],
    BeforeValidator(_checked_key),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]


class Limit(Word):
    """How much all nodes together admit for each key, and never more: exactly one of rate, window, quota, concurrent.

    See docs/limits.md for what each promises and what it costs.
    """

    name: Name
    key: Key = Field(
        default=("client_ip",),
        description="client_ip (IPv6 by /64), consumer, route, host, header:NAME, or a list of them. "
        "Requests without the header or consumer share one key",
    )
    rate: Annotated[str, BeforeValidator(checked_rate)] | None = Field(
        default=None, description="a token bucket, with burst: 100/s, 600/m or 1000/h"
    )
    burst: int | None = Field(default=None, ge=1, le=TOKENS_MAX, description="how many at once, beyond the rate")
    window: Annotated[str, BeforeValidator(_checked_window)] | None = Field(
        default=None, description="so many in any window of that length: 1000/1h, 300/5m or 20/10s"
    )
    quota: Annotated[str, BeforeValidator(_checked_quota)] | None = Field(
        default=None, description="so many in a calendar day or month: 10000/day or 200000/month"
    )
    time_zone: Annotated[str, AfterValidator(_checked_zone)] = Field(
        default="UTC", description="whose days and months a quota counts"
    )
    concurrent: int | None = Field(default=None, ge=1, le=1_000_000, description="so many under way at any moment")
    status: int = Field(default=429, ge=400, le=599, description="of the answer to what is refused")
    dry_run: bool = Field(default=False, description="counts what it would refuse, and admits it")
    announce: bool = Field(default=True, description="whether answers carry RateLimit and RateLimit-Policy")
    when_unreachable: Literal["deny", "allow"] = Field(
        default="deny", description="if a key's owner does not answer; burst no greater than the number of workers only"
    )
    when_store_is_lost: Literal["floor", "deny", "open"] = Field(
        default="floor", description="floor: each node's home share; open: counted, and without a bound"
    )

    @model_validator(mode="after")
    def _one_kind(self) -> "Limit":
        kinds = [word for word in ("rate", "window", "quota", "concurrent") if getattr(self, word) is not None]
        if len(kinds) != 1:
            raise ValueError(f"a limit has exactly one of: rate, window, quota, concurrent ({_said(kinds)})")
        if (self.burst is None) == (self.rate is not None):
            raise ValueError("rate and burst need each other: give both, for example rate: 100/s, burst: 200")
        if self.time_zone != "UTC" and self.quota is None:
            raise ValueError("time_zone means nothing without quota: leave it out")
        return self


def _said(kinds: list[str]) -> str:
    return f"this one has {', '.join(kinds)}" if kinds else "this one has none"
