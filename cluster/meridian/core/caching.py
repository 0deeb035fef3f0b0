"""What may be kept of answers, and what may be answered from what is kept (RFC 9111, as a shared cache).

Times are seconds: ages and lifetimes as differences, `unix` as Unix time, for dates that an upstream writes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum, auto

from meridian.core import fields
from meridian.core.fields import Headers

SECONDS_MAX = 2**31  # of a directive (RFC 9111 section 1.2.2)
VARY_MAX = 16  # fields that an answer may vary by: more and no request is like another

_ELEMENTS = re.compile(rb'(?:[^",]|"(?:[^"\\]|\\.)*")+', re.DOTALL).findall
_BY_DEFAULT = frozenset({200, 203, 204, 300, 301, 308, 404, 410})
"""Statuses that may be kept without a word from the upstream (RFC 9110 section 15.1, without those of errors)."""
_NEVER = frozenset({206, 304})
_NOT_UPDATED = frozenset({b"content-length", b"content-encoding", b"content-type", b"content-range"})  # section 3.2
_CONDITIONS = frozenset({b"if-none-match", b"if-modified-since", b"if-match", b"if-unmodified-since", b"if-range"})

Directives = Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Terms:
    """What the document says of a route's cache (see route_words.Cache)."""

    ttl_seconds: float
    stale_while_revalidate_seconds: float
    stale_if_error_seconds: float
    answer_bytes_max: int


@dataclass(frozen=True, slots=True)
class Freshness:
    """How long an answer may be used. `age` is what it had when it came; `asks`: its upstream is to be asked each time;
    `strict`: it is never used stale."""

    lifetime: float
    age: float
    while_revalidate: float
    if_error: float
    asks: bool = False
    strict: bool = False


class Use(Enum):
    """What may be done with an answer that is kept."""

    FRESH = auto()  # it is the answer
    STALE = auto()  # it is the answer, because the client takes a stale one
    REFRESH = auto()  # it is the answer, while the upstream is asked for the next
    ASK = auto()  # the upstream is to be asked whether it still holds


def directives(headers: Headers) -> Directives:
    """Cache-Control, by name; of those said twice the first holds (section 4.2.1). Without it Pragma: no-cache counts
    in a request (section 5.4)."""
    value = fields.header(headers, b"cache-control")
    if value is None:
        return {b"no-cache": b""} if b"no-cache" in (fields.header(headers, b"pragma") or b"") else {}
    found: dict[bytes, bytes] = {}
    for element in _ELEMENTS(value):
        name, _, said = element.partition(b"=")
        found.setdefault(name.strip().lower(), said.strip().strip(b'"'))
    return found


def freshness(request: Headers, status: int, headers: Headers, terms: Terms, unix: float) -> Freshness | None:
    """Whether an answer to a GET may be kept, and for how long it is fresh (sections 3 and 4.2). Besides what the RFC
    forbids, one with Set-Cookie is not kept unless it is public: it is one client's more often than not."""
    said, asked = directives(headers), directives(request)
    if status < 200 or status in _NEVER or b"no-store" in said or b"no-store" in asked or b"private" in said:
        return None
    if fields.header(request, b"authorization") is not None and not said.keys() & {
        b"public", b"s-maxage", b"must-revalidate"
    }:  # fmt: skip
        return None
    if fields.header(headers, b"set-cookie") is not None and b"public" not in said:
        return None
    if vary_of(headers) is None:
        return None
    lifetime = _lifetime(said, headers, unix)
    if lifetime is None:
        if status not in _BY_DEFAULT and b"public" not in said:
            return None
        lifetime = terms.ttl_seconds
    strict = bool(said.keys() & {b"must-revalidate", b"proxy-revalidate", b"s-maxage"})
    return Freshness(
        lifetime, _age(headers, unix),
        _extension(said, b"stale-while-revalidate", terms.stale_while_revalidate_seconds),
        _extension(said, b"stale-if-error", terms.stale_if_error_seconds), b"no-cache" in said, strict,
    )  # fmt: skip


def judge(kept: Freshness, resident_seconds: float, asked: Directives) -> Use:
    """What may be done with an answer that has been kept for so long, for a request of these directives (section 4)."""
    age = kept.age + resident_seconds
    left = kept.lifetime - age
    if kept.asks or b"no-cache" in asked:
        return Use.ASK
    if b"max-age" in asked and age > seconds(asked[b"max-age"]):
        return Use.ASK
    if left > (seconds(asked[b"min-fresh"]) if b"min-fresh" in asked else 0):
        return Use.FRESH
    if kept.strict or left > 0:
        return Use.ASK
    if b"max-stale" in asked and (not asked[b"max-stale"] or -left <= seconds(asked[b"max-stale"])):
        return Use.STALE
    return Use.REFRESH if -left <= kept.while_revalidate and kept.while_revalidate > 0 else Use.ASK


