"""What an operator may say of routes: which requests they take, and through which stages."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from meridian.core.addresses import checked_network
from meridian.core.file_words import Files
from meridian.core.retry_words import Retry, SweptSeconds
from meridian.core.traffic_words import (
    Canary,
    Edits,
    Fault,
    Mirror,
    Part,
    RedirectStatus,
    RequestEdits,
    Rewrite,
    SplitOn,
    Text,
)
from meridian.core.words import FIELD_NAME, Name, Regex, Seconds, Word

CONDITIONS_MAX = 16  # of one kind; a route that asks more is a program, and belongs into the service
PATTERN = "RE2, for the whole of it"


def _checked_field(name: str) -> str:
    if name.lower() == "host":
        raise ValueError("the host is no header field in all protocols; say host: in match instead")
    return name.lower()


def _ascii(value: str) -> str:
    if not value.isascii() or not value.isprintable():
        raise ValueError("only printable ASCII can be matched so; say regex, and bytes beyond it as \\xc3")
    return value


Value = Annotated[str, Field(max_length=1024), AfterValidator(_ascii)]


class FieldMatch(Word):
    """What a value must be: exactly one of exact, prefix, regex and present."""

    exact: Value | None = None
    prefix: Annotated[Value, Field(min_length=1)] | None = None
    regex: Regex | None = Field(default=None, description=PATTERN)
    present: bool | None = Field(default=None, description="whatever it says; false: it must be absent")

    @model_validator(mode="after")
    def _one_word(self) -> "FieldMatch":
        if [self.exact, self.prefix, self.regex, self.present].count(None) != 3:
            raise ValueError("a condition is exactly one of: exact, prefix, regex, present")
        return self


class HeaderMatch(FieldMatch):
    """A header field of a request. Several lines of one name count as one, joined by a comma."""

    name: Annotated[str, Field(pattern=FIELD_NAME), AfterValidator(_checked_field)]


class CookieMatch(FieldMatch):
    """A cookie of a request; the first of that name."""

    name: Annotated[str, Field(pattern=FIELD_NAME)]


class QueryMatch(FieldMatch):
    """A parameter of a request's query, decoded; the first of that name."""

    name: Annotated[Value, Field(min_length=1)]


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
    """Answers to GET are kept and used again as RFC 9111 allows a shared cache, by each worker for itself."""

    ttl_seconds: float = Field(ge=0, le=31_536_000, description="of answers that say not how long they are fresh")
    stale_while_revalidate_seconds: float = Field(
        default=0.0, ge=0, le=31_536_000, description="after it, in which one is used while the next is fetched"
    )
    stale_if_error_seconds: float = Field(
        default=0.0, ge=0, le=31_536_000, description="after it, in which one is used because the upstream fails"
    )
    answer_bytes_max: int = Field(default=1024 * 1024, ge=1024, le=64 * 1024 * 1024, description="larger is not kept")


class Stage(Word):
    """One step of a route: exactly one of its words."""

    authenticate: Name | None = Field(default=None, description="who asks; limits by consumer come after it")
    limit: Name | None = None
    cache: Cache | None = None
    rewrite: Rewrite | None = None
    request_headers: RequestEdits | None = None
    response_headers: Edits | None = Field(default=None, description="of what the upstream answers")
    mirror: Mirror | None = None
    fault: Fault | None = None

    @model_validator(mode="after")
    def _one_word(self) -> "Stage":
        words = tuple(type(self).model_fields)
        if sum(getattr(self, word) is not None for word in words) != 1:
            raise ValueError(f"a stage is exactly one of: {', '.join(words)}")
        return self


class DnsOverHttps(Word):
    """DNS over HTTPS (RFC 8484), answered by this node's DNS server from the document's zones."""


class WebSocket(Word):
    """A route that speaks WebSocket too, over HTTP/1.1, HTTP/2 and HTTP/3. Other protocols by Upgrade do not pass."""

    idle_timeout_seconds: SweptSeconds = Field(default=300.0, description="without a byte either way; pings are some")


class Route(Word):
    """From a match, through stages, to exactly one target: upstream, split, redirect_to, files or dns. Who asks and how
    often comes first, whatever the order of stages; of rewrite, request_headers and response_headers a route has one
    each."""

    name: Name
    match: Match = Match()
    upstream: Name | None = None
    split: tuple[Part, ...] = Field(default=(), max_length=64, description="several upstreams, by weight")
    split_on: SplitOn | None = Field(
        default=None, description="client_ip, header:X or cookie:X, whose requests stay together; by default by chance"
    )
    canary: Canary | None = Field(default=None, description="beside upstream or split")
    redirect_to: Text | None = Field(default=None, description="a URL or path, such as https://${host}${target}")
    redirect_status: RedirectStatus = 308
    files: Files | None = Field(default=None, description="from the disk of the node that is asked")
    dns: DnsOverHttps | None = Field(default=None, description="the node's own DNS server; match path /dns-query")
    stages: tuple[Stage, ...] = Field(default=(), max_length=32)
    websocket: WebSocket | None = Field(default=None, description="without it WebSocket is refused with 403")
    retry: Retry | None = Field(default=None, description="instead of the upstream's, as a whole")
    timeout_seconds: Seconds | None = Field(default=None, description="instead of the upstream's")
    stream_seconds_max: Seconds | None = Field(default=None, description="instead of the upstream's")
    priority: Literal["low", "normal", "high"] = Field(
        default="normal", description="who is turned away first when there is too much: low, and high last"
    )

    @model_validator(mode="after")
    def _one_target(self) -> "Route":
        targets = [self.upstream, self.split or None, self.redirect_to, self.files, self.dns]
        if targets.count(None) != len(targets) - 1:
            raise ValueError("a route has exactly one of: upstream, split, redirect_to, files, dns")
        if self.files is not None:
            for word in ("retry", "timeout_seconds", "stream_seconds_max", "websocket"):
                if getattr(self, word) is not None:
                    raise ValueError(f"{word} is of a route with an upstream; this one has files")
            for word in ("cache", "mirror", "request_headers"):
                if any(getattr(stage, word) is not None for stage in self.stages):
                    raise ValueError(f"the stage {word} is of a route with an upstream; this one has files")
        if self.split and not any(part.weight for part in self.split):
            raise ValueError("split: all weights are 0; nobody would take its requests")
        if self.split_on is not None and not self.split:
            raise ValueError("split_on is of split: give several upstreams there")
        if self.canary is not None and self.upstream is None and not self.split:
            raise ValueError("canary is of a route with an upstream; this one has none")
        for word in ("cache", "rewrite", "request_headers", "response_headers", "mirror", "fault"):
            if sum(getattr(stage, word) is not None for stage in self.stages) > 1:
                raise ValueError(f"two stages say {word}: put it into one")
        if self.match.path_prefix is None and any(
            stage.rewrite is not None and stage.rewrite.path_prefix is not None for stage in self.stages
        ):
            raise ValueError("rewrite.path_prefix stands for the match's path_prefix, which this route has not")
        return self

    def upstreams(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Yields (place, name) of every upstream that it names, the one for most requests first."""
        if self.upstream is not None:
            yield ("upstream",), self.upstream
        for i, part in enumerate(self.split):
            yield ("split", i, "upstream"), part.upstream
        if self.canary is not None:
            yield ("canary", "upstream"), self.canary.upstream
        for i, stage in enumerate(self.stages):
            if stage.mirror is not None:
                yield ("stages", i, "mirror", "upstream"), stage.mirror.upstream
