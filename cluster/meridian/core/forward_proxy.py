"""Whom a forward proxy reaches for its clients. Pure: what a name resolves to is told.

Invariant: an address is reached only if one destination admits the host, the port and this very address. Names are
resolved once, and what was judged is what is connected to, so that no name leads the proxy to its own machine or to
its neighbours (server-side request forgery, DNS rebinding) unless the document says that network.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from meridian.core import forward_words

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address


@dataclass(frozen=True, slots=True)
class Destination:
    """See forward_words.Destination."""

    hosts: frozenset[str]
    suffixes: tuple[str, ...]  # with their first dot
    ports: frozenset[int]
    networks: tuple[Network, ...]

    def is_named(self, host: str, port: int) -> bool:
        """Whether it may be this, as far as that can be told without resolving it."""
        any_host = not self.hosts and not self.suffixes
        return port in self.ports and (any_host or host in self.hosts or host.endswith(self.suffixes))

    def admits(self, address: Address) -> bool:
        """Whether it may be at this address."""
        return any(address in network for network in self.networks) if self.networks else is_public(address)


@dataclass(frozen=True, slots=True)
class ForwardProxy:
    """See forward_words.ForwardProxy; its name is that of its listener."""

    name: str
    destinations: tuple[Destination, ...]
    clients: tuple[Network, ...]
    connect_seconds: float
    idle_seconds: float

    def takes(self, client: str) -> bool:
        """Whether this address may use it at all."""
        return not self.clients or any(ipaddress.ip_address(client) in network for network in self.clients)

    def may_be(self, host: str, port: int) -> bool:
        """Whether it is worth resolving."""
        return any(one.is_named(host, port) for one in self.destinations)

    def admitted(self, host: str, port: int, addresses: Iterable[str]) -> Iterator[str]:
        """Those that may be reached, in their order, each once."""
        named = [one for one in self.destinations if one.is_named(host, port)]
        for address in dict.fromkeys(addresses):
            parsed = ipaddress.ip_address(address)
            if any(one.admits(parsed) for one in named):
                yield address


def make_forward_proxy(listener: str, words: forward_words.ForwardProxy) -> ForwardProxy:
    """Compiles what a listener says of it."""
    return ForwardProxy(
        listener,
        tuple(_destination(one) for one in words.allow),
        _networks(words.clients),
        words.connect_timeout_seconds,
        words.tunnel_idle_timeout_seconds,
    )


def route_name(listener: str) -> str:
    """Under which its requests are counted and logged; no name of a document's can be this."""
    return f"forward:{listener}"


def split_authority(authority: bytes, default_port: int | None) -> tuple[str, int] | None:
    """Host and port, without brackets and the root's dot. None: it has no port where one is needed, or none that is."""
    host, colon, port = authority.decode("ascii").rpartition(":")
    if not colon or port.endswith("]"):
        host, port = authority.decode("ascii"), str(default_port or "")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        return None
    return host.strip("[]").rstrip("."), int(port)


def is_public(address: Address) -> bool:
    """Whether it is somebody's in the internet: an IPv4 address within an IPv6 one counts as what it is."""
    if isinstance(address, ipaddress.IPv6Address):
        within = address.ipv4_mapped or address.sixtofour
        if within is None and address in _NAT64:
            within = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if within is not None:
            return is_public(within)
        if address.teredo is not None:
            return False
    return address.is_global and not address.is_multicast


def _destination(words: forward_words.Destination) -> Destination:
    exact = [host.strip("[]") for host in words.hosts if not host.startswith("*.")]
    suffixes = tuple(host[1:] for host in words.hosts if host.startswith("*."))
    return Destination(frozenset(exact), suffixes, frozenset(words.ports), _networks(words.networks))


def _networks(texts: Sequence[str]) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)
