"""What changes in a message on its way through. Pure.

The invariant: what an upstream reads in X-Forwarded-*, X-Request-Id, traceparent and Client-Cert was said by us or by
a proxy that the operator trusts, never by a client. Fields of the connection are gone already: the codecs drop them.
"""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, product

from meridian.core.guards import USUAL, Guards
from meridian.core.routing import Route
from meridian.core.snapshot import Listener
from meridian.gateway.stream import Peer
from meridian.wire.events import Headers, RequestHead

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_FOR, _PROTO, _HOST, _PORT = b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port"
_REQUEST_ID, _TRACEPARENT, _VIA = b"x-request-id", b"traceparent", b"via"
_FORWARDED, _CONSUMER = b"forwarded", b"x-consumer"
_CERTIFICATE, _CHAIN = b"client-cert", b"client-cert-chain"  # RFC 9440
_OURS = frozenset((
    _FOR, _PROTO, _HOST, _PORT, _REQUEST_ID, _TRACEPARENT, _VIA, _FORWARDED, _CONSUMER, _CERTIFICATE, _CHAIN,
    b"x-real-ip", b"content-length",
))  # fmt: skip
_SAFE = frozenset((b"GET", b"HEAD", b"OPTIONS"))
_TO_PROXY = frozenset((b"proxy-authorization", b"proxy-connection", b"content-length"))
_VIA_LINES = {version: b"via: %b meridian\r\n" % version for version in (b"1.0", b"1.1", b"2", b"3")}


def _lookalikes(name: bytes) -> Iterator[bytes]:
    parts = name.split(b"-")
    for joints in product((b"-", b"_"), repeat=len(parts) - 1):
        yield b"".join(chain.from_iterable(zip(parts, (*joints, b""), strict=True)))


_NOT_FORWARDED = (
    frozenset(
        one for name in _OURS | {b"transfer-encoding", b"content-length"} for one in _lookalikes(name) if b"_" in one
    )
    | _OURS
)
"""And what CGI, WSGI and PHP take for one of them, or for the length of a body: they write - and _ alike."""


# Quoted strings hold commas and semicolons. The first two are for values that the third matches: their quotes are in
# pairs, so that no search for the end of one is in vain, and all three cost one walk.
_PAIRS = re.compile(rb'(?:[^";]|"(?:[^"\\]|\\.)*")+', re.DOTALL).findall
_ELEMENTS = re.compile(rb'(?:[^",]|"(?:[^"\\]|\\.)*")+', re.DOTALL).findall
_FORWARDED_VALUE = re.compile(rb'(?:[^"]|"(?:[^"\\]|\\.)*")*', re.DOTALL).fullmatch
_ENCODED_CONTROL = re.compile(rb"%(?:[01][0-9a-f]|7f)", re.IGNORECASE).search
_REQUEST_ID_VALUE = re.compile(rb"[A-Za-z0-9._~+/=-]{1,128}").fullmatch
_DOT_SEGMENT = re.compile(rb"/(?:\.|%2e){1,2}(?:/|$)", re.IGNORECASE).search
_ENCODED_DOT = re.compile(rb"%2e", re.IGNORECASE)


class BadTargetError(Exception):
    """The path cannot be routed safely."""


@dataclass(frozen=True, slots=True)
class ListenerFacts:
    """What forwarding needs of a listener, worked out once a snapshot."""

    trusted: tuple[Network, ...]
    alt_svc: tuple[bytes, bytes] | None  # the field to send over TLS, if the listener speaks h3
    by_forwarded: bool = False  # trusted proxies name their client in Forwarded, and X-Forwarded-* is a client's
    hsts: tuple[bytes, bytes] | None = None  # the field to send over TLS
    https_port: int | None = None  # where everything that comes here is sent
    forward: Route | None = None  # that takes everything here, because it is a forward proxy
    guards: Guards = USUAL

    @classmethod
    def of(cls, listener: Listener, https_port: int | None = None) -> "ListenerFacts":
        """From the snapshot's listener. `https_port`: of the document's first with TLS."""
        trusted = tuple(ipaddress.ip_network(network) for network in listener.trusted_proxies)
        h3 = listener.tls and "h3" in listener.protocols and listener.forward is None  # whose answers are of others
        alt_svc = (b"alt-svc", b'h3=":%d"; ma=86400' % listener.port) if h3 else None
        hsts = (b"strict-transport-security", listener.hsts) if listener.hsts is not None else None
        to_https = https_port if listener.https_redirect else None
        by_forwarded = listener.client_field == "forwarded"
        return cls(trusted, alt_svc, by_forwarded, hsts, to_https, listener.forward, listener.guards)


