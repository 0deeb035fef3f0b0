"""DNS messages: bytes to a Query, an Answer to bytes. Strict, in one pass, and written out by hand.

No library stands behind it. dnslib takes label lengths of 64 to 191 for labels, recurses once for each compression
pointer (a TCP query full of them is a RecursionError), writes pointers beyond offset 16383 that name another place, and
drops an empty last EDNS option unseen. dnspython, in the tests, reads all that this file writes.

Invariants: `parse` raises nothing for any bytes; what it cannot answer it drops (no header, or a response, else two
servers could talk forever), what it can name it names by rcode. `encode` never exceeds the size asked: it leaves away
what is optional, then says TC.
"""

import struct
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import ip_network

from meridian_dns.edns import EXTENDED_ERROR, PADDING, SUBNET, Asked, read_options
from meridian_dns.names import NAME_BYTES_MAX, ROOT, ancestors
from meridian_dns.policy import Answer, ExtendedError, Question
from meridian_dns.records import BADVERS, CNAME, FORMERR, MX, NOERROR, NOTIMP, NS, NXDOMAIN, OPT, PTR, SOA, TSIG, RRset
from meridian_dns.view import Network

HEADER = struct.Struct("!HHHHHH")
RR_HEAD = struct.Struct("!HHIH")  # type, class, TTL, length of the data
OPT_RECORD = struct.Struct(
    "!BHHBBHH"
)  # root, type, payload size, extended rcode, version, flags, length of the options
PAIR = struct.Struct("!HH")

QR, AA, TC, RD, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0010
DO, CO = 0x8000, 0x4000  # of the OPT record: RFC 3225, RFC 9824 section 5
FAMILY_BITS = {1: 32, 2: 128}  # RFC 7871 section 6: address family numbers
PAYLOAD_BYTES_MIN = 512  # RFC 6891 section 6.2.3: smaller means 512
STREAM_BYTES_MAX = 65535  # the length prefix of TCP (RFC 1035 section 4.2.2)
RECORDS_MAX = 8  # a query carries OPT, TSIG or SIG(0), for IXFR one SOA; more is an attack on the parser's time
POINTER_OFFSET_MAX = 0x3FFF
PADDING_BLOCK_BYTES = 468  # RFC 8467 section 4.1, for responses


