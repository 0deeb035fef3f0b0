"""What the world looks like now: regions, who stands in them, who serves. One immutable view, replaced whole.

Invariant: a view that could be built is valid. Addresses and `near` entries are checked here, once for each view, so
that no query can meet a malformed one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

CONTINENTS = frozenset(("AF", "AN", "AS", "EU", "NA", "OC", "SA"))

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Member:
    """One node: the addresses that DNS gives for it, and whether it serves."""

    name: str
    addresses: tuple[str, ...]
    serving: bool

    def __post_init__(self) -> None:
        for address in self.addresses:
            ip_address(address)


@dataclass(frozen=True, slots=True)
class Region:
    """A place with members. `suspect`: its health is in doubt, so it is answered last, but not left out. `in_doubt`: it
    is suspect or has changed lately, and answers in which it has a part are kept for less long. `share`: of the clients
    who would be sent there, the part (0 to 1) that is; the others get what they would get if it did not serve.

    `near` entries are `continent/EU`, `country/TR` or a CIDR; `fallback` names regions in order. Raises ValueError
    for a malformed `near` entry.
    """

    name: str
    members: tuple[Member, ...]
    serving: bool
    suspect: bool = False
    near: tuple[str, ...] = ()
    fallback: tuple[str, ...] = ()
    in_doubt: bool = False
    share: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise ValueError(f"share: {self.share} is not between 0 and 1")
        for entry in self.near:
            parse_near(entry)


@dataclass(frozen=True, slots=True)
class Distance:
    """A round trip between two regions as it was measured; `age_seconds`: since when, as the view was made."""

    milliseconds: float
    age_seconds: float = 0.0


Distances = Mapping[str, Mapping[str, Distance]]
"""From each region to others; both ways are in it."""


@dataclass(frozen=True, slots=True)
class RegionView:
    """All regions by name at one version of the verdict; the mapping's order is the order of "all regions".

    `fallback` tells what this server's node merged itself upon that version from it (0); `doubt_ttl_seconds` is the
    longest time to live of a steered answer about a region in doubt. `distances` are what was measured, of any two
    regions or of none.
    """

    version: int
    regions: Mapping[str, Region]
    fallback: int = 0
    doubt_ttl_seconds: int = 5
    distances: Distances = field(default_factory=dict)


def parse_near(entry: str) -> tuple[str, str] | Network:
    """Reads one `near` entry into ("continent", code), ("country", code) or a network. Raises ValueError."""
    kind, slash, code = entry.partition("/")
    if kind == "continent" and code in CONTINENTS:
        return kind, code
    if kind == "country" and re.fullmatch("[A-Z]{2}", code):
        return kind, code
    if kind in ("continent", "country") or not slash:
        raise ValueError(f"near: {entry!r} is none of continent/EU, country/TR or a network such as 203.0.113.0/24")
    return ip_network(entry)
