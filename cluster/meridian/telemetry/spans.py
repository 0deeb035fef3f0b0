"""A finished span as plain data, and the one list of attribute names.

Workers make these only for sampled exchanges and hand them to the agent, which alone knows OpenTelemetry
(`export.py`). Names follow OpenTelemetry's HTTP semantic conventions (stable since 1.23.0,
https://opentelemetry.io/docs/specs/semconv/http/http-spans/); what they do not have begins with `meridian.`.
No attribute holds a header's value or a query string: both carry secrets.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

HTTP_REQUEST_METHOD: Final = "http.request.method"
HTTP_REQUEST_RESEND_COUNT: Final = "http.request.resend_count"  # int: which try this is, from 1; absent on the first
HTTP_REQUEST_BODY_SIZE: Final = "http.request.body.size"  # int
HTTP_RESPONSE_STATUS_CODE: Final = "http.response.status_code"  # int
HTTP_RESPONSE_BODY_SIZE: Final = "http.response.body.size"  # int
HTTP_ROUTE: Final = "http.route"  # the pattern that matched, never the path that came: few values
URL_SCHEME: Final = "url.scheme"
URL_PATH: Final = "url.path"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"  # int
CLIENT_ADDRESS: Final = "client.address"
NETWORK_PEER_ADDRESS: Final = "network.peer.address"
NETWORK_PEER_PORT: Final = "network.peer.port"  # int
NETWORK_PROTOCOL_VERSION: Final = "network.protocol.version"  # "1.1", "2", "3"
ERROR_TYPE: Final = "error.type"  # a status code as text, or the name of a failure: few values

DNS_QUESTION_NAME: Final = "dns.question.name"
NETWORK_TRANSPORT: Final = "network.transport"

MERIDIAN_NODE: Final = "meridian.node"  # of the resource
MERIDIAN_REGION: Final = "meridian.region"  # of the resource
MERIDIAN_WORKER: Final = "meridian.worker"  # int
MERIDIAN_ROUTE: Final = "meridian.route"
MERIDIAN_UPSTREAM: Final = "meridian.upstream"
MERIDIAN_ENDPOINT: Final = "meridian.endpoint"
MERIDIAN_ENDPOINT_REGION: Final = "meridian.endpoint.region"
MERIDIAN_REQUEST_ID: Final = "meridian.request.id"
MERIDIAN_TRIES: Final = "meridian.tries"  # int
MERIDIAN_CONFIG_VERSION: Final = "meridian.config.version"  # int
MERIDIAN_VERDICT_VERSION: Final = "meridian.verdict.version"  # int
MERIDIAN_VERDICT_FALLBACK: Final = "meridian.verdict.fallback"  # int; 0: the verdict is as its leader wrote it
MERIDIAN_DNS_TYPE: Final = "meridian.dns.question.type"
MERIDIAN_DNS_RCODE: Final = "meridian.dns.response.code"
MERIDIAN_DNS_ERROR: Final = "meridian.dns.extended_error"  # int, RFC 8914
MERIDIAN_DNS_ZONE: Final = "meridian.dns.zone"
MERIDIAN_DNS_REGIONS: Final = "meridian.dns.regions"  # whose addresses are answered, in order, with commas between


class Kind(IntEnum):
    """Who made a span, numbered as in OTLP."""

    INTERNAL = 1
    SERVER = 2  # of the exchange, as its client sees it
    CLIENT = 3  # of one try on an endpoint


@dataclass(frozen=True, slots=True)
class SpanRecord:
    """One span, ended. Times are nanoseconds since the Unix epoch; `parent_span_id` is empty for a root.

    `failure` is None if it went well, else why not, in a few words. As the conventions say, a server span fails for
    5xx only, a client span for 4xx too.
    """

    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes
    name: str  # "GET /api/products" (method and route's pattern) or "GET" (a try)
    kind: Kind
    start_unix_nanoseconds: int
    end_unix_nanoseconds: int
    attributes: Mapping[str, str | int]
    failure: str | None = None
