"""What of a request binds it to an endpoint: the hash of its client, path, field or cookie, and the sticky cookie."""

from meridian.core import fields
from meridian.core.hashing import hash_of
from meridian.core.limit_keys import network_of
from meridian.core.snapshot import Sticky
from meridian.wire.events import Headers


def key_of(hash_on: str, client: str, target: bytes, headers: Headers) -> int | None:
    """The hash of what `upstreams[].hash_on` names; None where the request has nothing of the kind.

    A client is the /64 of an IPv6 address, whose rest changes by the hour. A path is without its query.
    """
    if hash_on == "client_ip":
        return hash_of((network_of(client) if ":" in client else client).encode())
    if hash_on == "path":
        return hash_of(target.partition(b"?")[0])
    kind, _, name = hash_on.partition(":")
    find = fields.cookie if kind == "cookie" else fields.header
    value = find(headers, name.encode())
    return hash_of(value) if value is not None else None


def named_by(sticky: Sticky, headers: Headers) -> int | None:
    """The index of the endpoint that the client's cookie names, None if it names none of them."""
    token = fields.cookie(headers, sticky.cookie)
    return sticky.places.get(token) if token is not None else None


def set_cookie(sticky: Sticky, index: int) -> tuple[bytes, bytes]:
    """The field that binds a client to an endpoint."""
    return b"set-cookie", b"%b=%b%b" % (sticky.cookie, sticky.tokens[index], sticky.attributes)
