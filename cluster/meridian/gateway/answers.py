"""What the gateway answers by itself: its health, and failures, each a named value with its one mapping to a status.

The text of a failure names the request, so that a user can quote it to whoever reads the logs, and nothing of the
inside.
"""

import json
from dataclasses import dataclass, replace

from meridian.wire.events import Headers


@dataclass(frozen=True, slots=True)
class Failure:
    """`why` is for logs, metrics and spans: few values, one word each. `grpc_status` is what gRPC calls it where that
    does not follow from the status. `error` is what proxy-status says of it (RFC 9209 section 2.3), empty where the
    request or a limit is the reason."""

    status: int
    why: str
    text: bytes
    grpc_status: int | None = None
    error: bytes = b""


BAD_TARGET = Failure(400, "bad_target", b"The path of this request is not valid.")
BAD_FIELD = Failure(400, "bad_field", b"A field of this request is not valid.")
UNAUTHENTICATED = Failure(401, "unauthenticated", b"This request does not say who asks.")
NO_CERTIFICATE = Failure(403, "no_certificate", b"This request needs a client certificate.", grpc_status=16)
UNKNOWN_CERTIFICATE = Failure(403, "unknown_certificate", b"This client certificate may not ask.", grpc_status=7)
NO_ROUTE: Failure = Failure(404, "no_route", b"There is no such host or path here.")
FILE_FORBIDDEN = Failure(403, "file_forbidden", b"This file may not be read.")
NO_FILE = Failure(404, "no_file", b"There is no such file here.")
METHOD_NOT_ALLOWED: Failure = Failure(405, "method_not_allowed", b"This path does not take this method.")
BODY_TIMEOUT = Failure(408, "body_timeout", b"The body of this request did not come in time.")
PRECONDITION_FAILED = Failure(412, "precondition", b"This is not what the request says that it is.")
RANGE_NOT_SATISFIABLE = Failure(416, "range", b"There are no such bytes.")
FILE_FAILED = Failure(500, "file_failed", b"This file cannot be read.")
FILE_TIMEOUT = Failure(504, "file_timeout", b"This file could not be read in time.")
TOO_EARLY = Failure(425, "too_early", b"This request is not taken as early data; send it again.")
FORWARD_CLIENT = Failure(403, "forward_client", b"This proxy is not for this client.")
FORWARD_REFUSED = Failure(
    403, "forward_refused", b"This proxy does not reach that destination.", error=b"destination_ip_prohibited"
)
NOT_FORWARDED = Failure(400, "not_forwarded", b"This is a proxy: ask for http://host/path, or by CONNECT.")
PROXY_UNAUTHENTICATED = Failure(407, "unauthenticated", b"This request does not say who uses the proxy.")
NAME_UNKNOWN = Failure(502, "name_unknown", b"There is no such host.", error=b"dns_error")
TOO_LARGE = Failure(413, "body_bytes", b"The body of this request is too large.", grpc_status=8)  # RESOURCE_EXHAUSTED
UPGRADE_REFUSED = Failure(403, "upgrade_refused", b"This path does not speak WebSocket.")
LIMITED = Failure(429, "limited", b"Too many requests.", grpc_status=8)  # RESOURCE_EXHAUSTED, whatever its status
FAULT = Failure(503, "fault", b"This request fails on purpose.")
UPSTREAM_REFUSED = Failure(502, "upstream_refused", b"The service cannot be reached.", error=b"connection_refused")
UPSTREAM_LOST = Failure(502, "upstream_lost", b"The service gave no complete answer.", error=b"connection_terminated")
UPSTREAM_MALFORMED = Failure(
    502, "upstream_malformed", b"The service gave no valid answer.", None, b"http_protocol_error"
)
UPSTREAM_NO_UPGRADE = Failure(
    502, "upstream_no_upgrade", b"The service does not speak WebSocket.", error=b"http_upgrade_failed"
)
UPSTREAM_BUSY = Failure(503, "upstream_busy", b"The service is busy.", error=b"connection_limit_reached")
UPSTREAM_FULL = {
    what: Failure(
        503, f"full_{what}", b"The service is busy.", error=b'connection_limit_reached; details="%b"' % what.encode()
    )
    for what in ("requests", "pending", "connections", "concurrency")
}
"""By what an upstream takes no more of (upstream_words.Breakers and AdaptiveConcurrency)."""
SHED = Failure(503, "shed", b"There is too much to do at the moment.", grpc_status=14)  # UNAVAILABLE


