"""What HTTP/2 and HTTP/3 share: a list of fields becomes the head of a request or a response, and the other way round.

Invariant: what leaves here can be written as HTTP/1.1 without changing its meaning: names are lower-case tokens, no
value holds a control byte, at most one content-length, one authority, and no field that belongs to the downstream
connection. A request that would need guessing is malformed and resets its stream (RFC 9113 section 8.1.1, RFC 9114
section 4.1.2); one that is merely unwanted is answered with a status.
"""

import re
from dataclasses import dataclass

from meridian.wire.bounds import USUAL, Bounds
from meridian.wire.events import TUNNEL, Headers, Informational, RequestHead, ResponseHead

CONNECTION_FIELDS = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
"""Never allowed in HTTP/2 and HTTP/3, either way (RFC 9113 section 8.2.2, RFC 9114 section 4.2)."""

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch
_VALUE = re.compile(rb"(?:[^\x00-\x20\x7f](?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?)?").fullmatch
_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_TARGET = re.compile(rb"/[\x21\x22\x24-\x7e]*").fullmatch  # no space, no control byte, no fragment
_AUTHORITY = re.compile(rb"[A-Za-z0-9\-._~!$&'()*+,;=%\[\]:]+").fullmatch  # RFC 3986 section 3.2 without userinfo
_THREE_DIGITS = re.compile(rb"[1-5][0-9][0-9]").fullmatch
_DIGITS = re.compile(rb"[0-9]{1,18}").fullmatch
_PSEUDO_FIELDS = frozenset((b":method", b":scheme", b":authority", b":path", b":protocol"))
_STATUS = {status: str(status).encode() for status in range(100, 600)}


class MalformedError(Exception):
    """The message breaks the protocol; the stream is reset."""


