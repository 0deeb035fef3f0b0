"""What an operator may say of upstreams: their endpoints, how these are balanced, probed and tried."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from meridian.core.addresses import checked_address
from meridian.core.overload_words import AdaptiveConcurrency
from meridian.core.retry_words import Hedge, Retry, RetryBudget, SweptSeconds
from meridian.core.tls_words import UpstreamTls
from meridian.core.words import Name, Seconds, Word

Balance = Literal["round_robin", "random", "least_request", "ewma", "ring_hash", "maglev", "ip_hash"]
HASHED = ("ring_hash", "maglev")
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 # RFC 9110 section 5.6.2: no secret


class Endpoint(Word):
    """One address of an upstream. Without a region it is as near to every node as to any other."""

    address: Annotated[str, AfterValidator(checked_address)] = Field(description="host:port or [v6]:port")
    region: Name | None = Field(default=None, description="nodes of this region prefer it")
    weight: int = Field(default=1, ge=1, le=1000, description="its share among endpoints of the same nearness")
    priority: int = Field(default=0, ge=0, le=15, description="0 first; others while these fall short")


class Health(Word):
    """How endpoints are probed: by GET `path`, by opening a connection (tcp), or by gRPC's health checking protocol."""

    kind: Literal["http", "tcp", "grpc"] = "http"
    path: Annotated[str, Field(pattern=r"^/[!-~]*$")] = "/"
    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9.:\[\]_-]+$", max_length=255)] | None = Field(
        default=None, description="in the request; without it the endpoint's address"
    )
    statuses: tuple[Annotated[str, Field(pattern=r"^[1-5]([0-9][0-9]|xx)$")], ...] = Field(
        default=("2xx", "3xx"), min_length=1, description="of http that are good, such as 2xx or 401"
    )
    service: str = Field(default="", max_length=255, description="of grpc; empty asks for the server as a whole")
    interval_seconds: Seconds = 1.0
    timeout_seconds: Seconds = 0.5
    jitter: float = Field(default=0.1, ge=0, le=0.5, description="of the interval, both ways")
    rise: int = Field(default=2, ge=1, le=100, description="good answers in a row until it is up")
    fall: int = Field(default=3, ge=1, le=100, description="misses in a row until it is down")


class Sticky(Word):
    """A cookie that keeps a client at the endpoint that answered it first, while that is usable. It names the endpoint
    by a digest, HttpOnly, and stays good when endpoints come, go or change their order."""

    cookie: Annotated[str, Field(pattern=f"^{_TOKEN}$", max_length=64)] = "meridian"
    ttl_seconds: Seconds | None = Field(default=None, description="without it as long as the browser's session")
    secure: bool = Field(default=False, description="only over https")
    same_site: Literal["lax", "strict", "none"] = "lax"

    @model_validator(mode="after")
    def _none_is_secure(self) -> "Sticky":
        if self.same_site == "none" and not self.secure:
            raise ValueError("browsers drop a cookie with same_site: none unless it is secure: true")
        return self


class Ejection(Word):
    """When an endpoint is left alone for what its answers show, by each worker for itself. Then one request is let
    through: if it succeeds, the endpoint is back, else it is left alone for twice as long."""

    failures_in_a_row: int = Field(default=3, ge=1, le=1000, description="refused, lost, or too late")
    errors_in_a_row: int | None = Field(
        default=None, ge=1, le=1000, description="answers of 5xx; without it none count"
    )
    success_deviations: float | None = Field(
        default=None, gt=0, le=10, description="standard deviations of success under the mean of all; 1.9 is usual"
    )
    latency_factor: float | None = Field(
        default=None, gt=1, le=1000, description="times the median of all that its answers take"
    )
    interval_seconds: Seconds = Field(default=10.0, description="in which endpoints are compared")
    answers_min: int = Field(default=100, ge=1, le=1_000_000, description="of an endpoint, to be compared")
    endpoints_min: int = Field(
        default=3, ge=3, le=10_000, description="that can be compared; under it no one stands out"
    )
    seconds: Seconds = Field(default=2.0, description="of the first time")
    seconds_max: Seconds = 60.0
    percent_max: int = Field(
        default=50, ge=1, le=100, description="of the endpoints at once; more only if they cannot be reached"
    )


