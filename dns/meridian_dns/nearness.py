"""Which region is near to whom, and how much of the address decided it. PURE.

Invariant (honest scope, RFC 7871 section 7.2.1): every address that shares the first `scope` bits with the client's is
ordered the same way. Networks are laid out as disjoint ranges, so the scope is the shortest prefix that stays inside
the client's range: it grows not only where a network matched but also where a network just beside the client did not.
"""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address

from meridian_dns.view import Network, Region, RegionView, parse_near


@dataclass(frozen=True, slots=True)
class Client:
    """Whom an answer is for.

    `address` is the sender; `subnet`, if it passed one on, counts instead. `country` (ISO 3166) and `continent` are
    what the geo data says of the address that counts, and `place_prefix` is the length of the network it said so for.
    """

    address: str
    subnet: Network | None
    country: str | None
    continent: str | None
    place_prefix: int = 0


@dataclass(frozen=True, slots=True)
class RangeMap:
    """Nested networks of one family flattened: `values[i]` holds from `starts[i]` up to `starts[i + 1]`."""

    bits: int
    starts: tuple[int, ...]
    values: tuple[tuple[str, ...], ...]

    @classmethod
    def build(cls, bits: int, networks: Iterable[tuple[Network, int, str]]) -> "RangeMap":
        """`networks`: each with the rank and name of its region; a longer network stands before a shorter one.

        Networks nest or are apart, so one sweep with a stack of the open ones is enough.
        """
        starts, values = [0], [()]  # type: tuple[list[int], list[tuple[str, ...]]]
        open_: list[tuple[int, str]] = []

        def mark(at: int) -> None:
            value = tuple(dict.fromkeys(region for _, region in reversed(open_)))
            if starts[-1] == at:
                values[-1] = value
            else:
                starts.append(at)
                values.append(value)

        for network, _, region in sorted(networks, key=lambda entry: (int(entry[0][0]), entry[0].prefixlen, -entry[1])):
            start = int(network[0])
            while open_ and open_[-1][0] < start:
                mark(open_.pop()[0] + 1)
            open_.append((int(network[-1]), region))
            mark(start)
        while open_:
            end, _ = open_.pop()
            if end + 1 < 1 << bits:
                mark(end + 1)
        return cls(bits, tuple(starts), tuple(values))

    def find(self, address: int) -> tuple[tuple[str, ...], int]:
        """The regions whose networks hold `address`, longest network first, and the scope of that finding in bits."""
        at = bisect_right(self.starts, address) - 1
        outside = []
        if at > 0:
            outside.append(self.starts[at] - 1)
        if at + 1 < len(self.starts):
            outside.append(self.starts[at + 1])
        return self.values[at], max((self.bits - (address ^ other).bit_length() + 1 for other in outside), default=0)


@dataclass(frozen=True, slots=True)
class NearTable:
    """All `near` entries of an ordered set of regions, ready to be asked."""

    ipv4: RangeMap
    ipv6: RangeMap
    places: dict[tuple[str, str], tuple[str, ...]]


def order_regions(view: RegionView, names: tuple[str, ...], client: Client) -> tuple[tuple[str, ...], int]:
    """Orders `names` (none: all regions of the view) for `client`; returns the order and its scope in bits.

    First the regions near to the client: a network beats a country beats a continent, a longer network a shorter
    one; among equals the given order. Then the fallbacks of those, in order; then the rest as given. Names that the
    view does not know are left out.
    """
    known = tuple(name for name in names or view.regions if name in view.regions)
    if len(known) < 2:
        return known, 0
    table = _near_table(tuple((name, view.regions[name].near) for name in known))
    address = client.subnet[0] if client.subnet is not None else ip_address(client.address)
    near, scope = (table.ipv4 if address.version == 4 else table.ipv6).find(int(address))
    if table.places:
        near += table.places.get(("country", client.country or ""), ())
        near += table.places.get(("continent", client.continent or ""), ())
        scope = max(scope, client.place_prefix)
    fallbacks = tuple(name for region in dict.fromkeys(near) for name in view.regions[region].fallback if name in known)
    return tuple(dict.fromkeys(near + fallbacks + known)), scope


def near_entries(region: Region, client: Client) -> tuple[str, ...]:
    """The `near` entries of the region that hold the client: what brings it forward in `order_regions`. For people."""
    address = client.subnet[0] if client.subnet is not None else ip_address(client.address)
    places = {("country", client.country), ("continent", client.continent)}
    found = []
    for entry in region.near:
        place = parse_near(entry)
        if place in places if isinstance(place, tuple) else address in place:
            found.append(entry)
    return tuple(found)


@lru_cache(maxsize=256)  # one for each distinct set of regions that records steer over; old ones age out after a swap
def _near_table(regions: tuple[tuple[str, tuple[str, ...]], ...]) -> NearTable:
    networks: dict[int, list[tuple[Network, int, str]]] = {4: [], 6: []}
    places: dict[tuple[str, str], tuple[str, ...]] = {}
    for rank, (name, entries) in enumerate(regions):
        for entry in map(parse_near, entries):
            if isinstance(entry, tuple):
                places[entry] = (*places.get(entry, ()), name)
            else:
                networks[entry.version].append((entry, rank, name))
    return NearTable(RangeMap.build(32, networks[4]), RangeMap.build(128, networks[6]), places)
