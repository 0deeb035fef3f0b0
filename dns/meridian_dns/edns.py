"""EDNS options: what a client asks for beside its subnet, and what the server gives it. Used by both paths alike.

NSID (RFC 5001) says which node answered. A cookie (RFC 7873, in RFC 9018's form, so that other servers under the same
secret accept it) proves that the client owns its address. Keepalive (RFC 7828) says how long a TCP connection may idle.

Invariant: nothing is given that was not asked for, so an answer to a plain query has no option at all.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from meridian_dns.siphash import siphash24

NSID, SUBNET, COOKIE, KEEPALIVE, PADDING, EXTENDED_ERROR = 3, 8, 10, 11, 12, 15  # IANA's option codes
PAIR = struct.Struct("!HH")  # code and length

CLIENT_COOKIE_BYTES = 8
COOKIE_BYTES = range(16, 41)  # RFC 7873 section 4: client's and server's part together
COOKIE_SECONDS_MAX, COOKIE_SECONDS_AHEAD, COOKIE_SECONDS_FRESH = 3600, 300, 1800  # RFC 9018 section 4.3
COOKIES_MAX = 20_000  # clients whose cookie is remembered, about 250 bytes each; a hash costs more than a whole answer
SERVER_ID_BYTES_MAX = 255  # a node's name; each answer that asks for it grows by as much


@dataclass(frozen=True, slots=True)
class Asked:
    """What a query asks for. `cookie`: the client's, with the server's part behind it if it has one."""

    nsid: bool = False
    cookie: bytes = b""
    keepalive: bool = False


def read_options(data: bytes, at: int, end: int) -> tuple[bytes, Asked | None] | None:
    """The client subnet's payload (empty: none) and what else is asked for; None if the options are malformed.

    The subnet is not looked into; `message.subnet_is_valid` does that.
    """
    subnet, nsid, cookie, keepalive = b"", False, b"", False
    while at < end:
        if at + 4 > end:
            return None
        code, length = PAIR.unpack_from(data, at)
        at += 4 + length
        if at > end:
            return None
        if code == SUBNET:
            if subnet or length < 4:
                return None
            subnet = data[at - length : at]
        elif code == COOKIE:
            if length != CLIENT_COOKIE_BYTES and length not in COOKIE_BYTES:
                return None  # RFC 7873 section 5.2.2
            cookie = cookie or data[at - length : at]
        elif code == NSID:
            nsid = True
        elif code == KEEPALIVE:
            keepalive = True
    return subnet, Asked(nsid, cookie, keepalive) if cookie or nsid or keepalive else None


class CookieJar:
    """Makes and checks server cookies. What it remembers only saves work: it forgets all when full."""

    def __init__(self, secrets: Sequence[bytes], wall_clock: Callable[[], float]) -> None:
        """`secrets`, 16 bytes each: the first makes cookies, all are accepted, so that one can follow another.

        `wall_clock` gives seconds since 1970, as all servers under one secret must.
        """
        self._wall_clock = wall_clock
        self._known: dict[tuple[bytes, str], bytes] = {}
        self.replace(secrets)

    def replace(self, secrets: Sequence[bytes]) -> None:
        """Goes on with other secrets. Raises ValueError."""
        if not secrets or any(len(secret) != 16 for secret in secrets):
            raise ValueError("cookies need at least one secret, of 16 bytes each")
        self._secrets = tuple(secrets)
        self._known.clear()  # what an old secret made is looked at anew when it is shown

    def __len__(self) -> int:
        """How many clients are remembered."""
        return len(self._known)

    def answer(self, cookie: bytes, source: str) -> bytes:
        """The cookie to give to the client at `source` (a textual address): its own if it is fresh, else a new one."""
        now = int(self._wall_clock())
        client = cookie[:CLIENT_COOKIE_BYTES]
        known = self._known.get((client, source))
        if known is not None and 0 <= now - _made_at(known) < COOKIE_SECONDS_FRESH and cookie in (known, client):
            return known
        if not (self._is_genuine(cookie, source, now) and now - _made_at(cookie) < COOKIE_SECONDS_FRESH):
            cookie = client + self._server_part(self._secrets[0], client, now, source)
        if len(self._known) >= COOKIES_MAX:
            self._known.clear()
        self._known[client, source] = cookie
        return cookie

    def is_valid(self, cookie: bytes, source: str) -> bool:
        """Whether we gave this cookie to `source` not long ago."""
        return self._is_genuine(cookie, source, int(self._wall_clock()))

    def _is_genuine(self, cookie: bytes, source: str, now: int) -> bool:
        if len(cookie) != 24 or cookie[8] != 1:
            return False
        made_at = _made_at(cookie)
        # Serial numbers (RFC 1982): the 32 bits wrap in 2106.
        age = (now - made_at + 2**31) % 2**32 - 2**31
        if not -COOKIE_SECONDS_AHEAD <= age <= COOKIE_SECONDS_MAX:
            return False
        client = cookie[:CLIENT_COOKIE_BYTES]
        return any(self._server_part(secret, client, made_at, source) == cookie[8:] for secret in self._secrets)

    def _server_part(self, secret: bytes, client: bytes, now: int, source: str) -> bytes:
        address = ip_address(source)
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        head = b"\1\0\0\0" + (now % 2**32).to_bytes(4, "big")
        return head + siphash24(secret, client + head + address.packed)


class ServerOptions:
    """What this server gives to those who ask."""

    def __init__(self, server_id: bytes = b"", cookies: CookieJar | None = None, idle_seconds: float = 0) -> None:
        """`server_id` empty and `cookies` None: not given. `idle_seconds`: how long a TCP connection may idle."""
        if len(server_id) > SERVER_ID_BYTES_MAX:
            raise ValueError(f"a server id of more than {SERVER_ID_BYTES_MAX} bytes")
        self._nsid = PAIR.pack(NSID, len(server_id)) + server_id if server_id else b""
        self.cookies = cookies
        self._keepalive = PAIR.pack(KEEPALIVE, 2) + min(int(idle_seconds * 10), 0xFFFF).to_bytes(2, "big")

    def give(self, asked: Asked, source: str, *, datagram: bool) -> bytes:
        """The options to answer with, in wire form."""
        out = self._nsid if asked.nsid else b""
        if asked.cookie and self.cookies is not None:
            cookie = self.cookies.answer(asked.cookie, source)
            out += PAIR.pack(COOKIE, len(cookie)) + cookie
        if asked.keepalive and not datagram:  # over UDP it has no meaning and must not be sent
            out += self._keepalive
        return out


def _made_at(cookie: bytes) -> int:
    return int.from_bytes(cookie[12:16], "big")