class UnwantedError(Exception):
    """The request is well-formed and not served; the codec answers with `status`."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def request_head(
    stream_id: int, fields: Headers, version: bytes, *, ended: bool, bounds: Bounds = USUAL, is_proxy: bool = False
) -> RequestHead:
    """Builds the head of a request from its fields, pseudo fields first; `ended`: no body follows. Crumbs of cookies
    count as one field. `is_proxy`: see Http1Server.

    Raises MalformedError or UnwantedError. RFC 9113 sections 8.2 and 8.3, RFC 9114 sections 4.2 and 4.3.
    """
    pseudo: dict[bytes, bytes] = {}
    headers: Headers = []
    cookies: list[bytes] = []
    host: bytes | None = None
    length: int | None = None
    expects_continue = False
    for name, value in fields:
        if name[:1] == b":":
            if headers or cookies or host is not None or name in pseudo or name not in _PSEUDO_FIELDS:
                raise MalformedError(f"pseudo field {name!r} is unknown, repeated or late")
            pseudo[name] = value
            continue
        _check_field(name, value)
        if name == b"cookie":  # crumbs, RFC 9113 section 8.2.3
            cookies.append(value)
        elif name == b"host":
            if host is not None:
                raise MalformedError("host is repeated")
            host = value
        elif name == b"content-length":
            if length is not None or not _DIGITS(value):
                raise MalformedError("content-length is repeated or not a number")
            length = int(value)
            headers.append((name, value))
        elif name == b"te":
            if value.lower() != b"trailers":
                raise MalformedError("te may only say trailers")
        elif name == b"expect" and value.lower() == b"100-continue":
            expects_continue = True
        else:
            headers.append((name, value))
    if cookies:
        headers.append((b"cookie", cookies[0] if len(cookies) == 1 else b"; ".join(cookies)))
    if len(headers) > bounds.fields_max:
        raise UnwantedError(431, f"more than {bounds.fields_max} fields")
    if ended and length:
        raise MalformedError("content-length without a body")
    if is_proxy and pseudo.get(b":method") == b"CONNECT":
        method, scheme, target, protocol = _tunnel(pseudo)
    else:
        method, scheme, target = _method_scheme_target(pseudo)
        protocol = pseudo.get(b":protocol", b"")
        if is_proxy and scheme == b"https":
            raise UnwantedError(400, "ask for https by CONNECT")
    if len(target) > bounds.target_bytes_max:
        raise UnwantedError(414, "the target is too long")
    authority = _authority(pseudo.get(b":authority"), host)
    if protocol and (ended or length is not None or expects_continue):
        raise MalformedError("CONNECT without a body, or with the length of one")
    return RequestHead(
        stream_id, method, scheme, authority, target, headers, not ended,
        length if length is not None or not ended else 0, version, expects_continue and not ended, protocol,
    )  # fmt: skip


def response_head(stream_id: int, fields: Headers, method: bytes, *, ended: bool) -> ResponseHead | Informational:
    """Builds the head of an upstream's answer to a request of `method`; `ended`: no body follows.

    Raises MalformedError. RFC 9113 section 8.3.2.
    """
    if not fields or fields[0][0] != b":status" or not _THREE_DIGITS(fields[0][1]):
        raise MalformedError(":status is missing or no status")
    status = int(fields[0][1])
    headers: Headers = []
    length: int | None = None
    for name, value in fields[1:]:
        _check_field(name, value)  # which refuses further pseudo fields, too
        if name == b"content-length":
            if length is not None or not _DIGITS(value):
                raise MalformedError("content-length is repeated or not a number")
            length = int(value)
        headers.append((name, value))
    if len(headers) > USUAL.fields_max:
        raise MalformedError(f"more than {USUAL.fields_max} fields")
    if status < 200:
        if status == 101 or ended:
            raise MalformedError(f"status {status} cannot stand here")
        return Informational(stream_id, status, headers)
    if ended and length and not bodiless(method, status):
        raise MalformedError("content-length without a body")
    return ResponseHead(stream_id, status, headers, not ended, length, True)


def request_fields(
    method: bytes, scheme: bytes, authority: bytes, target: bytes, headers: Headers, body_length: int | None, *,
    has_body: bool, protocol: bytes = b"",
) -> Headers:  # fmt: skip
    """Returns pseudo fields and those that may go on. Trailers are always welcome: that `te: trailers` says so is what
    gRPC asks for."""
    fields = [(b":method", method)] if not protocol else [(b":method", b"CONNECT"), (b":protocol", protocol)]
    fields += [(b":scheme", scheme), (b":authority", authority), (b":path", target)]
    fields += [field for field in headers if field[0] not in CONNECTION_FIELDS and field[0] != b"te"]
    if body_length is not None and (has_body or method in (b"POST", b"PUT", b"PATCH")):  # RFC 9110 section 8.6
        fields.append((b"content-length", b"%d" % body_length))
    fields.append((b"te", b"trailers"))
    return fields


def check_trailers(fields: Headers) -> Headers:
    """Returns the trailers of a message. Raises MalformedError where they hold pseudo or connection fields."""
    for name, value in fields:
        _check_field(name, value)
        if name == b"content-length" or name == b"host":
            raise MalformedError(f"{name.decode()} in trailers")
    if len(fields) > USUAL.fields_max:
        raise MalformedError(f"more than {USUAL.fields_max} trailers")
    return [(bytes(name), bytes(value)) for name, value in fields]


def response_fields(status: int, headers: Headers) -> Headers:
    """Returns :status and the fields that may go on; fields of the upstream connection are dropped."""
    fields = [(b":status", _STATUS[status])]
    fields += [field for field in headers if field[0] not in CONNECTION_FIELDS]
    return fields


def bodiless(method: bytes, status: int) -> bool:
    """Whether a response never has a body, whatever its fields say (RFC 9110 section 6.4.1)."""
    return method == b"HEAD" or status == 204 or status == 304


def _check_field(name: bytes, value: bytes) -> None:
    if not _NAME(name):
        raise MalformedError(f"field name {name[:40]!r} is not a lower-case token")
    if not _VALUE(value):
        raise MalformedError(f"the value of {name[:40]!r} has control bytes or spaces around it")
    if name in CONNECTION_FIELDS:
        raise MalformedError(f"{name.decode()} belongs to HTTP/1.1")


def _method_scheme_target(pseudo: dict[bytes, bytes]) -> tuple[bytes, bytes, bytes]:
    method = pseudo.get(b":method", b"")
    if not _METHOD(method):
        raise MalformedError(":method is missing or no token")
    protocol = pseudo.get(b":protocol")
    if method == b"CONNECT":
        if protocol is None:
            raise UnwantedError(501, "CONNECT is not served")
        if protocol != b"websocket":
            raise UnwantedError(501, "this protocol is not served")
        method = b"GET"  # as over HTTP/1.1: that is what routes and upstreams know it as
    elif protocol is not None:
        raise MalformedError(":protocol without CONNECT")
    scheme = pseudo.get(b":scheme")
    if scheme != b"https" and scheme != b"http":
        raise MalformedError(":scheme is missing or neither https nor http")
    target = pseudo.get(b":path", b"")
    if not _TARGET(target) and not (target == b"*" and method == b"OPTIONS"):
        raise MalformedError(":path is missing or not in origin form")
    return method, scheme, target


def _tunnel(pseudo: dict[bytes, bytes]) -> tuple[bytes, bytes, bytes, bytes]:
    """What a proxy makes of CONNECT, which names nothing but an authority (RFC 9113 section 8.5)."""
    if b":protocol" in pseudo:
        raise UnwantedError(501, "a proxy serves no extended CONNECT")
    if b":scheme" in pseudo or b":path" in pseudo or b":authority" not in pseudo:
        raise MalformedError("CONNECT has :authority, and neither :scheme nor :path")
    return b"CONNECT", b"https", b"*", TUNNEL


def _authority(authority: bytes | None, host: bytes | None) -> bytes:
    """One authority from :authority and host, lower-case. They may both be there if they agree (section 8.3.1)."""
    if authority is None:
        authority = host
    elif host is not None and host.lower() != authority.lower():
        raise MalformedError(":authority and host differ")
    if not authority or not _AUTHORITY(authority):
        raise MalformedError(":authority is missing or not a host and port")
    return authority.lower()


@dataclass(slots=True)
class Budget:
    """So many at once, so many a second after that. `spend` says whether there was one left."""

    burst: float
    per_second: float
    left: float = -1.0
    since: float = 0.0

    def spend(self, now: float) -> bool:
        """Takes one at `now` (monotonic seconds); False if there is none."""
        if self.left < 0:
            self.left, self.since = self.burst, now
        self.left = min(self.burst, self.left + (now - self.since) * self.per_second)
        self.since = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


def budget(most: int) -> Budget:
    """`most` at once, and half as many each second after that."""
    return Budget(burst=most, per_second=most / 2)


def upstream_frame_budget() -> Budget:
    """Frames of an upstream that bring no answer nearer: gRPC's servers send a PING each round trip, which is short
    there. What is more is a loop."""
    return budget(10_000)
