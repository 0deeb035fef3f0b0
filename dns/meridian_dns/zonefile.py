"""Zone files, in and out: RFC 1035 section 5, with $TTL of RFC 2308 section 4.

Invariant: a zone whose record sets are all fixed comes back equal from what `zone_to_file` wrote of it. A record set
that is steered stands in the file as a comment: no standard record says what it means.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain

from meridian_dns.lexing import LexError, Line, Word, lines
from meridian_dns.names import is_absolute, name_below, name_from_text, name_to_text
from meridian_dns.presentation import rdata_from_words, rdata_to_text, seconds_from_text
from meridian_dns.records import SECURITY_TYPES, SOA, TYPE_NAMES, TYPES, RRset
from meridian_dns.securing import sign_whole
from meridian_dns.zone import RecordSet, SteeredSet, Zone, ZoneError
from meridian_dns.zone_building import Forgive, assemble_zone

FILE_BYTES_MAX = 64 * 1024 * 1024  # above a million records; a larger file is hardly meant for this server

_CLASSES = ("IN", "CH", "HS", "CS")


def zone_from_file(text: str, origin: str, forgive: Forgive | None = None) -> Zone:
    """Builds the zone of a file that brings its own SOA and NS. Raises ZoneError that names the line.

    With `forgive`, what is wrong with a single record is told to it, and the record left out.
    """
    try:
        apex = name_from_text(origin)
    except ValueError as error:
        raise ZoneError(f"zone {origin}", str(error), "correct the name") from None
    return assemble_zone(apex, read_records(text, apex, forgive=forgive), forgive=forgive)


def read_records(
    text: str, origin: bytes, title: str = "", forgive: Forgive | None = None
) -> Iterator[tuple[RRset, str]]:
    """Reads a file's records in order, each alone in its set and with its place ("line 7"). Raises ZoneError, or tells
    `forgive` and goes on with the next line. `title` is what errors call the file, by default the zone.
    """
    reader = _Reader(origin)
    title = title or f"zone {name_to_text(origin)}"
    if len(text) > FILE_BYTES_MAX:
        raise ZoneError(title, f"more than {FILE_BYTES_MAX} bytes", "split the zone")
    try:
        for line in lines(text):
            try:
                records = reader.read(line)
            except ValueError as error:
                at = reader.at
                wrong = ZoneError(f"{title}, line {at.line}, column {at.column}", str(error), "correct the line")
                if forgive is None:
                    raise wrong from None
                forgive(wrong)
                continue
            if records is not None:
                yield records, f"line {line.number}"
    except LexError as error:
        place = f"{title}, line {error.line}, column {error.column}"
        raise ZoneError(place, str(error), "correct the line") from None


def origin_of(text: str) -> str | None:
    """The origin that a file says itself, absolute: that of $ORIGIN, or of its SOA's owner; None if it says none."""
    with suppress(LexError):
        for line in lines(text):
            words = [word.text for word in line.words]
            if words[0].upper() == "$ORIGIN" and len(words) == 2 and is_absolute(words[1]):
                return words[1]
            if "SOA" in map(str.upper, words[1:5]) and not line.is_indented:
                return words[0] if is_absolute(words[0]) else None
    return None


def zone_to_file(zone: Zone, *, signed: bool = False) -> str:
    """Writes all record sets, SOA first, names absolute, one record on a line.

    `signed`: with keys, signatures and NSEC records, as another server could serve it; the steered sets are then no
    part of it. Without it a signed zone is written as if it were not, so that it can be read back.
    """
    out = [f"$ORIGIN {name_to_text(zone.origin)}"]
    sets: Iterable[RecordSet] = (records for here in zone.names.values() for records in here.values())
    if signed:
        sets = chain(sign_whole(zone), (records for records in sets if isinstance(records, SteeredSet)))
    else:
        sets = (records for records in sets if records.type not in SECURITY_TYPES.values())
    for records in sorted(sets, key=lambda records: (records.owner != zone.origin, records.type != SOA)):
        head = f"{name_to_text(records.owner)} {records.ttl_seconds} IN {TYPE_NAMES[records.type]}"
        if isinstance(records, SteeredSet):
            out.append(f"; {head} is steered: {records.steer.policy} {' '.join(records.steer.regions) or 'everywhere'}")
        else:
            out += [f"{head} {rdata_to_text(records.type, rdata)}" for rdata in records.rdatas]
    return "\n".join(out) + "\n"


@dataclass(slots=True)
class _Reader:
    """What earlier lines leave for later ones."""

    origin: bytes
    owner: bytes | None = None
    default_ttl_seconds: int | None = None
    last_ttl_seconds: int | None = None
    at: Word = field(default_factory=lambda: Word(""))

    def read(self, line: Line) -> RRset | None:
        """One entry; None if it was a directive. Raises ValueError; `at` is then the word at fault."""
        words = deque(line.words)
        self.at = first = words[0]
        if first.text.startswith("$") and not line.is_indented and not first.is_quoted:
            self._direct(first.text.upper(), [word.text for word in line.words[1:]])
            return None
        if not line.is_indented:
            self.owner = name_below(words.popleft().text, self.origin)
        if self.owner is None:
            raise ValueError("the first record names no owner")
        ttl_seconds, is_classed = None, False
        while words:
            self.at = words.popleft()
            word = self.at.text.upper()
            seconds = seconds_from_text(word)
            if word in _CLASSES and not is_classed:
                if word != "IN":
                    raise ValueError(f"class {word}: only IN is served")
                is_classed = True
            elif seconds is not None and ttl_seconds is None:
                ttl_seconds = seconds
            else:
                break
        else:
            raise ValueError("a record without a type")
        type_ = TYPES.get(word)
        if type_ is None:
            raise ValueError(f"unknown type {word!r}: known are {', '.join(TYPES)}")
        try:
            rdata = rdata_from_words(type_, words, lambda text: name_below(text, self.origin))
        except ValueError as error:
            self.at = line.words[-len(words) - 1]
            raise ValueError(f"{word}: {error}") from None
        return RRset(self.owner, type_, self._ttl(ttl_seconds, type_, rdata), (rdata,))

    def _direct(self, directive: str, words: list[str]) -> None:
        if directive not in ("$ORIGIN", "$TTL"):
            raise ValueError(f"{directive} is not known: write out what it would bring in")
        if len(words) != 1:
            raise ValueError(f"{directive} takes one word")
        if directive == "$ORIGIN":
            self.origin = name_below(words[0], self.origin)
            return
        self.default_ttl_seconds = seconds_from_text(words[0])
        if self.default_ttl_seconds is None:
            raise ValueError(f"$TTL {words[0]!r} is no time: write seconds, or 1h30m")

    def _ttl(self, own_seconds: int | None, type_: int, rdata: bytes) -> int:
        """The record's own, else $TTL, else the one before (RFC 1035), else for the SOA its negative TTL (RFC 1035)."""
        if own_seconds is not None:
            self.last_ttl_seconds = own_seconds
            return own_seconds
        if self.default_ttl_seconds is not None:
            return self.default_ttl_seconds
        if self.last_ttl_seconds is None and type_ == SOA:
            self.last_ttl_seconds = int.from_bytes(rdata[-4:], "big")
        if self.last_ttl_seconds is None:
            raise ValueError("no TTL here, and none before: begin the file with $TTL")
        return self.last_ttl_seconds
