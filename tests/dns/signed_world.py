"""The DNS tests' world, signed; and a validator that is not ours (dnspython) for whole answers."""

from collections.abc import Iterable, Sequence

import dns.dnssec
import dns.flags
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from dns.exception import ValidationFailure
from tests.dns.world import EVERYWHERE, ORIGIN

from meridian_dns.names import name_from_text
from meridian_dns.records import DNSKEY, RRset
from meridian_dns.signing import (
    ECDSA_P256,
    ENTRY_POINT,
    Denial,
    KeySet,
    KeyUse,
    Signatures,
    Signer,
    SigningKey,
    generate_der,
)
from meridian_dns.steering import Steer
from meridian_dns.zone import Zone
from meridian_dns.zone_building import RecordSpec, build_zone

NOW = 1_800_000_000.0
NXNAME = 128


def make_key(algorithm: int = ECDSA_P256, flags: int = ENTRY_POINT) -> SigningKey:
    """A new key."""
    return SigningKey.from_der(algorithm, flags, generate_der(algorithm))


def make_signer(
    origin: str = ORIGIN,
    denial: Denial = Denial.COMPACT,
    algorithm: int = ECDSA_P256,
    clock: "Clock | None" = None,
) -> Signer:
    """One key for everything, offered to the parent."""
    key = make_key(algorithm)
    keys = KeySet((KeyUse(key, True, True),), (key,))
    return Signer(name_from_text(origin), keys, denial, signatures=Signatures(clock or Clock()))