GONE = ListenerFacts((), None)
"""Of a listener that has left the document while a connection of it lives on."""


def normalise(target: bytes) -> bytes:
    """The target with its dot segments removed (RFC 3986 section 5.2.4; `%2e` is a dot, section 6.2.2.2), so that
    the route is found for the path that the upstream will see.

    Raises BadTargetError for encoded NUL and control bytes: they end or split names in other programs. Plain ones the
    codecs have refused.
    """
    if b"%" not in target and b"/." not in target:
        return target
    path, question, query = target.partition(b"?")
    if _ENCODED_CONTROL(path):
        raise BadTargetError
    if not _DOT_SEGMENT(path):
        return target
    kept: list[bytes] = []
    segments = path.split(b"/")[1:]
    for segment in segments:
        plain = _ENCODED_DOT.sub(b".", segment)
        if plain == b"..":
            if kept:
                kept.pop()
        elif plain != b".":
            kept.append(segment)
    if _ENCODED_DOT.sub(b".", segments[-1]) in (b".", b".."):
        kept.append(b"")
    return b"/" + b"/".join(kept) + question + query


def is_trusted(peer: Peer, listener: ListenerFacts) -> bool:
    """Whether the listener believes what this peer says about its own client."""
    return bool(listener.trusted) and is_in(peer.address, listener.trusted)


def split(headers: Headers) -> tuple[Headers, dict[bytes, bytes]]:
    """The fields that go on as they came, and those that are ours to say, joined by name (RFC 9110 section 5.3)."""
    kept = [field for field in headers if field[0] not in _NOT_FORWARDED]
    said: dict[bytes, bytes] = {}
    if len(kept) != len(headers):
        for name, value in headers:
            if name in _OURS:
                said[name] = said[name] + b", " + value if name in said else value
    return kept, said


def client_address(peer: Peer, said: dict[bytes, bytes], listener: ListenerFacts) -> str:
    """The address of the client: of a trusted peer the last one that it names and that is not trusted itself."""
    client = peer.address
    if not is_trusted(peer, listener):
        return client
    for item in reversed(_named_clients(said, listener)):
        try:
            client = str(ipaddress.ip_address(item))
        except ValueError:
            break
        if not is_in(client, listener.trusted):
            break
    return client


def _named_clients(said: dict[bytes, bytes], listener: ListenerFacts) -> list[str]:
    """What proxies said of who asked them, the nearest last."""
    if listener.by_forwarded:
        return forwarded_for(said.get(_FORWARDED, b""))
    return [item.strip(b" \t").decode("latin-1") for item in said.get(_FOR, b"").split(b",")]


def forwarded_for(value: bytes) -> list[str]:
    """The `for` of each element of Forwarded, without port and brackets (RFC 7239 section 4); "" where there is none.

    A field that is malformed names nobody: what follows a broken quote cannot be told apart.
    """
    if not _FORWARDED_VALUE(value):
        return []
    found: list[str] = []
    for element in _ELEMENTS(value):
        node = ""
        for pair in _PAIRS(element):
            name, _, text = pair.partition(b"=")
            if name.strip().lower() == b"for":
                node = text.strip().strip(b'"').decode("latin-1")
        found.append(_without_port(node))
    return found


def _believed(said: dict[bytes, bytes], listener: ListenerFacts) -> dict[bytes, bytes]:
    """Of what came through a trusted proxy, what it said itself, as X-Forwarded-*."""
    if not listener.by_forwarded:
        return said
    named = _named_clients(said, listener)
    return {_FOR: ", ".join(named).encode("latin-1")} if named else {}


def _without_port(node: str) -> str:
    if node.startswith("["):
        return node[1:].partition("]")[0]
    return node.partition(":")[0] if node.count(":") == 1 else node


