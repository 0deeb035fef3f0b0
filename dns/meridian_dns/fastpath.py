"""The common question, answered from bytes: one IN question, at most an OPT, no message object in between.

What a question asks is planned once (`policy.make_plan`), and each distinct answer is encoded once, as the bytes that
stand behind the question; a reply is then joined from slices. Everything is keyed so that equal keys mean equal
answers: the question's canonical bytes; then the order of regions that the client gets; then the draw modulo the
number of draws that matter.

Invariants: `respond` gives exactly the bytes of the full path, or None ("not mine"); a FastPath belongs to one
Holdings and is dropped whole with it, so nothing in it can be stale; its tables are bounded and emptied when full.
Names that do not exist are not kept: a flood of random ones would push out the useful ones.
"""

import struct
from dataclasses import dataclass, field

from meridian_dns.message import (
    AA,
    CD,
    DO,
    ECS_OPTION,
    OPT_RECORD,
    PAIR,
    PAYLOAD_BYTES_MIN,
    QR,
    RD,
    STREAM_BYTES_MAX,
    ClientSubnet,
    encode_sections,
    subnet_is_valid,
)
from meridian_dns.names import NAME_BYTES_MAX
from meridian_dns.nearness import Client, order_regions
from meridian_dns.policy import Plan, Question, fill, make_plan
from meridian_dns.records import CLASS_IN, OPT
from meridian_dns.responder import META_TYPES, Holdings, locate, tally_of

ENTRIES_MAX = 20_000  # questions; about 1 KB each with their answers
WIRES_MAX = 50_000  # encoded answers over all questions; about 500 bytes each
CLIENTS_MAX = 50_000  # clients located, for each set of regions; about 200 bytes each
ANYBODY = Client("0.0.0.0", None, None, None)  # stands in where no client can make a difference
COUNTS = struct.Struct("!HHHHH")  # the header behind the id

_ONE_QUESTION = b"\0\1\0\0\0\0\0"  # counts of questions, answers, authorities, and the high byte of additionals
_HIDDEN = (b"\0\0\0\0", b"\0\1\0\0", b"\0\2\0\0")  # client subnets that show nothing: any family, no bits
_SUBNET_HEAD = struct.Struct("!HHH")  # length of the options, code, length of the one option


@dataclass(frozen=True, slots=True)
class _Wire:
    """One encoded answer. `heads`: flags and counts, by the bits RD (1), CD (2) and "has OPT" (4) of the query."""

    heads: tuple[bytes, ...]
    body: bytes
    scoped: bool
    tally: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Place:
    """What locating one client came to. Clients of equal order number get equal answers, but for the scope."""

    client: Client | None
    order: int
    scope: int


@dataclass(slots=True)
class _Group:
    """The clients of one set of regions; `regions` is None for answers that no client can change."""

    regions: tuple[str, ...] | None
    places: dict[bytes | str, _Place] = field(default_factory=dict)
    orders: dict[tuple[tuple[str, ...], bool], int] = field(default_factory=dict)


@dataclass(slots=True)
class _Entry:
    question: Question
    plan: Plan
    group: _Group
    draws: int
    wires: dict[int, _Wire] = field(default_factory=dict)


