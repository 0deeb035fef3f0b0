"""From an answer to the same answer with signatures and proofs, for a client that asked for them (RFC 4035 section 3).

Invariant: to the record sets of the answer only RRSIG, NSEC and DS are added, each behind what it belongs to; what a
client without DO sees is never changed. With compact denial a missing name is answered NOERROR, unless the client says
that it knows better (RFC 9824 section 5).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from meridian_dns import denial
from meridian_dns.names import parent
from meridian_dns.policy import Answer, Question
from meridian_dns.records import CNAME, DS, NOERROR, NS, NSEC, NXDOMAIN, RRSIG, SERVFAIL, SOA, RRset
from meridian_dns.signing import Denial, Signer
from meridian_dns.zone import RecordSet, SteeredSet, Zone

EXPLICIT_TYPES = (NSEC, RRSIG)
"""Types that no zone holds and every signed one has: answered also to a client without DO."""


def secure(zone: Zone, question: Question, answer: Answer, *, compact_ok: bool) -> Answer:
    """Signs what `zone` answered to `question`. `compact_ok`: the client sent the CO bit."""
    assert zone.signer is not None
    if answer.rcode == SERVFAIL:
        return answer
    securing = _Securing(zone, zone.signer, question)
    explicit = securing.explicit(answer) if question.type in EXPLICIT_TYPES else None
    return explicit or securing.secure(answer, compact_ok)


def stripped(answer: Answer, type_: int) -> Answer:
    """The answer without the records that were added, but for those of the type that was asked."""

    def kept(section: Iterable[RRset]) -> tuple[RRset, ...]:
        return tuple(records for records in section if records.type == type_ or records.type not in EXPLICIT_TYPES)

    return replace(
        answer,
        answer=kept(answer.answer),
        authority=kept(answer.authority),
        additional=kept(answer.additional),
    )


class _Securing:
    """One answer being secured; `signed` are the record sets whose signatures it has."""

    def __init__(self, zone: Zone, signer: Signer, question: Question) -> None:
        self.zone, self.signer, self.question = zone, signer, question
        self.is_compact = signer.denial is Denial.COMPACT
        self.signed: list[RRset] = []

    def secure(self, answer: Answer, compact_ok: bool) -> Answer:
        positive, proofs = self._answered(answer.answer)
        authority: list[RRset] = []
        rcode = answer.rcode
        for records in answer.authority:
            if records.type == SOA:
                authority += self._with_signatures([records, *self._denied(self._end_of(answer.answer))])
            else:
                authority += [records, *self._delegated(records.owner)]
        if self.is_compact and rcode == NXDOMAIN and not compact_ok:
            rcode = NOERROR
        additional = [part for records in answer.additional for part in self._additional(records)]
        return replace(
            answer,
            rcode=rcode,
            answer=tuple(positive),
            authority=(*authority, *proofs),
            additional=tuple(additional),
            fresh_until=self.signer.fresh_until(self.signed) if self.signed else answer.fresh_until,
            compact_ok=compact_ok and self.is_compact,
        )

    def _answered(self, section: Iterable[RRset]) -> tuple[list[RRset], list[RRset]]:
        """The answer section with signatures, and what proves that its wildcards were to be used (RFC 4035 3.1.3.3).

        With compact denial a name below a wildcard is signed as if it existed, which needs no proof (RFC 9824 3.3).
        """
        out, proofs = [], []
        for records in section:
            out.append(records)
            if records.owner in self.zone.names:
                out.append(self._signature(records))
            elif self.is_compact:
                out.append(self._signature(records, is_passing=True))
            else:
                closer = denial.next_closer(self.zone, records.owner)
                signature = self._signature(replace(records, owner=b"\1*" + parent(closer)))
                out.append(replace(signature, owner=records.owner))
                proofs.append(denial.covering(self.zone, closer))
        return out, self._with_signatures(proofs)

    def _end_of(self, section: Iterable[RRset]) -> bytes:
        """The name that the question led to through CNAMEs."""
        name = self.question.name
        for records in section:
            if records.type == CNAME and records.owner == name:
                name = records.rdatas[0]
        return name

    def _denied(self, name: bytes) -> list[RRset]:
        """What proves that `name`, or the type asked at it, is not there."""
        zone, asked = self.zone, self.question.type
        if name in zone.names:
            return [denial.compact(zone, name, _without(denial.types_at(zone, name), asked))]
        if self.is_compact:
            wildcard = b"\1*" + parent(denial.next_closer(zone, name))
            if wildcard in zone.names:
                return [denial.compact(zone, name, _without(denial.types_at(zone, wildcard), asked))]
            return [denial.compact_missing(zone, name)]
        closer = denial.next_closer(zone, name)
        wildcard = b"\1*" + parent(closer)
        if wildcard in zone.names:
            there = denial.compact(zone, wildcard, _without(denial.types_at(zone, wildcard), asked))
            return [denial.covering(zone, closer), there]
        return list(dict.fromkeys((denial.covering(zone, closer), denial.covering(zone, wildcard))))

    def _delegated(self, cut: bytes) -> list[RRset]:
        """DS, or the proof that there is none: the zone below is not signed. A delegation itself is not signed."""
        trusted = self.zone.names[cut].get(DS)
        if isinstance(trusted, RRset):
            return [trusted, self._signature(trusted)]
        return self._with_signatures([denial.compact(self.zone, cut, (NS,))])

    def explicit(self, answer: Answer) -> Answer | None:
        """The answer to a question for NSEC or RRSIG at a name that exists; with compact denial all are said to.

        No CNAME is followed for them (RFC 4034 section 4). For RRSIG it is one signature, as ANY gets one record set
        (RFC 8482). None: they are denied as other types are.
        """
        zone, name = self.zone, self.question.name
        if not (self.is_compact or name in zone.names) or zone.cut_above(name) is not None:
            return None
        proof = self._denied(name)[0]
        found = self._with_signatures([proof])
        if self.question.type == RRSIG:
            first = next(
                (records for records in zone.names.get(name, {}).values() if isinstance(records, RRset)), proof
            )
            found = [self._signature(first)]
        fresh_until = self.signer.fresh_until(self.signed)
        return replace(answer, rcode=NOERROR, answer=tuple(found), authority=(), fresh_until=fresh_until)

    def _additional(self, records: RRset) -> list[RRset]:
        """Glue below a delegation is not the zone's own and has no signature."""
        if self.zone.cut_above(records.owner) is not None:
            return [records]
        return [records, self._signature(records)]

    def _with_signatures(self, sets: Iterable[RRset]) -> list[RRset]:
        """Each set followed by its signature."""
        names = self.zone.names
        return [
            part
            for records in sets
            for part in (records, self._signature(records, is_passing=records.owner not in names))
        ]

    def _signature(self, records: RRset, *, is_passing: bool = False) -> RRset:
        self.signed.append(records)
        return self.signer.sign(records, is_passing=is_passing)


