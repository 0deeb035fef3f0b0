"""What an operator may say of upstreams: their endpoints, how these are balanced, probed and tried."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from meridian.core.addresses import checked_address
from meridian.core.words import Name, Seconds, Word

Balance = Literal["round_robin", "random", "least_request"]


class Endpoint(Word):
    """One address of an upstream. Without a region it is as near to every node as to any other."""

    address: Annotated[str, AfterValidator(checked_address)] = Field(description="host:port or [v6]:port")
    region: Name | None = Field(default=None, description="nodes of this region prefer it")
    weight: int = Field(default=1, ge=1, le=1000, description="its share among endpoints of the same nearness")


class Health(Word):
    """How endpoints are probed: GET `path` must answer 2xx or 3xx."""

    path: Annotated[str, Field(pattern=r"^/")] = "/"
    interval_seconds: Seconds = 1.0
    timeout_seconds: Seconds = 0.5
    rise: int = Field(default=2, ge=1, le=100, description="good answers in a row until it is up")
    fall: int = Field(default=3, ge=1, le=100, description="misses in a row until it is down")


class Upstream(Word):
    """A named set of endpoints that serve the same thing."""

    name: Name
    balance: Balance = "round_robin"
    endpoints: tuple[Endpoint, ...] = Field(min_length=1, max_length=10_000)
    health: Health | None = Field(default=None, description="without it only outcomes of requests tell")
    connect_timeout_seconds: Seconds = 1.0
    response_timeout_seconds: Seconds = Field(
        default=60.0,
        ge=0.1,  # gateway.SWEEP_SECONDS: a shorter one would end some answers that came in time
        description="longest silence while a response is awaited, to a tenth of a second",
    )
    idle_timeout_seconds: Seconds = Field(default=30.0, description="how long an unused connection is kept")
    retries: int = Field(default=2, ge=0, le=10, description="further tries on other endpoints before the first byte")
    connections_max: int = Field(default=1024, ge=1, le=65_536, description="per endpoint and worker")
