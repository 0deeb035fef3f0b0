"""The common question, answered from bytes: one IN question, at most an OPT, no message object in between.

What a question asks is planned once (`policy.make_plan`), and each distinct answer is encoded once, as the bytes that
stand behind the question; a reply is then joined from slices. Everything is keyed so that equal keys mean equal
answers: the question's canonical bytes; then the order of regions that the client gets; then the draw modulo the
number of draws that matter.

A name that does not exist is not kept: a flood of random ones would push out the useful ones. Its answer depends on the
name only by its length and by how much of it the records repeat, since that is what compression looks at; so such
answers are kept by their shape, and one stands for all names of it. The same goes for names under a wildcard, for types
that no zone holds, and for names of other zones. In a signed zone this is so for clients that do not ask for
signatures (DO) only: a proof names the name.

Invariants: `respond` gives exactly the bytes of the full path, or None ("not mine"); a FastPath belongs to one
Holdings and is dropped whole with it, so nothing in it can be stale; its tables are bounded and emptied when full.
"""

import struct
from dataclasses import dataclass, field, replace
from functools import lru_cache

from meridian_dns.choosing import order_for, placing
from meridian_dns.edns import SUBNET, Asked, ServerOptions, read_options
from meridian_dns.message import (
    AA,
    CD,
    CO,
    DO,
    OPT_RECORD,
    PAIR,
    PAYLOAD_BYTES_MIN,
    QR,
    RD,
    STREAM_BYTES_MAX,
    ClientSubnet,
    compressible,
    encode_error,
    encode_sections,
    subnet_is_valid,
)
from meridian_dns.names import NAME_BYTES_MAX, ROOT, ancestors
from meridian_dns.nearness import Client
from meridian_dns.policy import (
    NOT_AUTHORITATIVE,
    NOT_SUPPORTED,
    Plan,
    Question,
    closest_encloser,
    fill,
    make_plan,
    refusal,
)
from meridian_dns.records import CLASS_IN, IXFR, NXNAME, OPT, RRset
from meridian_dns.responder import META_TYPES, Holdings, counted_type, locate
from meridian_dns.securing import EXPLICIT_TYPES, secure
from meridian_dns.signing import Signer
from meridian_dns.steering import Order, Steer
from meridian_dns.tally import Clerk, Tallies, Tally
from meridian_dns.zone import Zone

ENTRIES_MAX = 150_000  # questions; about 1 KB each with their answers
WIRES_MAX = 300_000  # encoded answers over all questions; about 500 bytes each
CLIENTS_MAX = 50_000  # clients located, for each set of regions; about 300 bytes each
HEADERS_MAX = 4096  # OPT records without their options; about 300 bytes each
SCOPE_AT = 7  # in the option of a client subnet: behind code, length, family and prefix length
ANYBODY = Client("0.0.0.0", None, None, None)  # stands in where no client can make a difference
COUNTS = struct.Struct("!HHHHH")  # the header behind the id

_ONE_QUESTION = b"\0\1\0\0\0\0\0"  # counts of questions, answers, authorities, and the high byte of additionals
_HIDDEN = (b"\0\0\0\0", b"\0\1\0\0", b"\0\2\0\0")  # client subnets that show nothing: any family, no bits
_LENGTH = struct.Struct("!H")

Shape = tuple[bytes, int, int, bytes]
"""Where an answer comes from, the type, the length of the name, and the part of it that the records repeat."""


@dataclass(frozen=True, slots=True)
class _Wire:
    """One encoded answer. `heads`: flags and counts, by the bits RD (1), CD (2) and "has OPT" (4) of the query."""

    heads: tuple[bytes, ...]
    body: bytes
    scoped: bool
    error: bytes
    """the option of an extended error, or nothing"""
    tally: Tally
    fresh_until: float
    """in seconds since 1970: when its signatures give way to the next ones"""


@dataclass(frozen=True, slots=True)
class _Place:
    """What locating one client came to. Clients of equal order number get equal answers, but for the scope.

    `scoped` and `unscoped` end the OPT record of its answers (length and options): with the subnet that it is known by.
    """

    client: Client | None
    order: int
    scoped: bytes
    unscoped: bytes


