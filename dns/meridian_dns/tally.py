"""What is counted of answers: how many of each kind there were, by all that an operator may ask about them.

An answer that is kept to be given again (`fastpath`) holds its own tally, so that to count it is one addition.

Invariant: however many zones, regions and questions there are, the tallies stay few. What keeps it: a tally names a
zone of ours or none, the first regions of an answer, and a type that a zone can hold; and when there are `TALLIES_MAX`,
what has no tally yet is counted without its zone and regions.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from meridian_dns.names import name_to_text
from meridian_dns.policy import Answer, Question
from meridian_dns.records import AAAA, HTTPS, NOERROR, NXDOMAIN, SERVFAIL, A
from meridian_dns.responder import Holdings, counted_type
from meridian_dns.svcb import hints_of
from meridian_dns.view import RegionView
from meridian_dns.zone import Zone

TALLIES_MAX = 20_000  # about 300 bytes each; a zone has some dozens
REGIONS_MAX = 4  # of an answer, in its order: clients hardly use more, and all orders of many would be countless


@dataclass(slots=True, eq=False)
class Tally:
    """Answers of one kind. `type` 0: one that no zone holds. `zone` "": none of ours. `regions`: whose addresses the
    answer gives, as ordered in it. `error`: the code of an extended error (RFC 8914)."""

    type: int
    rcode: int
    zone: str = ""
    regions: tuple[str, ...] = ()
    error: int | None = None
    answers: int = 0


class Tallies:
    """All tallies of a server; they outlast its zones and views, as counters must."""

    def __init__(self, tallies_max: int = TALLIES_MAX) -> None:
        self._tallies_max = tallies_max
        self._found: dict[tuple[int, int, str, tuple[str, ...], int | None], Tally] = {}

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[Tally]:
        return iter(self._found.values())

    def of(
        self, type_: int, rcode: int, zone: str = "", regions: tuple[str, ...] = (), error: int | None = None
    ) -> Tally:
        """The tally of such answers."""
        key = (type_, rcode, zone, regions, error)
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= self._tallies_max and (zone or regions):
                return self.of(type_, rcode, error=error)
            found = self._found[key] = Tally(*key)
        return found


class Clerk:
    """Finds the tally of an answer that was made from one Holdings."""

    def __init__(self, tallies: Tallies, holdings: Holdings) -> None:
        self._tallies, self._holdings = tallies, holdings
        self._places: Mapping[bytes, str] | None = None
        self._zone_names: dict[bytes, str] = {}

    def tally_of(self, question: Question | None, answer: Answer) -> Tally:
        """Under which tally an answer is counted. It names the zone only if the answer is the zone's."""
        if question is None:
            return self._tallies.of(0, answer.rcode, error=_code(answer))
        zone = None
        if answer.rcode in (NOERROR, NXDOMAIN, SERVFAIL):
            zone = self._holdings.zones.find_for(question.name, question.type)
        return self._tallies.of(
            counted_type(question.type), answer.rcode, self._name_of(zone), self._regions_of(answer), _code(answer)
        )

    def _name_of(self, zone: Zone | None) -> str:
        if zone is None:
            return ""
        name = self._zone_names.get(zone.origin)
        if name is None:
            name = self._zone_names[zone.origin] = name_to_text(zone.origin).rstrip(".") or "."
        return name

    def _regions_of(self, answer: Answer) -> tuple[str, ...]:
        if self._places is None:
            self._places = _places_of(self._holdings.view)
        found: dict[str, None] = {}
        for records in answer.answer:
            if records.type in (A, AAAA):
                addresses = records.rdatas
            elif records.type == HTTPS:
                addresses = tuple(address for rdata in records.rdatas for address in hints_of(rdata))
            else:
                continue
            for address in addresses:
                region = self._places.get(address)
                if region is not None:
                    found[region] = None
        return tuple(found)[:REGIONS_MAX]


def _places_of(view: RegionView) -> Mapping[bytes, str]:
    """Which region each address is of."""
    return {
        ip_address(address).packed: region.name
        for region in view.regions.values()
        for member in region.members
        for address in member.addresses
    }


def _code(answer: Answer) -> int | None:
    return answer.extended_error.code if answer.extended_error is not None else None
