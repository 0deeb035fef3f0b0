"""For whom a limit counts a request: the key, made of the parts that the document names.

Two requests have one key if and only if all their parts are equal (but for a collision of 160-bit digests). Keys are at
most `KEY_CHARACTERS_MAX` + 1 characters, whatever a client sends, so that a million of them fit into memory. What a
request does not have counts as empty: to leave a header out leads to the bucket that all such requests share, and not
past the limit.
"""

import hashlib
import ipaddress
from functools import lru_cache

KEY_CHARACTERS_MAX = 40  # an IPv6 address has 39, a UUID 36
PREFIX_BITS_V6 = 64  # what one customer has at least (RFC 6177): a client may choose any address of it for each request

Headers = list[tuple[bytes, bytes]]


def key_of(
    parts: tuple[str, ...], *, client: str, consumer: str, route: str, authority: bytes, headers: Headers
) -> str:
    """The key of one request. `client` is an IP address, `authority` the host and perhaps its port, in lower case."""
    if len(parts) == 1:
        return _bounded(_part(parts[0], client, consumer, route, authority, headers))
    values = [_part(part, client, consumer, route, authority, headers) for part in parts]
    return _bounded("".join([f"{len(value)}:{value}" for value in values]))  # lengths: no value can pass for two


def _part(part: str, client: str, consumer: str, route: str, authority: bytes, headers: Headers) -> str:
    if part == "client_ip":
        return network_of(client) if ":" in client else client
    if part == "consumer":
        return consumer
    if part == "route":
        return route
    if part == "host":
        return host_of(authority).decode("latin-1")
    name = part[7:].encode()  # header:NAME
    return b", ".join([value for field, value in headers if field == name]).decode("latin-1")


def host_of(authority: bytes) -> bytes:
    """The host of an authority, without its port and the dot of the root: example.com. is the same name."""
    if authority.startswith(b"["):
        return authority.partition(b"]")[0] + b"]"
    return authority.partition(b":")[0].rstrip(b".")


@lru_cache(maxsize=16_384)  # more than the connections of a worker
def network_of(client: str) -> str:
    """The network that one client owns: the /64 of an IPv6 address, an IPv4 address whole (however it is written)."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), PREFIX_BITS_V6), strict=False))


def _bounded(key: str) -> str:
    """The key itself if it is short, else its digest, which is longer than any that is short."""
    if len(key) <= KEY_CHARACTERS_MAX:
        return key
    return "#" + hashlib.blake2b(key.encode(), digest_size=20).hexdigest()
