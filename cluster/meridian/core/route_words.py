"""What an operator may say of routes: which requests they take, and through which stages."""

from typing import Annotated

from pydantic import Field, model_validator

from meridian.core.retry_words import Retry
from meridian.core.words import Name, Seconds, Word


class Match(Word):
    """Which requests a route takes. What is left out matches all; the most specific route wins."""

    host: str | None = Field(default=None, description="shop.example.com or *.example.com")
    path: Annotated[str, Field(pattern=r"^/")] | None = Field(default=None, description="exactly this path")
    path_prefix: Annotated[str, Field(pattern=r"^/")] | None = Field(
        default=None, description="whole segments: /api matches /api and /api/x, not /apix"
    )
    methods: tuple[Annotated[str, Field(pattern=r"^[A-Z]+$")], ...] = Field(default=(), description="all if none")

    @model_validator(mode="after")
    def _one_path(self) -> "Match":
        if self.path is not None and self.path_prefix is not None:
            raise ValueError("path and path_prefix exclude each other: keep one")
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