class Breakers(Word):
    """How much of an upstream one worker takes at most. What is more is answered with 503 at once."""

    requests_max: int | None = Field(default=None, ge=1, le=1_000_000, description="under way")
    pending_max: int | None = Field(default=None, ge=1, le=1_000_000, description="waiting for a connection")
    connections_max: int | None = Field(default=None, ge=1, le=65_536, description="to all endpoints together")
    retries_max: int | None = Field(default=None, ge=0, le=1_000_000, description="requests on a further try")


class Upstream(Word):
    """A named set of endpoints that serve the same thing."""

    name: Name
    protocol: Literal["h1", "h2"] = Field(
        default="h1", description="that its endpoints speak; h2 by prior knowledge, or ALPN over TLS; gRPC needs it"
    )
    balance: Balance = "round_robin"
    hash_on: Annotated[str, Field(pattern=f"^(client_ip|path|(header|cookie):{_TOKEN})$")] | None = Field(
        default=None, description="client_ip (the default), path, header:X or cookie:X; of ring_hash and maglev"
    )
    load_bound_percent: int = Field(
        default=125, ge=101, le=1000, description="of its fair share that an endpoint takes by hash; the rest goes on"
    )
    sticky: Sticky | None = None
    slow_start_seconds: float = Field(default=0.0, ge=0, le=3600, description="until one that came up takes its share")
    spill_below_percent: int = Field(
        default=70,
        ge=0,
        le=100,
        description="of usable endpoints nearby, under which a part goes elsewhere; 0 is never",
    )
    panic_below_percent: int = Field(
        default=0, ge=0, le=100, description="of usable endpoints, under which all are taken to be; 0 is when none is"
    )
    endpoints: tuple[Endpoint, ...] = Field(min_length=1, max_length=10_000)
    tls: UpstreamTls | None = Field(default=None, description="to the endpoints; {} is all defaults")
    health: Health | None = Field(default=None, description="without it only outcomes of requests tell")
    connect_timeout_seconds: Seconds = 1.0
    response_timeout_seconds: SweptSeconds = Field(
        default=60.0, description="longest silence while a response is awaited, to a tenth of a second"
    )
    stream_idle_timeout_seconds: SweptSeconds | None = Field(
        default=None, description="longest silence within a response; without it response_timeout_seconds"
    )
    timeout_seconds: Seconds | None = Field(
        default=None, description="from the end of a request to the end of its response, all tries together"
    )
    stream_seconds_max: Seconds | None = Field(default=None, description="of an exchange, whatever it still brings")
    idle_timeout_seconds: Seconds = Field(default=30.0, description="how long an unused connection is kept")
    retry: Retry | None = Field(default=None, description="without it by the usual of its words")
    retry_budget: RetryBudget = RetryBudget()
    hedge: Hedge | None = Field(default=None, description="without it there is one try at a time")
    adaptive_concurrency: AdaptiveConcurrency | None = Field(
        default=None, description="without it only breakers limit it"
    )
    retries: int | None = Field(default=None, ge=0, le=10, description="the older word for retry.tries, less one")
    connections_max: int = Field(default=1024, ge=1, le=65_536, description="per endpoint and worker")
    streams_max: int = Field(
        default=100,
        ge=1,
        le=1000,
        description="requests at once on one connection of h2; fewer if the endpoint says so",
    )
    ejection: Ejection = Ejection()
    breakers: Breakers = Breakers()

    @model_validator(mode="after")
    def _probe_fits(self) -> "Upstream":
        if self.tls is not None and self.health is not None and self.health.kind == "grpc" and not self.tls.ca_file:
            raise ValueError(
                "health of kind grpc over TLS needs tls.ca_file: gRPC does not use the system's authorities"
            )
        if self.protocol == "h2" and self.health is not None and self.health.kind == "http":
            raise ValueError("probes of kind: http speak HTTP/1.1; where protocol is h2 say health.kind: grpc or tcp")
        return self

    @model_validator(mode="after")
    def _hash_fits(self) -> "Upstream":
        if self.hash_on is not None and self.balance not in HASHED:
            raise ValueError(f"hash_on is of balance: {' and '.join(HASHED)}; balance: {self.balance} does not use it")
        return self

    @model_validator(mode="after")
    def _one_retry(self) -> "Upstream":
        if self.retries is not None and self.retry is not None:
            raise ValueError(f"retries and retry exclude each other: write retry.tries: {self.retries + 1}, no retries")
        return self

    @property
    def retry_words(self) -> Retry:
        """`retry`, by whichever word."""
        return self.retry or (Retry() if self.retries is None else Retry(tries=self.retries + 1))