def _without(types: Iterable[int], asked: int) -> list[int]:
    """A steered set can be empty for this client and family though the zone has it: then its type is not there."""
    return [type_ for type_ in types if type_ != asked]


def sign_whole(zone: Zone, fill: Callable[[SteeredSet], RRset | None] = lambda _: None) -> Iterator[RRset]:
    """All record sets of a signed zone with their signatures and a chain of NSEC records, as a secondary that cannot
    sign needs them. `fill` gives what stands for a steered set; None: it is left out."""
    signer = zone.signer
    assert signer is not None
    whole = {
        name: {type_: _filled(records, fill) for type_, records in zone.names[name].items()} for name in zone.names
    }
    there = {name: [records for records in sets.values() if records is not None] for name, sets in whole.items()}
    chain = [name for name in zone.order if there[name]]
    behind = dict(zip(chain, [*chain[1:], zone.origin], strict=True))
    for name, sets in there.items():
        own = {records.type: records for records in sets}
        if name in behind:
            types = [type_ for type_ in denial.types_at(zone, name) if type_ in own]
            own[NSEC] = denial.between(zone, name, behind[name], types)
        for records in own.values():
            yield records
            # A delegation's NS and all glue are the other zone's own (RFC 4035 section 2.2).
            if name in behind and (name not in zone.cuts or records.type in (DS, NSEC)):
                yield signer.sign(records)


def _filled(records: RecordSet, fill: Callable[[SteeredSet], RRset | None]) -> RRset | None:
    return records if isinstance(records, RRset) else fill(records)
