"""What an operator may say of clients that want too much or are too slow (the word `guards` of a listener)."""

from pydantic import Field

from meridian.core.words import Word


class Guards(Word):
    """What one client of a listener may want of each gateway worker, and how slow it may be. Who wants more is refused,
    or loses the request or the connection; `docs/hardening.md` says which, and how it shows."""

    header_fields_max: int = Field(
        default=100, ge=8, le=1000, description="of a request; each costs time in every stage, and browsers send 20"
    )
    header_bytes_max: int = Field(
        default=65_536, ge=4096, le=262_144, description="of a request; eight times what is usual, for large cookies"
    )
    uri_bytes_max: int = Field(
        default=16_384, ge=64, le=65_536, description="of path and query; RFC 9112 recommends 8000 at least"
    )
    body_bytes_max: int | None = Field(
        default=None, ge=0, le=2**50, description="of a request; it passes through and is not kept, so by default any"
    )
    streams_max: int = Field(
        default=128, ge=1, le=1000, description="requests at a time of an HTTP/2 or HTTP/3 connection; browsers use 100"
    )
    connections_per_client_max: int = Field(
        default=4000, ge=1, le=10_000,
        description="of an address (IPv6: a /64), over TCP and QUIC; a worker has 10,000. Not of trusted proxies",
    )  # fmt: skip
    requests_per_connection_max: int | None = Field(
        default=None, ge=1, le=2**30, description="then it is told to close; by default never: age costs nothing"
    )
    header_seconds: float = Field(
        default=10.0, ge=0.1, le=600, description="for a TLS handshake, and from the first byte of a head to its last"
    )
    idle_seconds: float = Field(
        default=75.0, ge=0.1, le=3600, description="without a request; clients that close after 60 close before us"
    )
    bytes_per_second_min: int = Field(
        default=240, ge=0, le=1_000_000,
        description="of a body that the client sends or takes; 0: as slow as it likes. Not of gRPC and WebSocket",
    )  # fmt: skip
    slow_seconds: float = Field(
        default=20.0, ge=0.1, le=600, description="how long it may be slower; a body may pause as long"
    )
    resets_max: int = Field(
        default=256, ge=8, le=100_000,
        description="streams given up at once, and half as many each second; a page left cancels some hundred",
    )  # fmt: skip
    idle_frames_max: int = Field(
        default=1000, ge=16, le=1_000_000,
        description="frames at once that ask for nothing, and half as many each second; gRPC sends many PINGs",
    )  # fmt: skip
