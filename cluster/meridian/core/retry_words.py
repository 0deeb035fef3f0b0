"""What an operator may say of further tries and of time, on upstreams and on routes."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from meridian.core.words import Seconds, Word

Cause = Literal["connect", "reset", "stale", "timeout", "unprocessed"]
SweptSeconds = Annotated[float, Field(ge=0.1, le=86_400)]
"""No shorter than gateway.SWEEP_SECONDS: it would end some answers that came in time."""


class Backoff(Word):
    """How long a further try waits: any time between nothing and a reach, which doubles with each of them. The first
    further try goes to another endpoint at once. What an upstream asks for (Retry-After) is kept to, up to `max`."""

    base_seconds: Seconds = 0.025
    max_seconds: Seconds = 0.25

    @model_validator(mode="after")
    def _base_fits(self) -> "Backoff":
        if self.base_seconds > self.max_seconds:
            raise ValueError("base_seconds is more than max_seconds: raise max_seconds, or lower base_seconds")
        return self


class RetryBudget(Word):
    """How many further tries one worker sends to an upstream at most, counted over about ten seconds."""

    ratio: float = Field(default=0.2, ge=0, le=10, description="of its requests")
    minimum_per_second: float = Field(default=10.0, ge=0, le=100_000, description="besides, so that few requests do")


class Retry(Word):
    """When a request that came to nothing is sent again, elsewhere if it can be. Never once a response has begun for
    the client, nor with a body of more than 64 KiB."""

    tries: int = Field(default=3, ge=1, le=11, description="at most, the first included; 1 is none again")
    on: tuple[Cause | Annotated[int, Field(ge=400, le=599)], ...] | None = Field(
        default=None,
        description="connect: no connection; reset: it ended before an answer; stale: so did a kept one, silently; "
        "timeout: no answer in time; unprocessed: the endpoint says so; a number: an answer of this status. "
        "Without it connect, reset, stale and unprocessed, and timeout where per_try_timeout_seconds is given",
    )
    per_try_timeout_seconds: SweptSeconds | None = Field(
        default=None, description="from a request that is sent to the head of its answer, to a tenth of a second"
    )
    methods: tuple[Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9-]*$", max_length=32)], ...] = Field(
        default=("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"),
        max_length=32,
        description="sent again though they may have been processed; others only on connect and unprocessed",
    )
    backoff: Backoff = Backoff()

    @property
    def causes(self) -> tuple[Cause | int, ...]:
        """`on`, or what is usual."""
        if self.on is not None:
            return self.on
        usual: tuple[Cause, ...] = ("connect", "reset", "stale", "unprocessed")
        return usual if self.per_try_timeout_seconds is None else (*usual, "timeout")


class Hedge(Word):
    """A second try on another endpoint beside one that is late; the first good answer wins, the other try is ended.
    Only of methods that `retry` names, with a body that has come whole and has at most 64 KiB. Each takes of
    `retry_budget`. The times that answers take are learned: the first hundred are not hedged."""

    after_percentile: float = Field(default=95.0, ge=50, lt=100, description="of the times to the head of a response")
    after_seconds_min: Seconds = Field(default=0.005, description="no sooner, however quick the answers are")
