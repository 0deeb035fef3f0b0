"""What a gateway must know of gRPC (grpc/doc/PROTOCOL-HTTP2.md): how a failure is told, and how long a call may take.
All else of it is HTTP/2 with trailers."""

import re

from meridian.gateway.answers import Failure
from meridian.wire.events import Headers

_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])").fullmatch
_UNIT_SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}

_STATUSES = {400: 13, 401: 16, 403: 7, 404: 12, 405: 12, 408: 4, 429: 8, 502: 14, 503: 14, 504: 14}
"""INTERNAL, UNAUTHENTICATED, PERMISSION_DENIED, UNIMPLEMENTED, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNAVAILABLE: as
gRPC's clients would take these statuses (grpc/doc/http-grpc-status-mapping.md), but for 405, 408 and 429, which say
more than UNKNOWN or UNAVAILABLE. Others are UNKNOWN, as there."""


def answer(failure: Failure, request_id: bytes, date: bytes, extra: Headers) -> Headers:
    """The fields of a trailers-only answer: HTTP 200, no body, and the status among the fields (gRPC over HTTP/2,
    "Responses"). `retry-after` is said to gRPC's own retries too (gRFC A6, server pushback)."""
    grpc_status = failure.grpc_status if failure.grpc_status is not None else _STATUSES.get(failure.status, 2)
    headers = [
        (b"date", date),
        (b"content-type", b"application/grpc"),
        (b"content-length", b"0"),
        (b"grpc-status", b"%d" % grpc_status),
        (b"grpc-message", b"%b request %b" % (failure.text, request_id)),
    ]
    pushback = [(b"grpc-retry-pushback-ms", value + b"000") for name, value in extra if name == b"retry-after"]
    return headers + extra + pushback


def is_call(headers: Headers) -> bool:
    """Whether the request is a gRPC call: application/grpc, application/grpc+proto and so on, not grpc-web."""
    for name, value in headers:
        if name == b"content-type":
            kind = value.partition(b";")[0].strip().lower()
            return kind == b"application/grpc" or kind.startswith(b"application/grpc+")
    return False


def timeout_seconds(headers: Headers) -> float | None:
    """How long the client waits for the whole call; None where it does not say, or not in gRPC's way."""
    for name, value in headers:
        if name == b"grpc-timeout":
            found = _TIMEOUT(value)
            return int(found[1]) * _UNIT_SECONDS[found[2]] if found else None
    return None
