"""What an operator may say of too much: for one upstream, and for a worker as a whole."""

from pydantic import Field, model_validator

from meridian.core.words import Seconds, Word


class AdaptiveConcurrency(Word):
    """How many requests at a time one worker sends to an upstream, learned from how long they take: beyond what a
    service can do at once they would only wait there. What is more is answered with 503 and Retry-After, by the
    routes' `priority`: low before the limit by its square root, high after it by twice that."""

    initial: int = Field(default=50, ge=1, le=100_000, description="until something was learned")
    min: int = Field(default=4, ge=1, le=100_000)
    max: int = Field(default=1000, ge=1, le=100_000)
    tolerance: float = Field(
        default=1.5, ge=1.1, le=10, description="times what a request takes alone, at which others are taken to wait"
    )

    @model_validator(mode="after")
    def _in_order(self) -> "AdaptiveConcurrency":
        if not self.min <= self.initial <= self.max:
            raise ValueError("min, initial and max must rise: min is at most initial, initial at most max")
        return self


class Overload(Word):
    """When a worker turns requests away with 503 and Retry-After, by the routes' `priority`, the lowest first. It does
    so only where the document says it."""

    requests_max: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="under way, with connections that pass through; low ones fill 60 %, normal ones 80 %",
    )
    loop_lag_seconds_max: Seconds | None = Field(
        default=None, description="that the event loop is late when the processor is short; 0.1 is usual"
    )
