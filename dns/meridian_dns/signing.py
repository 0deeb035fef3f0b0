"""Signatures: the keys of a zone, what each of them signs, and RRSIG records made when they are asked for.

Signing is a function. ECDSA is used in its deterministic form (RFC 6979), Ed25519 is so by nature, and the times in a
signature are a function of the record set and the hour: all servers with the same keys give the same bytes, so nothing
has to be handed from one to the other, and what is kept here only saves work.

A signature is used for `REFRESH_SECONDS`; then the next one takes its place. When that is differs from record set to
record set, so that no moment comes at which all have to be made. It is valid from a few hours before it is used, for
validators whose clocks are slow, until longer than a secondary may serve it after its primary died.
"""

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from hashlib import blake2b, sha256

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from meridian_dns.names import label_count
from meridian_dns.records import CDNSKEY, CDS, CLASS_IN, DNSKEY, RRSIG, RRset

ECDSA_P256, ED25519 = 13, 15  # RFC 8624: what all validators can and all signers should
ALGORITHMS = {ECDSA_P256: "ECDSAP256SHA256", ED25519: "ED25519"}
ZONE_KEY, ENTRY_POINT = 256, 257  # flags (RFC 4034 section 2.1.1): 257 is also a secure entry point
DIGEST_SHA256 = 2
APEX_TYPES = (DNSKEY, CDS, CDNSKEY)
"""The types that a signer publishes, and that the keys which the parent knows sign."""

KEYS_TTL_SECONDS = 3600  # of DNSKEY, CDS and CDNSKEY: a rollover waits this long before a new key is known everywhere
REFRESH_SECONDS = 86_400
EARLY_SECONDS = 3 * 3600  # how slow a validator's clock may be
LATE_SECONDS = 8 * 86_400  # a secondary serves for a week without its primary (RFC 1912), and a clock may be fast

SIGNATURES_MAX = 50_000  # of names that exist, about 500 bytes each
PASSING_MAX = 5_000  # of names that do not: a flood of random ones must not push out the others

_HEAD = struct.Struct("!HBBIIIH")  # type, algorithm, labels, TTL, expiration, inception, key tag
_RR = struct.Struct("!HHIH")


class KeyUnfit(ValueError):
    """Key material that is none, or not of the algorithm that it is said to be."""