@dataclass(frozen=True, slots=True)
class _Header:
    """An OPT record that was read, up to its options. `reply`: how the answer's begins; `bytes_max`: of a datagram."""

    reply: bytes
    bytes_max: int
    options_bytes: int
    dnssec_ok: bool
    compact_ok: bool


@dataclass(slots=True)
class _Group:
    """The clients of one way to tell them apart; `steer` is None for answers that no client can change."""

    steer: Steer | None
    places: dict[bytes | str, _Place] = field(default_factory=dict)
    orders: dict[Order, int] = field(default_factory=dict)
    """numbered, whatever their scope, but for whether there is one"""


@dataclass(slots=True)
class _Entry:
    """`signer` and `zone`: what signs the answer, if anything does; `is_shared`: by all names of a shape. A variant's
    answer with signatures is kept under its complement."""

    question: Question
    plan: Plan
    group: _Group
    draws: int
    zone: Zone | None
    signer: Signer | None
    is_shared: bool
    wires: dict[int, _Wire] = field(default_factory=dict)


class FastPath:
    """Answers the common question from precompiled bytes; see the module's head for what it promises."""

    def __init__(
        self,
        holdings: Holdings,
        tallies: Tallies,
        payload_bytes: int,
        options: ServerOptions,
        *,
        entries_max: int = ENTRIES_MAX,
        wires_max: int = WIRES_MAX,
        clients_max: int = CLIENTS_MAX,
    ) -> None:
        """`tallies` count the answers; `payload_bytes` is our largest datagram."""
        self._entries_max, self._wires_max, self._clients_max = entries_max, wires_max, clients_max
        self.holdings = holdings
        self.clerk = Clerk(tallies, holdings)
        self.tally: Tally | None = None
        self._payload_bytes = payload_bytes
        self._headers: dict[bytes, _Header] = {}
        self._options = options
        self._entries: dict[bytes | Shape, _Entry] = {}
        self._repeated: dict[tuple[bytes, int], frozenset[bytes]] = {}
        self._groups: dict[Steer | None, _Group] = {}
        self._wires = 0

    def __len__(self) -> int:
        """How many questions are kept."""
        return len(self._entries)

    def respond(self, data: bytes, source: str, draw: int, *, datagram: bool) -> bytes | None:
        """The response to the query in `data`, or None for the full path. `source` is the sender's textual address."""
        if len(data) < 17 or data[2] & 0xFE or data[4:11] != _ONE_QUESTION:
            return None
        # The name ends at the first zero byte; where a label holds one, this is no name and finds no entry (_learn).
        end = data.find(0, 12)
        if end < 0:
            return None
        behind = end + 5
        key = data[12:end].lower() + data[end:behind]
        entry = self._entries.get(key) or self._learn(key)
        if entry is None:
            return None
        bytes_max = PAYLOAD_BYTES_MIN if datagram else STREAM_BYTES_MAX
        head = data[2] | (data[3] & CD) >> 3
        group = entry.group
        opt = subnet = hidden = b""
        asked: Asked | None = None
        place: _Place | None = None
        signer: Signer | None = None
        if data[11]:
            at = behind + OPT_RECORD.size
            if data[11] != 1 or len(data) < at:
                return None
            edns = self._headers.get(data[behind:at]) or self._read_header(data[behind:at])
            if edns is None or len(data) != at + edns.options_bytes:
                return None
            opt = edns.reply
            head |= 4
            if edns.dnssec_ok and entry.signer is not None:
                signer = entry.signer
                if entry.is_shared or edns.compact_ok:
                    return None
            if datagram:
                bytes_max = edns.bytes_max
            if edns.options_bytes:
                # Most resolvers send one option, a client subnet that they have sent before: then its place is known.
                place = group.places.get(data[at:])
                if place is None:
                    found = read_options(data, at, len(data))
                    if found is None:
                        return None
                    subnet, asked = found
        elif len(data) != behind:
            return None
        if place is None:
            if subnet and not subnet[2]:
                if subnet not in _HIDDEN:
                    return None
                subnet, hidden = b"", _subnet_option(subnet)
            place = self._place(group, source, subnet)
            if place is None:
                return None
        variant = place.order * entry.draws + draw % entry.draws
        if signer is None:
            wire = entry.wires.get(variant) or self._encode(entry, place, draw, variant)
        else:
            wire = entry.wires.get(~variant) or self._encode(entry, place, draw, ~variant)
            if wire.fresh_until <= signer.signatures.wall_clock():
                wire = self._encode(entry, place, draw, ~variant)
        if not opt:
            options = b""
        else:
            options = place.scoped if wire.scoped else place.unscoped
            if hidden or wire.error or asked is not None:
                given = self._options.give(asked, source, datagram=datagram) if asked is not None else b""
                options = _counted(options[_LENGTH.size :] + hidden + wire.error + given)
        reply = b"".join((data[:2], wire.heads[head], data[12:behind], wire.body, opt, options))
        if len(reply) > bytes_max:
            return None
        tally = self.tally = wire.tally
        tally.answers += 1
        return reply

    def _read_header(self, record: bytes) -> _Header | None:
        """What an OPT record says before its options; kept, because few differ. None if it is none of ours."""
        root, type_, size, _, version, flags, options_bytes = OPT_RECORD.unpack(record)
        if root or type_ != OPT or version:
            return None
        reply = OPT_RECORD.pack(0, OPT, self._payload_bytes, 0, 0, flags & DO, 0)[: -_LENGTH.size]
        bytes_max = max(PAYLOAD_BYTES_MIN, min(size, self._payload_bytes))
        if len(self._headers) >= HEADERS_MAX:
            self._headers.clear()
        header = _Header(reply, bytes_max, options_bytes, bool(flags & DO), bool(flags & CO))
        self._headers[record] = header
        return header

    def _learn(self, key: bytes) -> _Entry | None:
        """Plans the question whose canonical bytes are `key`; None if it is not a question for this path."""
        at = 0
        while at < len(key) and key[at]:
            at += key[at] + 1
        if at != len(key) - 5 or at >= NAME_BYTES_MAX:
            return None
        type_, class_ = PAIR.unpack_from(key, at + 1)
        if type_ in (OPT, IXFR):  # IXFR: a transfer is no question of the zone's data, see `transfer`
            return None
        question = Question(key[: at + 1], type_, class_)
        counted = counted_type(type_)
        if class_ != CLASS_IN or type_ in META_TYPES:
            return self._shaped((b"", counted, NOT_SUPPORTED.code, b""), question, None)
        zone = self.holdings.zones.find_for(question.name, type_)
        if zone is None:
            return self._shaped((b"", counted, NOT_AUTHORITATIVE.code, b""), question, None)
        if zone.signer is not None and (type_ in EXPLICIT_TYPES or type_ == NXNAME):
            return None
        if question.name not in zone.names:
            shape = self._shape_of(zone, question, counted)
            return None if shape is None else self._shaped(shape, question, zone)
        if not counted:
            return self._shaped((question.name, 0, 0, b""), question, zone)
        return self._keep(key, question, make_plan(zone, question), zone)

    def _shape_of(self, zone: Zone, question: Question, counted: int) -> Shape | None:
        """The shape of a question for a name that is not there; None if its answer is this name's alone."""
        name = question.name
        if zone.cut_above(name) is not None:
            return None
        wildcard = b"\1*" + closest_encloser(zone, name)
        origin = wildcard if wildcard in zone.names else zone.origin
        repeated = self._repeated.get((origin, counted))
        if repeated is None:
            repeated = _names_of(make_plan(zone, question), name)
            if name in repeated:
                return None
            self._repeated[origin, counted] = repeated
        for ancestor in ancestors(name):
            if ancestor in repeated:
                # The name itself among the records: an alias that leads back to it, or the SOA's own contact.
                return None if ancestor == name else (origin, counted, len(name), ancestor)
        raise AssertionError("every name is below the root")

    def _shaped(self, shape: Shape, question: Question, zone: Zone | None) -> _Entry | None:
        entry = self._entries.get(shape)
        if entry is not None:
            return entry
        if zone is not None:
            return self._keep(shape, question, make_plan(zone, question), zone, is_shared=shape[0] != question.name)
        error = NOT_SUPPORTED if shape[2] == NOT_SUPPORTED.code else NOT_AUTHORITATIVE
        return self._keep(shape, question, refusal(error), None)

    def _keep(
        self, key: bytes | Shape, question: Question, plan: Plan, zone: Zone | None, *, is_shared: bool = False
    ) -> _Entry | None:
        steers = {placing(records.steer, self.holdings.view) for records in plan.steered} - {None}
        if len(steers) > 1:
            return None
        steer = next(iter(steers), None)
        draws = fill(plan, self.holdings.view, ANYBODY, 0).draws
        if len(self._entries) >= self._entries_max:
            self._forget()
        group = self._groups.setdefault(steer, _Group(steer))
        signer = zone.signer if zone is not None else None
        entry = self._entries[key] = _Entry(question, plan, group, draws, zone, signer, is_shared)
        return entry

    def _place(self, group: _Group, source: str, subnet: bytes) -> _Place | None:
        """Finds the order of regions of the client at `source`, or in `subnet` if there is one, and keeps it; None if
        that is malformed.
        """
        option = _subnet_option(subnet) if subnet else b""
        who = option or (source if group.steer is not None else "")
        place = group.places.get(who)
        if place is not None:
            return place
        if subnet and not subnet_is_valid(subnet):
            return None
        client, number, scope = None, 0, 0
        if group.steer is not None:
            holdings = self.holdings
            client = locate(holdings.geo, source, ClientSubnet(subnet).network if subnet else None)
            order = order_for(group.steer, holdings.view, client)
            scope = order.scope
            same = replace(order, scope=scope > 0)
            number = group.orders.setdefault(same, len(group.orders))
        scoped = option and b"%b%c%b" % (option[:SCOPE_AT], scope, option[SCOPE_AT + 1 :])
        place = _Place(client, number, _counted(scoped), _counted(option))
        if len(group.places) >= self._clients_max:
            group.places.clear()
        group.places[who] = place
        return place

    def _encode(self, entry: _Entry, place: _Place, draw: int, variant: int) -> _Wire:
        answer = fill(entry.plan, self.holdings.view, place.client or ANYBODY, draw)
        if variant < 0 and entry.zone is not None:
            answer = secure(entry.zone, entry.question, answer, compact_ok=False)
        (answers, authorities, additionals), body = encode_sections(entry.question.name, answer)
        flags = QR | (AA if answer.authoritative else 0) | answer.rcode
        heads = _heads(flags, answers, authorities, additionals)
        error = encode_error(answer.extended_error)
        tally = self.clerk.tally_of(entry.question, answer)
        wire = _Wire(heads, body, answer.scope > 0, error, tally, answer.fresh_until)
        if self._wires >= self._wires_max:
            self._forget()
        self._wires += variant not in entry.wires
        entry.wires[variant] = wire
        return wire

    def _forget(self) -> None:
        """Empties all tables at once: simpler than choosing, and a full table means that they are not what is asked."""
        self._entries.clear()
        self._groups.clear()
        self._repeated.clear()
        self._wires = 0


