"""What the gateway answers by itself: every failure is a named value here, with its one mapping to a status.

The text names the request, so that a user can quote it to whoever reads the logs, and nothing of the inside.
"""

from dataclasses import dataclass

from meridian.wire.events import Headers


@dataclass(frozen=True, slots=True)
class Failure:
    """`why` is for logs, metrics and spans: few values, one word each."""

    status: int
    why: str
    text: bytes


BAD_TARGET = Failure(400, "bad_target", b"The path of this request is not valid.")
BAD_FIELD = Failure(400, "bad_field", b"A field of this request is not valid.")
NO_ROUTE = Failure(404, "no_route", b"There is no such host or path here.")
METHOD_NOT_ALLOWED = Failure(405, "method_not_allowed", b"This path does not take this method.")
BODY_TIMEOUT = Failure(408, "body_timeout", b"The body of this request did not come in time.")
LIMITED = Failure(429, "limited", b"Too many requests.")
UPSTREAM_REFUSED = Failure(502, "upstream_refused", b"The service cannot be reached.")
UPSTREAM_LOST = Failure(502, "upstream_lost", b"The service gave no complete answer.")
UPSTREAM_MALFORMED = Failure(502, "upstream_malformed", b"The service gave no valid answer.")
UPSTREAM_BUSY = Failure(503, "upstream_busy", b"The service is busy.")
UPSTREAM_TIMEOUT = Failure(504, "upstream_timeout", b"The service did not answer in time.")

CLIENT_GONE_STATUS = 499
"""Of an exchange whose client left before an answer: never sent, only logged and counted (nginx's number)."""


def answer(failure: Failure, request_id: bytes, extra: Headers) -> tuple[Headers, bytes]:
    """Fields and body of a plain answer."""
    body = b"%b\nrequest %b\n" % (failure.text, request_id)
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    return headers + extra, body