def bears_errors(kept: Freshness, resident_seconds: float, asked: Directives) -> bool:
    """Whether it may be used because the upstream fails (RFC 5861 section 4)."""
    stale = kept.age + resident_seconds - kept.lifetime
    return not (kept.strict or kept.asks or b"no-cache" in asked) and stale <= kept.if_error


def vary_of(headers: Headers) -> tuple[bytes, ...] | None:
    """The request fields that an answer varies by, in order; None: by more than can be told (section 4.1)."""
    value = fields.header(headers, b"vary")
    if value is None:
        return ()
    names = sorted({name.strip().lower() for name in value.split(b",")} - {b""})
    return None if b"*" in names or len(names) > VARY_MAX else tuple(names)


def variant(names: tuple[bytes, ...], request: Headers) -> tuple[bytes | None, ...]:
    """What a request says in these fields, which an answer belongs to."""
    return tuple([fields.header(request, name) for name in names])


def not_modified(request: Headers, headers: Headers) -> bool:
    """Whether the client has this answer already (RFC 9110 section 13.2.2): by its entity tag, else by its date."""
    tags = fields.header(request, b"if-none-match")
    if tags is not None:
        own = fields.header(headers, b"etag")
        weak = own.removeprefix(b"W/") if own is not None else None
        listed = [tag.strip().removeprefix(b"W/") for tag in _ELEMENTS(tags)]
        return b"*" in listed or (weak is not None and weak in listed)
    since = fields.header(request, b"if-modified-since")
    modified = fields.header(headers, b"last-modified")
    if since is None or modified is None:
        return False
    then, changed = date(since), date(modified)
    return then is not None and changed is not None and changed <= then


def without_conditions(request: Headers) -> Headers:
    """A request for the whole answer, whatever its client has."""
    return [field for field in request if field[0] not in _CONDITIONS]


def conditions(headers: Headers) -> Headers:
    """What asks an upstream whether an answer still holds (section 4.3.1)."""
    pairs = ((b"if-none-match", b"etag"), (b"if-modified-since", b"last-modified"))
    return [(condition, value) for condition, name in pairs if (value := fields.header(headers, name)) is not None]


def updated(kept: Headers, headers: Headers) -> Headers:
    """An answer's fields after its upstream has said that it still holds (section 3.2)."""
    new = [field for field in headers if field[0] not in _NOT_UPDATED]
    names = {name for name, _ in new}
    return [field for field in kept if field[0] not in names] + new


def tags_of(headers: Headers) -> frozenset[bytes]:
    """What an answer is named by for those who purge: Cache-Tag (commas) and Surrogate-Key (spaces)."""
    listed = (fields.header(headers, b"cache-tag") or b"").split(b",")
    return frozenset(tag.strip() for tag in listed + (fields.header(headers, b"surrogate-key") or b"").split()) - {b""}


def date(text: bytes) -> float | None:
    """Unix time of an HTTP date (RFC 9110 section 5.6.7); None: it is none."""
    try:
        return parsedate_to_datetime(text.decode("latin-1")).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def seconds(text: bytes) -> float:
    """Of a directive; 0 for what is no number, so that it is taken for stale (section 4.2.1)."""
    return float(min(int(text), SECONDS_MAX)) if text.isdigit() and len(text) < 20 else 0.0


def _lifetime(said: Directives, headers: Headers, unix: float) -> float | None:
    """What the upstream says of it (section 4.2.1); None: nothing."""
    for name in (b"s-maxage", b"max-age"):
        if name in said:
            return seconds(said[name])
    expires = fields.header(headers, b"expires")
    if expires is None:
        return None
    until, began = date(expires), date(fields.header(headers, b"date") or b"")
    return max(0.0, until - (unix if began is None else began)) if until is not None else 0.0


def _age(headers: Headers, unix: float) -> float:
    """What it had when it came (section 4.2.3)."""
    began = date(fields.header(headers, b"date") or b"")
    return max(0.0, unix - began if began is not None else 0.0, seconds(fields.header(headers, b"age") or b""))


def _extension(said: Directives, name: bytes, default: float) -> float:
    return seconds(said[name]) if name in said else default