def _subnet_option(subnet: bytes) -> bytes:
    return PAIR.pack(SUBNET, len(subnet)) + subnet


def _counted(options: bytes) -> bytes:
    """Options as an OPT record ends with them: behind their length."""
    return _LENGTH.pack(len(options)) + options


@lru_cache(maxsize=1024)  # few answers differ in these
def _heads(flags: int, answers: int, authorities: int, additionals: int) -> tuple[bytes, ...]:
    """See `_Wire`."""
    return tuple(
        COUNTS.pack(
            flags | (RD if bits & 1 else 0) | (CD if bits & 2 else 0),
            1,
            answers,
            authorities,
            additionals + (bits >> 2),
        )
        for bits in range(8)
    )


def _names_of(plan: Plan, asked: bytes) -> frozenset[bytes]:
    """The names that compression finds among the plan's records, with their ancestors; `asked` as an owner is none."""
    found: set[bytes] = {ROOT}
    for records in (*plan.answer, *plan.authority, *plan.additional, plan.negative_soa):
        if records is None:
            continue
        names = [records.owner] if records.owner != asked else []
        if isinstance(records, RRset):
            names += [name for rdata in records.rdatas for name in compressible(records.type, rdata)]
        found.update(ancestor for name in names for ancestor in ancestors(name))
    return frozenset(found)