@dataclass(frozen=True, slots=True)
class ClientSubnet:
    """EDNS client subnet as it was sent: `payload` starts with family and source prefix length (RFC 7871 section 6)."""

    payload: bytes

    @classmethod
    def of(cls, network: Network) -> "ClientSubnet":
        """As a resolver would pass `network` on."""
        shown = network[0].packed[: (network.prefixlen + 7) // 8]
        return cls(bytes((0, 1 if network.version == 4 else 2, network.prefixlen, 0)) + shown)

    @property
    def source_prefix(self) -> int:
        """How many bits of its address the client shows; 0: it wishes to show none."""
        return self.payload[2]

    @property
    def network(self) -> Network | None:
        """The client's network; None if it shows none."""
        if not self.source_prefix:
            return None
        size = FAMILY_BITS[self.payload[1]] // 8
        return ip_network((self.payload[4:].ljust(size, b"\0"), self.source_prefix))


@dataclass(frozen=True, slots=True)
class Edns:
    """The client's OPT record: the largest datagram it takes, the DO bit, its subnet, what it asks for, the CO bit."""

    payload_bytes: int
    dnssec_ok: bool
    subnet: ClientSubnet | None
    asked: Asked | None = None
    compact_ok: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed query. `rcode` other than NOERROR: it can only be refused so.

    `question` is in canonical form, `asked` its wire bytes as they came (case, type and class included); None and
    empty if they could not be read. `signed_at`: where its TSIG record begins, 0 if it has none.
    """

    id: int
    flags: int
    rcode: int
    question: Question | None = None
    asked: bytes = b""
    edns: Edns | None = None
    signed_at: int = 0


class _Malformed(ValueError):
    """The message breaks the format; becomes FORMERR."""


def parse(data: bytes) -> Query | None:
    """Reads one query; None means: do not answer. Never raises (RFC 1035, RFC 6891, RFC 7871, RFC 9619)."""
    if len(data) < HEADER.size:
        return None
    id_, flags, questions, *record_counts = HEADER.unpack_from(data)
    if flags & QR:
        return None
    query = Query(id_, flags, NOERROR)
    is_other = bool(flags & 0x7800)  # UPDATE, NOTIFY...: where it looks like a query its OPT is read, to say why not
    if questions != 1:
        return replace(query, rcode=NOTIMP if is_other else FORMERR)
    try:
        name, at = _read_name(data, HEADER.size)
        type_, class_ = PAIR.unpack_from(data, at)
        at += PAIR.size
        query = replace(query, question=Question(name.lower(), type_, class_), asked=data[HEADER.size : at])
        edns, version, signed_at = _read_records(data, at, record_counts)
    except (_Malformed, struct.error, IndexError):
        return Query(id_, flags, NOTIMP) if is_other else replace(query, rcode=FORMERR)
    if is_other:
        return Query(id_, flags, NOTIMP, edns=edns)
    query = replace(query, edns=edns, signed_at=signed_at)
    if version:
        return replace(query, rcode=BADVERS)
    return replace(query, rcode=FORMERR) if type_ == OPT else query


def padded(reply: bytes) -> bytes:
    """A response with its OPT filled up, so that its length tells an eavesdropper little (RFC 7830, RFC 8467).

    For encrypted transports only. A response without OPT, or signed behind it, stays as it is.
    """
    _, _, questions, *counts = HEADER.unpack_from(reply)
    at = HEADER.size
    for _ in range(questions):
        at = _skip_name(reply, at) + PAIR.size
    type_, end = 0, at
    for _ in range(sum(counts)):
        at = _skip_name(reply, end)
        type_, _, _, length = RR_HEAD.unpack_from(reply, at)
        end = at + RR_HEAD.size + length
    filler = -(len(reply) + PAIR.size) % PADDING_BLOCK_BYTES
    if type_ != OPT or len(reply) + PAIR.size + filler > STREAM_BYTES_MAX:
        return reply
    length = (len(reply) - at - RR_HEAD.size + PAIR.size + filler).to_bytes(2, "big")
    head = at + RR_HEAD.size
    return reply[: head - 2] + length + reply[head:] + PAIR.pack(PADDING, filler) + bytes(filler)


def freshness_seconds(reply: bytes) -> int:
    """How long a response of ours may be kept, by its records alone (RFC 8484 section 5.1): the shortest TTL of its
    answers, of a negative answer that of its SOA (which is that of negative answers, RFC 2308), of others 0."""
    _, flags, questions, answers, authorities, _ = HEADER.unpack_from(reply)
    at = HEADER.size
    for _ in range(questions):
        at = _skip_name(reply, at) + PAIR.size
    answered: list[int] = []
    negative = 0
    for index in range(answers + authorities):
        at = _skip_name(reply, at)
        type_, _, ttl, length = RR_HEAD.unpack_from(reply, at)
        at += RR_HEAD.size + length
        if index < answers:
            answered.append(ttl)
        elif type_ == SOA:
            negative = ttl
    if flags & 0xF not in (NOERROR, NXDOMAIN) or flags & TC:
        return 0
    return min(answered, default=negative)


def find_signature(data: bytes) -> int | None:
    """Where the TSIG record of a response begins, if it ends with one. `parse` finds that of a query by itself."""
    try:
        _, _, questions, *counts = HEADER.unpack_from(data)
        at = HEADER.size
        for _ in range(questions):
            at = _skip_name(data, at) + PAIR.size
        return _read_records(data, at, counts)[2] or None
    except (_Malformed, struct.error, IndexError):
        return None


def serial_held(data: bytes, query: Query) -> int | None:
    """The serial of the SOA that an IXFR query brings in its authority section (RFC 1995 section 3); None without it.

    `query` is what `parse` made of `data`, so its records are known to lie within the message.
    """
    answers, authorities = PAIR.unpack_from(data, 6)
    if answers or authorities != 1:
        return None
    at = _skip_name(data, HEADER.size + len(query.asked))
    type_, _, _, length = RR_HEAD.unpack_from(data, at)
    end = at + RR_HEAD.size + length
    return int.from_bytes(data[end - 20 : end - 16], "big") if type_ == SOA and length >= 22 else None


def subnet_is_valid(payload: bytes) -> bool:
    """Whether a client subnet option obeys RFC 7871 section 7.1.2: no scope, no address bits missing or to spare."""
    if len(payload) < 4:
        return False
    family, source, scope = payload[0] << 8 | payload[1], payload[2], payload[3]
    if scope or source > FAMILY_BITS.get(family, 0) or (source == 0 and family > 2):
        return False
    address = payload[4:]
    if len(address) != (source + 7) // 8:
        return False
    return source % 8 == 0 or not address[-1] & (0xFF >> source % 8)


def encode(query: Query, answer: Answer, *, bytes_max: int, payload_bytes: int, given: bytes = b"") -> bytes:
    """Writes the response, at most `bytes_max` long; `payload_bytes` is the datagram size that we announce.

    `given`: the EDNS options that the client asked for, in wire form; without its OPT they are not sent.

    If it does not fit, additional records go first, but for a delegation's glue (RFC 9471); then all, with TC set
    (RFC 2181 section 9).
    """
    name = query.question.name if query.question is not None else ROOT
    opt = encode_opt(query.edns, answer, payload_bytes, given) if query.edns is not None else b""
    flags = QR | query.flags & (0x7800 | RD | CD) | answer.rcode & 0xF | (AA if answer.authoritative else 0)
    counts, body = encode_sections(name, answer)
    size = HEADER.size + len(query.asked) + len(opt)
    if size + len(body) > bytes_max and answer.additional and answer.answer:
        counts, body = encode_sections(name, replace(answer, additional=()))
    if size + len(body) > bytes_max:
        counts, body, flags = (0, 0, 0), b"", flags | TC
    answers, authorities, additionals = counts
    questions = 1 if query.asked else 0
    header = HEADER.pack(query.id, flags, questions, answers, authorities, additionals + (1 if opt else 0))
    return header + query.asked + body + opt


def encode_sections(name: bytes, answer: Answer) -> tuple[tuple[int, int, int], bytes]:
    """Writes the three sections as they stand behind a question for `name`; returns their record counts and bytes.

    Names that the question has are compressed into it, so the asker sees its own spelling (0x20).
    """
    base = HEADER.size + len(name) + PAIR.size
    out = bytearray()
    seen: dict[bytes, int] = {}
    at = HEADER.size
    for ancestor in ancestors(name):
        seen[ancestor] = at
        at += ancestor[0] + 1
    counts = []
    for section in (answer.answer, answer.authority, answer.additional):
        counts.append(sum(len(records.rdatas) for records in section))
        for records in section:
            _write_set(out, base, seen, records)
    return (counts[0], counts[1], counts[2]), bytes(out)


def encode_opt(edns: Edns, answer: Answer, payload_bytes: int, given: bytes) -> bytes:
    """Our OPT record: extended rcode, version 0, DO as asked (RFC 3225), the subnet with its scope, the rest."""
    options = b""
    if edns.subnet is not None:
        scope = min(answer.scope, FAMILY_BITS.get(edns.subnet.payload[1], 0)) if edns.subnet.source_prefix else 0
        payload = edns.subnet.payload[:3] + bytes((scope,)) + edns.subnet.payload[4:]
        options = PAIR.pack(SUBNET, len(payload)) + payload
    options += encode_error(answer.extended_error) + given
    flags = (DO if edns.dnssec_ok else 0) | (CO if answer.compact_ok else 0)
    return OPT_RECORD.pack(0, OPT, payload_bytes, answer.rcode >> 4, 0, flags, len(options)) + options


def encode_error(error: ExtendedError | None) -> bytes:
    """The option that says why (RFC 8914 section 2); nothing if there is nothing to say."""
    if error is None:
        return b""
    payload = error.code.to_bytes(2, "big") + error.text.encode()
    return PAIR.pack(EXTENDED_ERROR, len(payload)) + payload


def datagram_bytes_max(edns: Edns | None, payload_bytes: int) -> int:
    """How long a UDP response may be: what the client takes, within 512 and our own limit (RFC 9715)."""
    return PAYLOAD_BYTES_MIN if edns is None else max(PAYLOAD_BYTES_MIN, min(edns.payload_bytes, payload_bytes))


def _read_name(data: bytes, at: int) -> tuple[bytes, int]:
    """The name of the question: nothing stands before it that a pointer could mean, so it has none."""
    start = at
    while length := data[at]:
        if length > 63:
            raise _Malformed("a label of more than 63 bytes, or a pointer")
        at += length + 1
        if at - start >= NAME_BYTES_MAX:
            raise _Malformed("a long name")
    return data[start : at + 1], at + 1


def _skip_name(data: bytes, at: int) -> int:
    while length := data[at]:
        if length >= 0xC0:
            return at + 2
        if length > 63:
            raise _Malformed("an unknown kind of label")
        at += length + 1
    return at + 1


def _read_records(data: bytes, at: int, counts: list[int]) -> tuple[Edns | None, int, int]:
    """Walks over all records, to the last byte; returns what OPT said, its version and where TSIG is (0: nowhere)."""
    if sum(counts) > RECORDS_MAX:
        raise _Malformed("too many records")
    edns, version, signed_at = None, 0, 0
    for index in range(sum(counts)):
        owner, start = data[at], at
        at = _skip_name(data, at)
        type_, class_, ttl, length = RR_HEAD.unpack_from(data, at)
        at += RR_HEAD.size
        if at + length > len(data):
            raise _Malformed("a record is cut")
        if type_ == OPT and index >= counts[0] + counts[1]:
            if edns is not None or owner:
                raise _Malformed("a second OPT, or one that is not at the root (RFC 6891 section 6.1.1)")
            version = ttl >> 16 & 0xFF
            subnet, asked = (None, None) if version else _read_options(data, at, at + length)
            edns = Edns(class_, bool(ttl & DO), subnet, asked, bool(ttl & CO))
        elif type_ == TSIG:
            if index != sum(counts) - 1 or not counts[2]:
                raise _Malformed("a TSIG that is not the last record (RFC 8945 section 5.1)")
            signed_at = start
        at += length
    if at != len(data):
        raise _Malformed("bytes behind the last record")
    return edns, version, signed_at


def _read_options(data: bytes, at: int, end: int) -> tuple[ClientSubnet | None, Asked | None]:
    found = read_options(data, at, end)
    if found is None or (found[0] and not subnet_is_valid(found[0])):
        raise _Malformed("options")
    subnet, asked = found
    return ClientSubnet(subnet) if subnet else None, asked


def compressible(type_: int, rdata: bytes) -> tuple[bytes, ...]:
    """The names in record data that may be compressed (RFC 3597 section 4: those of RFC 1035's types)."""
    if type_ in (NS, CNAME, PTR):
        return (rdata,)
    if type_ == MX:
        return (rdata[2:],)
    return _soa_names(rdata) if type_ == SOA else ()


def _write_set(out: bytearray, base: int, seen: dict[bytes, int], records: RRset) -> None:
    for rdata in records.rdatas:
        write_record(out, base, seen, records, rdata)


def write_record(out: bytearray, base: int, seen: dict[bytes, int], records: RRset, rdata: bytes) -> None:
    """Appends one record of a set. `out` begins at `base` of its message; `seen`: where names stand in the message."""
    _write_name(out, base, seen, records.owner)
    out += RR_HEAD.pack(records.type, 1, records.ttl_seconds, len(rdata))
    start = len(out)
    names = compressible(records.type, rdata)
    at = 2 if records.type == MX else 0
    out += rdata[:at]
    for name in names:
        _write_name(out, base, seen, name)
        at += len(name)
    out += rdata[at:]
    out[start - 2 : start] = (len(out) - start).to_bytes(2, "big")


@lru_cache(maxsize=1024)  # one for each zone that is asked for missing names
def _soa_names(rdata: bytes) -> tuple[bytes, bytes]:
    primary, at = _read_name(rdata, 0)
    return primary, _read_name(rdata, at)[0]


def _write_name(out: bytearray, base: int, seen: dict[bytes, int], name: bytes) -> None:
    """Appends `name`, its longest suffix that was written before as a pointer (RFC 1035 section 4.1.4)."""
    while name[0]:
        at = seen.get(name)
        if at is not None:
            out += (0xC000 | at).to_bytes(2, "big")
            return
        if base + len(out) <= POINTER_OFFSET_MAX:
            seen[name] = base + len(out)
        length = name[0] + 1
        out += name[:length]
        name = name[length:]
    out.append(0)
