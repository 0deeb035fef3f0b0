"""The log of DNS queries: one JSON line per sampled query on stderr.

A record names the client's network and no client: what is not there cannot leak.
"""

import msgspec


class QueryRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag_field="log", tag="dns"):
    """One query, answered. What kept its default is left out of the line."""

    time: str  # RFC 3339, UTC, when the answer was made
    client: str  # the network of who asked: /24 of IPv4, /56 of IPv6
    transport: str  # "udp", "tcp", "tls", "quic", "https"
    name: str  # as asked, in presentation form; "" if it could not be read
    type: str
    rcode: str
    duration_microseconds: float
    query_bytes: int
    response_bytes: int
    subnet: str = ""  # the client's network as a resolver passed it on (RFC 7871)
    zone: str = ""
    regions: tuple[str, ...] = ()  # whose addresses are answered, in order; the first four
    extended_error: int | None = None  # RFC 8914
    truncated: bool = False
    trace_id: str = ""
    verdict_version: int = 0
    verdict_fallback: int = 0  # what this node merged itself upon that version