class Denial(Enum):
    """How a missing name or type is proved.

    COMPACT: one record says that the name exists without what was asked (RFC 9824). WHITE_LIES: records that cover
    hardly more than the missing name (RFC 4470), for validators or secondaries that want NXDOMAIN in every answer.
    """

    COMPACT = "compact"
    WHITE_LIES = "white_lies"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key pair. `public` is in the form of DNSKEY (RFC 6605 section 4, RFC 8080 section 3), `rdata` the data of that
    record, `tag` the number that signatures name it by (RFC 4034 appendix B)."""

    algorithm: int
    flags: int
    public: bytes
    private: EllipticCurvePrivateKey | Ed25519PrivateKey = field(repr=False, compare=False)
    rdata: bytes = field(init=False, repr=False, compare=False)
    tag: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        rdata = struct.pack("!HBB", self.flags, 3, self.algorithm) + self.public
        total = sum(byte << 8 if index % 2 == 0 else byte for index, byte in enumerate(rdata))
        object.__setattr__(self, "rdata", rdata)
        object.__setattr__(self, "tag", (total + (total >> 16)) & 0xFFFF)

    @classmethod
    def from_der(cls, algorithm: int, flags: int, der: bytes) -> "SigningKey":
        """Reads PKCS #8. Raises KeyUnfit; never shows the key."""
        try:
            private = load_der_private_key(der, None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise KeyUnfit("the private key cannot be read") from None
        if algorithm == ECDSA_P256 and isinstance(private, EllipticCurvePrivateKey):
            if not isinstance(private.curve, SECP256R1):
                raise KeyUnfit(f"the private key is of curve {private.curve.name}, not of P-256")
            point = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
            return cls(algorithm, flags, point[1:], private)
        if algorithm == ED25519 and isinstance(private, Ed25519PrivateKey):
            return cls(algorithm, flags, private.public_key().public_bytes_raw(), private)
        raise KeyUnfit(f"the private key is not of algorithm {algorithm} (known: {sorted(ALGORITHMS)})")

    def ds_rdata(self, origin: bytes) -> bytes:
        """The data of the DS record that the parent publishes, with SHA-256 (RFC 4509)."""
        digest = sha256(origin + self.rdata).digest()
        return struct.pack("!HBB", self.tag, self.algorithm, DIGEST_SHA256) + digest

    def sign(self, data: bytes) -> bytes:
        """A signature in the form of RRSIG: equal for equal data."""
        if isinstance(self.private, Ed25519PrivateKey):
            return self.private.sign(data)
        r, s = decode_dss_signature(self.private.sign(data, ECDSA(SHA256(), deterministic_signing=True)))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def generate_der(algorithm: int) -> bytes:
    """A new private key in PKCS #8. Raises KeyUnfit for an algorithm that is not ours."""
    if algorithm not in ALGORITHMS:
        raise KeyUnfit(f"algorithm {algorithm}: use one of {sorted(ALGORITHMS)}")
    made = generate_private_key(SECP256R1()) if algorithm == ECDSA_P256 else Ed25519PrivateKey.generate()
    return made.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


@dataclass(frozen=True, slots=True)
class KeyUse:
    """A published key, and whether it signs the key sets at the apex (a KSK does) and all others (a ZSK does)."""

    key: SigningKey
    signs_keys: bool
    signs_zone: bool


@dataclass(frozen=True, slots=True)
class KeySet:
    """All keys of a zone. `offered`: those that CDS and CDNSKEY ask the parent to trust (RFC 7344).

    `is_leaving`: CDS and CDNSKEY ask the parent to trust none (RFC 8078 section 4).
    """

    uses: tuple[KeyUse, ...]
    offered: tuple[SigningKey, ...] = ()
    is_leaving: bool = False

    def __post_init__(self) -> None:
        if not any(use.signs_keys for use in self.uses) or not any(use.signs_zone for use in self.uses):
            raise KeyUnfit("a signed zone needs a key that signs its keys and one that signs the rest")


class Signatures:
    """The signatures made so far, of all zones of a server. Bounded; forgets all when full."""

    def __init__(
        self,
        wall_clock: Callable[[], float],
        *,
        signatures_max: int = SIGNATURES_MAX,
        passing_max: int = PASSING_MAX,
    ) -> None:
        """`wall_clock` gives seconds since 1970."""
        self.wall_clock = wall_clock
        self.made = 0
        self._kept: dict[object, bytes] = {}
        self._passing: dict[object, bytes] = {}
        self._kept_max, self._passing_max = signatures_max, passing_max

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._kept) + len(self._passing)

    def make(self, key: SigningKey, data: bytes, *, is_passing: bool) -> bytes:
        """The signature of `data`. `is_passing`: it is for a name that does not exist, and hardly asked for again."""
        table, most = (self._passing, self._passing_max) if is_passing else (self._kept, self._kept_max)
        # The data is as long as the record set: its digest keeps the table's size in hand.
        place = (key.public, blake2b(data, digest_size=16).digest())
        signature = table.get(place)
        if signature is None:
            if len(table) >= most:
                table.clear()
            signature = table[place] = key.sign(data)
            self.made += 1
        return signature


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs one zone. Immutable: other keys make another signer, which may share the `signatures` of this one."""

    origin: bytes
    keys: KeySet
    denial: Denial = Denial.COMPACT
    signatures: Signatures = field(kw_only=True, repr=False, compare=False)

    def apex_sets(self) -> tuple[RRset, ...]:
        """DNSKEY, and CDS and CDNSKEY if the parent is asked for something."""
        found = [RRset(self.origin, DNSKEY, KEYS_TTL_SECONDS, tuple(use.key.rdata for use in self.keys.uses))]
        if self.keys.is_leaving:
            found.append(RRset(self.origin, CDS, KEYS_TTL_SECONDS, (b"\0\0\0\0\0",)))
            found.append(RRset(self.origin, CDNSKEY, KEYS_TTL_SECONDS, (b"\0\0\3\0\0",)))
        elif self.keys.offered:
            digests = tuple(key.ds_rdata(self.origin) for key in self.keys.offered)
            found.append(RRset(self.origin, CDS, KEYS_TTL_SECONDS, digests))
            found.append(RRset(self.origin, CDNSKEY, KEYS_TTL_SECONDS, tuple(key.rdata for key in self.keys.offered)))
        return tuple(found)

    def sign(self, records: RRset, *, is_passing: bool = False) -> RRset:
        """The RRSIG records of a record set, for the present hour (RFC 4034 section 3.1.8.1, 6.2 and 6.3).

        A wildcard's owner signs as one. `is_passing` as in `Signatures.make`.
        """
        began, _ = self._period(records)
        expires, valid_from = began + REFRESH_SECONDS + LATE_SECONDS, began - EARLY_SECONDS
        signs_keys = records.owner == self.origin and records.type in APEX_TYPES
        owner = records.owner
        body = b"".join(
            owner + _RR.pack(records.type, CLASS_IN, records.ttl_seconds, len(rdata)) + rdata
            for rdata in sorted(records.rdatas)
        )
        rdatas = []
        for use in self.keys.uses:
            if not (use.signs_keys if signs_keys else use.signs_zone):
                continue
            key = use.key
            head = (
                _HEAD.pack(
                    records.type,
                    key.algorithm,
                    label_count(owner),
                    records.ttl_seconds,
                    expires % 2**32,
                    valid_from % 2**32,
                    key.tag,
                )
                + self.origin
            )
            rdatas.append(head + self.signatures.make(key, head + body, is_passing=is_passing))
        return RRset(owner, RRSIG, records.ttl_seconds, tuple(rdatas))

    def fresh_until(self, sets: Iterable[RRset]) -> float:
        """When the first of the signatures of these record sets gives way to its successor, in seconds since 1970."""
        return min(self._period(records)[1] for records in sets)

    def _period(self, records: RRset) -> tuple[int, int]:
        """From when until when the present signature of a record set is used."""
        name = blake2b(records.owner + records.type.to_bytes(2, "big"), digest_size=4).digest()
        shift = int.from_bytes(name, "big") % REFRESH_SECONDS
        began = (int(self.signatures.wall_clock()) - shift) // REFRESH_SECONDS * REFRESH_SECONDS + shift
        return began, began + REFRESH_SECONDS