@lru_cache(maxsize=16_384)  # more than the connections of a worker, so that each peer is looked up once
def is_in(address: str, networks: tuple[Network, ...]) -> bool:
    """Whether an IP address is of one of them; False for what is none."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)


def request_id(peer: Peer, said: dict[bytes, bytes], listener: ListenerFacts) -> bytes | None:
    """The id that a trusted proxy gave to this request, if it looks like one."""
    given = said.get(_REQUEST_ID)
    return given if given is not None and _REQUEST_ID_VALUE(given) and is_trusted(peer, listener) else None


def request_fields(
    head: RequestHead, kept: Headers, said: dict[bytes, bytes], peer: Peer, listener: ListenerFacts,
    request_id: bytes, traceparent: bytes | None, consumer: str = "",
) -> tuple[Headers, bytes]:  # fmt: skip
    """The fields for the upstream, without host and framing fields, which its codec makes: `kept` (see `split`), what
    is made of `said`, and, as lines ready to be sent, those that nobody but us has a say in. `consumer` is who was
    found to ask."""
    host, forwarded, via = head.authority, peer.lines, _VIA_LINES[head.version]
    if said:
        kept = kept.copy()
        if _VIA in said:
            kept.append((_VIA, b"%b, %b meridian" % (said[_VIA], head.version)))
            via = b""
        if is_trusted(peer, listener):
            said = _believed(said, listener)
            client, proto, port = peer.address.encode(), b"https" if peer.tls else b"http", b"%d" % peer.local_port
            kept += (
                (_FOR, said[_FOR] + b", " + client if _FOR in said else client),
                (_PROTO, said.get(_PROTO, proto)), (_PORT, said.get(_PORT, port)), (_HOST, said.get(_HOST, host)),
            )  # fmt: skip
            if peer.certificate is None:  # the proxy may have asked its client for one
                kept += ((name, said[name]) for name in (_CERTIFICATE, _CHAIN) if name in said)
            forwarded, host = peer.certificate_line, b""
    lines = b"%bx-request-id: %b\r\n%b" % (forwarded, request_id, via)
    if host:  # HTTP/1.0 need not name one
        lines += b"x-forwarded-host: %b\r\n" % host
    if consumer:
        lines += b"x-consumer: %b\r\n" % consumer.encode()
    if traceparent is not None:
        lines += b"traceparent: %b\r\n" % traceparent
    if head.early:  # upstreams may say 425, too, which the client hears (RFC 8470 section 5.2)
        kept = [field for field in kept if field[0] != b"early-data"]
        lines += b"early-data: 1\r\n"
    if head.expects_continue:
        lines += b"expect: 100-continue\r\n"
    if head.version in (b"2", b"3") and not head.protocol:  # they can always take trailers (RFC 9110 section 6.5.1)
        lines += b"te: trailers\r\nconnection: te\r\n"
    return kept, lines


def may_be_early(head: RequestHead) -> bool:
    """Whether a request does no harm if it is played again (RFC 8470 section 3)."""
    return head.method in _SAFE and not head.has_body and not head.protocol


def passing(headers: Headers) -> Headers:
    """The fields of a forward proxy's request as they go on: what is said to the proxy is not."""
    return [field for field in headers if field[0] not in _TO_PROXY]


def passing_lines(head: RequestHead) -> bytes:
    """What a forward proxy says itself: that it was there, and nothing of its client (RFC 9110 section 7.6.3)."""
    return _VIA_LINES[head.version] + (b"expect: 100-continue\r\n" if head.expects_continue else b"")


def complete_response(headers: Headers, date: bytes, peer: Peer, listener: ListenerFacts) -> None:
    """Adds what the client is to be told: `date` (now) if the upstream has no clock (RFC 9110 section 6.6.1), where
    else this service can be reached (RFC 7838), and that it is to be asked over TLS alone (RFC 6797)."""
    for name, _ in headers:
        if name == b"date":
            break
    else:
        headers.append((b"date", date))
    if listener.alt_svc is not None and peer.tls:
        headers[:] = [field for field in headers if field[0] != b"alt-svc"]
        headers.append(listener.alt_svc)
    if listener.hsts is not None and peer.tls:
        headers[:] = [field for field in headers if field[0] != listener.hsts[0]]
        headers.append(listener.hsts)