class Clock:
    """Seconds since 1970 that move when they are told to."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


RECORDS: Sequence[RecordSpec] = (
    RecordSpec("shop", "A", 30, None, EVERYWHERE),
    RecordSpec("shop", "AAAA", 30, None, EVERYWHERE),
    RecordSpec("east", "AAAA", 30, None, Steer("geo", ("asia",))),
    RecordSpec("east", "A", 30, None, Steer("geo", ("asia",))),
    RecordSpec("www", "CNAME", 300, "shop.gw.example.com.", None),
    RecordSpec("out", "CNAME", 300, "www.example.net.", None),
    RecordSpec("dangling", "CNAME", 300, "missing", None),
    RecordSpec("nodata", "CNAME", 300, "note", None),
    RecordSpec("into", "CNAME", 300, "host.sub", None),
    RecordSpec("towild", "CNAME", 300, "x.wild", None),
    RecordSpec("*.wild", "A", 60, "192.0.2.99", None),
    RecordSpec("*.wildcname", "CNAME", 60, "www", None),
    RecordSpec("*.wildgeo", "A", 30, None, EVERYWHERE),
    RecordSpec("*.wildeast", "AAAA", 30, None, Steer("geo", ("asia",))),
    RecordSpec("*.wildeast", "A", 30, None, Steer("geo", ("asia",))),
    RecordSpec("deep.empty", "TXT", 60, "here", None),
    RecordSpec("note", "TXT", 60, '"v=spf1 -all" "second"', None),
    RecordSpec("note", "TXT", 60, "another", None),
    RecordSpec("fixed", "A", 60, "192.0.2.2", None),
    RecordSpec("fixed", "A", 60, "192.0.2.1", None),
    RecordSpec("sub", "NS", 600, "ns.sub", None),
    RecordSpec("ns.sub", "A", 600, "192.0.2.53", None),
    RecordSpec("secure", "NS", 600, "ns.secure", None),
    RecordSpec("secure", "DS", 600, "4711 13 2 " + "ab" * 32, None),
    RecordSpec("ns.secure", "A", 600, "192.0.2.54", None),
    RecordSpec("svc", "HTTPS", 30, None, EVERYWHERE, ("h3", "h2")),
    RecordSpec("flat", "ALIAS", 20, "shop", None),
    RecordSpec("mail", "MX", 60, "10 mx.example.net.", None),
    RecordSpec("_sip._tcp", "SRV", 60, "10 0 5060 shop", None),
)


def make_signed_zone(signer: Signer | None = None, records: Iterable[RecordSpec] = RECORDS) -> Zone:
    """One of everything that can be signed."""
    signer = signer or make_signer()
    return build_zone(ORIGIN, ["ns1.gw.example.com", "ns.example.net"], list(records), serial=7, signer=signer)


class Bogus(AssertionError):
    """An answer that a validator would not believe."""


class Validator:
    """What a validating resolver checks of one answer, with dnspython's cryptography; RFC 4035 section 5."""

    def __init__(self, zone: Zone, now: float = NOW) -> None:
        """Trusts the DNSKEY set of `zone`, or what stands in `trusted` afterwards."""
        self.origin = dns.name.from_wire(zone.origin, 0)[0]
        keys = zone.names[zone.origin][DNSKEY]
        assert isinstance(keys, RRset)
        rdatas = [dns.rdata.from_wire("IN", "DNSKEY", rdata, 0, len(rdata)) for rdata in keys.rdatas]
        self.trusted = dns.rrset.from_rdata_list(self.origin, keys.ttl_seconds, rdatas)
        self.now = now

    def check(self, wire: bytes, name: str, type_: str) -> str:
        """Checks a response, and that it proves what it says. Returns secure, or insecure for an unsigned delegation.

        Raises Bogus."""
        message = dns.message.from_wire(wire)
        assert not message.flags & dns.flags.AD
        qname, qtype = dns.name.from_text(name), dns.rdatatype.from_text(type_)
        proofs: list[dns.rrset.RRset] = []
        for section in (message.answer, message.authority, message.additional):
            signed = self._signed_sets(section, message)
            proofs += [found for found in signed if found.rdtype == dns.rdatatype.NSEC]
        passed = set()
        for rrset in message.answer:
            if rrset.rdtype == dns.rdatatype.CNAME and rrset.name == qname and qtype != dns.rdatatype.CNAME:
                self._prove_wildcard(message.answer, rrset, proofs)
                passed.add(qname)
                qname = rrset[0].target
        if qname in passed:
            return "secure"  # a loop ends nowhere
        if not qname.is_subdomain(self.origin):
            return "secure"
        found = message.get_rrset(message.answer, qname, dns.rdataclass.IN, qtype)
        if found is not None:
            self._prove_wildcard(message.answer, found, proofs)
            return "secure"
        delegation = [rrset for rrset in message.authority if rrset.rdtype == dns.rdatatype.NS]
        if delegation:
            return self._delegated(message, delegation[0].name, proofs)
        self._prove_absence(qname, qtype, message.rcode(), proofs)
        return "secure"

    def _signed_sets(self, section: list[dns.rrset.RRset], message: dns.message.Message) -> list[dns.rrset.RRset]:
        cuts = [r.name for r in message.authority if r.rdtype == dns.rdatatype.NS and r.name != self.origin]
        out = []
        for rrset in section:
            if rrset.rdtype == dns.rdatatype.RRSIG:
                continue
            if rrset.rdtype in (dns.rdatatype.NS, dns.rdatatype.A, dns.rdatatype.AAAA) and any(
                rrset.name.is_subdomain(cut) for cut in cuts
            ):
                continue  # the other zone's
            signatures = [r for r in section if r.rdtype == dns.rdatatype.RRSIG and r.covers == rrset.rdtype]
            signature = next((r for r in signatures if r.name == rrset.name), None)
            if signature is None:
                raise Bogus(f"no signature for {rrset}")
            assert signature.ttl == rrset.ttl
            try:
                dns.dnssec.validate(rrset, signature, {self.origin: self.trusted}, now=self.now)
            except ValidationFailure as error:
                raise Bogus(f"{rrset}: {error}") from None
            out.append(rrset)
        return out

    def _prove_wildcard(
        self, section: list[dns.rrset.RRset], rrset: dns.rrset.RRset, proofs: list[dns.rrset.RRset]
    ) -> None:
        for signature in section:
            if signature.rdtype != dns.rdatatype.RRSIG or signature.name != rrset.name:
                continue
            labels, own = signature[0].labels, len(rrset.name.labels) - 1 - (rrset.name.labels[0] == b"*")
            if signature.covers == rrset.rdtype and labels < own:
                closer = dns.name.Name(rrset.name.labels[-(labels + 2) :])
                if not any(_covers(proof, closer) for proof in proofs):
                    raise Bogus(f"a wildcard was used for {rrset.name} without proof that it may be")

    def _delegated(self, message: dns.message.Message, cut: dns.name.Name, proofs: list[dns.rrset.RRset]) -> str:
        if message.get_rrset(message.authority, cut, dns.rdataclass.IN, dns.rdatatype.DS) is not None:
            return "secure"
        types = next((types_of(proof) for proof in proofs if proof.name == cut), None)
        if types is None or dns.rdatatype.DS in types or dns.rdatatype.NS not in types or dns.rdatatype.SOA in types:
            raise Bogus(f"nothing proves that {cut} is not signed")
        return "insecure"

    def _prove_absence(self, qname: dns.name.Name, qtype: int, rcode: int, proofs: list[dns.rrset.RRset]) -> None:
        here = next((proof for proof in proofs if proof.name == qname), None)
        if here is not None:
            types = types_of(here)
            if qtype in types or dns.rdatatype.CNAME in types:
                raise Bogus(f"the proof says that {qname} has what was asked: {here}")
            if rcode == 3 and NXNAME not in types:
                raise Bogus(f"NXDOMAIN, but the proof says that {qname} exists")
            return
        cover = next((proof for proof in proofs if _covers(proof, qname)), None)
        if cover is None:
            raise Bogus(f"nothing covers {qname}")
        common = max(
            (qname.fullcompare(end)[2] for end in (cover.name, cover[0].next)),
        )
        encloser = dns.name.Name(qname.labels[-common:])
        wildcard = dns.name.Name((b"*",)) + encloser
        there = next((proof for proof in proofs if proof.name == wildcard), None)
        if there is not None:
            if rcode != 0 or qtype in types_of(there) or dns.rdatatype.CNAME in types_of(there):
                raise Bogus(f"the wildcard has what was asked: {there}")
        elif rcode != 3 or not any(_covers(proof, wildcard) for proof in proofs):
            raise Bogus(f"nothing denies {wildcard}")


def types_of(proof: dns.rrset.RRset) -> set[int]:
    """The types that an NSEC record lists."""
    return {
        window << 8 | index << 3 | bit
        for window, bits in proof[0].windows
        for index, byte in enumerate(bits)
        for bit in range(8)
        if byte & 0x80 >> bit
    }


def _covers(proof: dns.rrset.RRset, name: dns.name.Name) -> bool:
    """Whether `name` lies strictly within the interval, and is no empty name above its end."""
    owner, behind = proof.name, proof[0].next
    if behind.is_subdomain(name) and behind != name:
        return False
    if name.is_subdomain(owner) and owner != name and dns.rdatatype.NS in types_of(proof) and 6 not in types_of(proof):
        return False  # a delegation says nothing of what is below it
    return bool(owner < name and (name < behind or behind <= owner))
