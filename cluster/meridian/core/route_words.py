"""What an operator may say of routes: which requests they take, and through which stages."""

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from meridian.core.addresses import checked_network
from meridian.core.patterns import checked_pattern
from meridian.core.retry_words import Retry
from meridian.core.words import Name, Seconds, Word

CONDITIONS_MAX = 16  # of one kind; a route that asks more is a program, and belongs into the service
PATTERN = "RE2, for the whole of it"
_FIELD_NAME = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"  # RFC 9110 section 5.6.2

Regex = Annotated[str, AfterValidator(checked_pattern)]


def _checked_field(name: str) -> str:
    if name.lower() == "host":
        raise ValueError("the host is no header field in all protocols; say host: in match instead")
    return name.lower()


def _ascii(value: str) -> str:
    if not value.isascii() or not value.isprintable():
        raise ValueError("only printable ASCII can be matched so; say regex, and bytes beyond it as \\xc3")
    return value


Text = Annotated[str, Field(max_length=1024), AfterValidator(_ascii)]


class FieldMatch(Word):
    """What a value must be: exactly one of exact, prefix, regex and present."""

    exact: Text | None = None
    prefix: Annotated[Text, Field(min_length=1)] | None = None
    regex: Regex | None = Field(default=None, description=PATTERN)
    present: bool | None = Field(default=None, description="whatever it says; false: it must be absent")

    @model_validator(mode="after")
    def _one_word(self) -> "FieldMatch":
        if [self.exact, self.prefix, self.regex, self.present].count(None) != 3:
            raise ValueError("a condition is exactly one of: exact, prefix, regex, present")
        return self


class HeaderMatch(FieldMatch):
    """A header field of a request. Several lines of one name count as one, joined by a comma."""

    name: Annotated[str, Field(pattern=_FIELD_NAME), AfterValidator(_checked_field)]


class CookieMatch(FieldMatch):
    """A cookie of a request; the first of that name."""

    name: Annotated[str, Field(pattern=_FIELD_NAME)]


class QueryMatch(FieldMatch):
    """A parameter of a request's query, decoded; the first of that name."""

    name: Annotated[Text, Field(min_length=1)]


class Match(Word):
    """Which requests a route takes. What is left out matches all; the most specific route wins (docs/routing.md)."""

    host: str | None = Field(default=None, description="shop.example.com or *.example.com")
    path: Annotated[str, Field(pattern=r"^/")] | None = Field(default=None, description="exactly this path")
    path_prefix: Annotated[str, Field(pattern=r"^/")] | None = Field(
        default=None, description="whole segments: /api matches /api and /api/x, not /apix"
    )
    path_regex: Regex | None = Field(default=None, description=f"{PATTERN}, without the query")
    methods: tuple[Annotated[str, Field(pattern=r"^[A-Z]+$")], ...] = Field(default=(), description="all if none")
    headers: tuple[HeaderMatch, ...] = Field(default=(), max_length=CONDITIONS_MAX, description="all must hold")
    query: tuple[QueryMatch, ...] = Field(default=(), max_length=CONDITIONS_MAX, description="all must hold")
    cookies: tuple[CookieMatch, ...] = Field(default=(), max_length=CONDITIONS_MAX, description="all must hold")
    clients: tuple[Annotated[str, AfterValidator(checked_network)], ...] = Field(
        default=(), max_length=1000, description="networks; the client is whom trusted proxies name, else the peer"
    )

    @model_validator(mode="after")
    def _one_path(self) -> "Match":
        if [self.path, self.path_prefix, self.path_regex].count(None) < 2:
            raise ValueError("path, path_prefix and path_regex exclude each other: keep one")
        return self


class Cache(Word):
    """Accepted so that documents stay valid; this version passes such requests on uncached and `apply` says so."""

    ttl_seconds: Seconds


class Stage(Word):
    """One step of a route: exactly one of its words."""

    authenticate: Name | None = Field(default=None, description="who asks; limits by consumer come after it")
    limit: Name | None = None
    cache: Cache | None = None

    @model_validator(mode="after")
    def _one_word(self) -> "Stage":
        if [self.authenticate, self.limit, self.cache].count(None) != 2:
            raise ValueError("a stage is exactly one of: authenticate, limit, cache")
        return self


class Route(Word):
    """From a match to an upstream, through stages in the order written."""

    name: Name
    match: Match = Match()
    upstream: Name
    stages: tuple[Stage, ...] = Field(default=(), max_length=32)
    retry: Retry | None = Field(default=None, description="instead of the upstream's, as a whole")
    timeout_seconds: Seconds | None = Field(default=None, description="instead of the upstream's")
    stream_seconds_max: Seconds | None = Field(default=None, description="instead of the upstream's")