class FastPath:
    """Answers the common question from precompiled bytes; see the module's head for what it promises."""

    def __init__(
        self,
        holdings: Holdings,
        tallies: dict[tuple[int, int], int],
        payload_bytes: int,
        *,
        entries_max: int = ENTRIES_MAX,
        wires_max: int = WIRES_MAX,
        clients_max: int = CLIENTS_MAX,
    ) -> None:
        """`tallies` counts answers by (type, rcode), missing keys are 0; `payload_bytes` is our largest datagram."""
        self._entries_max, self._wires_max, self._clients_max = entries_max, wires_max, clients_max
        self.holdings = holdings
        self._tallies = tallies
        self._payload_bytes = payload_bytes
        self._opts = {flags: OPT_RECORD.pack(0, OPT, payload_bytes, 0, 0, flags, 0) for flags in (0, DO)}
        self._entries: dict[bytes, _Entry] = {}
        self._groups: dict[tuple[str, ...] | None, _Group] = {}
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
        behind = end + 5
        key = data[12:end].lower() + data[end:behind]
        entry = self._entries.get(key) or self._learn(key)
        if entry is None:
            return None
        bytes_max = PAYLOAD_BYTES_MIN if datagram else STREAM_BYTES_MAX
        head = data[2] | (data[3] & CD) >> 3
        subnet = opt = b""
        if data[11]:
            if data[11] != 1 or len(data) < behind + 11:
                return None
            root, type_, size, _, version, flags, options_bytes = OPT_RECORD.unpack_from(data, behind)
            if root or type_ != OPT or version or len(data) != behind + 11 + options_bytes:
                return None
            if options_bytes:
                found = _find_subnet(data, behind + 11)
                if found is None:
                    return None
                subnet = found
            head |= 4
            opt = self._opts[flags & DO]
            if datagram and size > PAYLOAD_BYTES_MIN:
                bytes_max = size if size < self._payload_bytes else self._payload_bytes
        elif len(data) != behind:
            return None
        group = entry.group
        if subnet and subnet[2]:
            place = group.places.get(subnet) or self._locate(group, subnet, source, subnet)
        elif subnet and subnet not in _HIDDEN:
            return None
        else:
            who = source if group.regions is not None else ""
            place = group.places.get(who) or self._locate(group, who, source, b"")
        if place is None:
            return None
        variant = place.order * entry.draws + draw % entry.draws
        wire = entry.wires.get(variant) or self._encode(entry, place, draw, variant)
        if subnet:
            scope = place.scope if wire.scoped and subnet[2] else 0
            options = _SUBNET_HEAD.pack(len(subnet) + 4, ECS_OPTION, len(subnet)) + subnet[:3]
            opt = b"%b%b%c%b" % (opt[:-2], options, scope, subnet[4:])
        reply = data[:2] + wire.heads[head] + data[12:behind] + wire.body + opt
        if len(reply) > bytes_max:
            return None
        self._tallies[wire.tally] += 1
        return reply

    def _learn(self, key: bytes) -> _Entry | None:
        """Plans the question whose canonical bytes are `key`; None if it is not a question for this path."""
        at = 0
        while at < len(key) and key[at]:
            at += key[at] + 1
        if at != len(key) - 5 or at >= NAME_BYTES_MAX:
            return None
        type_, class_ = PAIR.unpack_from(key, at + 1)
        question = Question(key[: at + 1], type_, class_)
        zone = self.holdings.zones.find(question.name)
        if zone is None or class_ != CLASS_IN or type_ in META_TYPES or type_ == OPT or question.name not in zone.names:
            return None
        plan = make_plan(zone, question)
        if len(plan.steers) > 1:
            return None
        regions = next(iter(plan.steers), None)
        group = self._groups.setdefault(regions, _Group(regions))
        draws = fill(plan, self.holdings.view, ANYBODY, 0).draws
        if len(self._entries) >= self._entries_max:
            self._forget()
        entry = self._entries[key] = _Entry(question, plan, group, draws)
        return entry

    def _locate(self, group: _Group, who: bytes | str, source: str, subnet: bytes) -> _Place | None:
        """Finds the client's order of regions and keeps it under `who`; None if its subnet is malformed."""
        if subnet and not subnet_is_valid(subnet):
            return None
        if group.regions is None:
            place = _Place(None, 0, 0)
        else:
            holdings = self.holdings
            client = locate(holdings.geo, source, ClientSubnet(subnet).network if subnet else None)
            order, scope = order_regions(holdings.view, group.regions, client)
            place = _Place(client, group.orders.setdefault((order, scope > 0), len(group.orders)), scope)
        if len(group.places) >= self._clients_max:
            group.places.clear()
        group.places[who] = place
        return place

    def _encode(self, entry: _Entry, place: _Place, draw: int, variant: int) -> _Wire:
        answer = fill(entry.plan, self.holdings.view, place.client or ANYBODY, draw)
        (answers, authorities, additionals), body = encode_sections(entry.question.name, answer)
        flags = QR | (AA if answer.authoritative else 0) | answer.rcode
        heads = tuple(
            COUNTS.pack(flags | (RD if bits & 1 else 0) | (CD if bits & 2 else 0), 1, answers, authorities, records)
            for bits in range(8)
            for records in (additionals + (bits >> 2),)
        )
        wire = _Wire(heads, body, answer.scope > 0, tally_of(entry.question, answer.rcode))
        if self._wires >= self._wires_max:
            self._forget()
        self._wires += 1
        entry.wires[variant] = wire
        return wire

    def _forget(self) -> None:
        """Empties all tables at once: simpler than choosing, and a full table means that they are not what is asked."""
        self._entries.clear()
        self._groups.clear()
        self._wires = 0


def _find_subnet(data: bytes, at: int) -> bytes | None:
    """The client subnet's payload among the options from `at` to the end (empty: none); None if they are malformed."""
    subnet, size = b"", len(data)
    while at < size:
        if at + 4 > size:
            return None
        code, length = PAIR.unpack_from(data, at)
        at += 4 + length
        if at > size:
            return None
        if code == ECS_OPTION:
            if subnet or length < 4:
                return None
            subnet = data[at - length : at]
    return subnet