def _too_late(what: str, error: bytes) -> Failure:
    details = b'%b; details="%b"' % (error, what.encode())
    return Failure(504, f"{what}_timeout", b"The service did not answer in time.", error=details)


CONNECT_TIMEOUT = _too_late("connect", b"connection_timeout")
TRY_TIMEOUT = _too_late("try", b"http_response_timeout")
UPSTREAM_TIMEOUT = _too_late("upstream", b"http_response_timeout")  # it was silent for too long
TOTAL_TIMEOUT = _too_late("total", b"http_response_timeout")
STREAM_TIMEOUT = _too_late("stream", b"http_response_timeout")
"""See core.retrying.Timeouts."""
DEADLINE = replace(_too_late("deadline", b"http_response_timeout"), grpc_status=4)
"""DEADLINE_EXCEEDED: see gateway/grpc."""

CUT = "cut"
"""Begins each `why` of an exchange whose response was cut: by its upstream, or by `_idle`, `_total` or `_stream` time,
because its `_client` does not read, or because its request's `_body` is too large."""

HEALTH_TARGET = b"/.meridian/health"
"""Where every listener says how its node is, to the probers of other nodes. No route can take it."""

CHALLENGE = b"/.well-known/acme-challenge/"
"""Below it authorities look for proofs (RFC 8555 section 8.3)."""

CLIENT_GONE_STATUS = 499
"""Of an exchange whose client left before an answer: never sent, only logged and counted (nginx's number)."""


def redirect(location: bytes, status: int, date: bytes, extra: Headers) -> tuple[Headers, bytes]:
    """Fields and body of an answer that sends a client elsewhere (RFC 9110 section 15.4). It may be cached as its
    status says: a permanent one for good."""
    body = b"It is at %b\n" % location
    headers = [
        (b"date", date),
        (b"location", location),
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
    ]
    return headers + extra, body


NOT_CACHED = Failure(504, "not_cached", b"Nothing is kept that answers this request.")  # RFC 9111 section 5.2.1.7
_LIMITED = {429: LIMITED}


_FAULTS = {503: FAULT}


def fault(status: int) -> Failure:
    """FAULT, with the status that the document wants for it."""
    return _FAULTS.setdefault(status, replace(FAULT, status=status))


def limited(status: int) -> Failure:
    """LIMITED, with the status that the document wants for it."""
    return _LIMITED.setdefault(status, replace(LIMITED, status=status))


def answer(failure: Failure, request_id: bytes, date: bytes, extra: Headers) -> tuple[Headers, bytes]:
    """Fields and body of a plain answer; `date` is now (RFC 9110 section 6.6.1)."""
    body = b"%b\nrequest %b\n" % (failure.text, request_id)
    headers = [
        (b"date", date),
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    return headers + extra, body


def retry_after(draw: float) -> tuple[bytes, bytes]:
    """Of an answer to who came while there was too much: 1 to 3 seconds, so that not all come back at once."""
    return b"retry-after", b"%d" % (1 + int(3 * draw))


def proxy_status(failure: Failure) -> Headers:
    """The field that says what went wrong behind this proxy, if anything did (RFC 9209)."""
    return [(b"proxy-status", b"meridian; error=" + failure.error)] if failure.error else []


def proof(content: bytes, date: bytes) -> tuple[Headers, bytes]:
    """Fields and body of the answer below CHALLENGE."""
    headers = [
        (b"date", date),
        (b"content-type", b"application/octet-stream"),
        (b"content-length", b"%d" % len(content)),
        (b"cache-control", b"no-store"),
    ]
    return headers, content


def health(node: str, version: int, date: bytes, *, draining: bool) -> tuple[Headers, bytes]:
    """Fields and body of the answer at HEALTH_TARGET; `version` is the document's."""
    body = json.dumps({"node": node, "version": version, "draining": draining}).encode()
    headers = [
        (b"date", date),
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    return headers, body
