"""Transaction signatures: a shared secret proves who asks, and that nothing was changed on the way (RFC 8945). PURE.

A request is checked whole before anything of it is believed; its answer is signed over the request's own signature, so
that it fits no other request, and each message of a stream over the one before (section 5.3.1), so that none can be
left out or put in. We sign every message.

Invariants: a signature is compared in constant time; a client whose key is unknown or whose signature is wrong gets
nothing signed; a secret is in no text that this module makes (`repr`, errors).
"""

import base64
import binascii
import hmac
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from meridian_dns.names import NAME_BYTES_MAX, name_from_text
from meridian_dns.records import BADKEY, BADSIG, BADTIME, BADTRUNC, NOERROR, TSIG

ALGORITHMS = {"hmac-sha256": 32, "hmac-sha384": 48, "hmac-sha512": 64}
"""By the operator's word: bytes of a signature. SHA-1 and MD5 are not offered (RFC 8945 section 6: for old peers)."""

SECRET_BYTES_MIN = 16  # RFC 8945 section 8 wants as many as the signature; below 128 bits a key can be guessed
FUDGE_SECONDS = 300  # RFC 8945 section 10: how far two clocks may stand apart
MAC_BYTES_MIN = 10  # RFC 8945 section 5.2.2.1
CLASS_ANY = 255

_HEAD = struct.Struct("!HHIH")  # type, class, TTL, length of the data
_TIMES = struct.Struct("!HIH")  # the 48 bits of the time, and the fudge


class MalformedSignature(ValueError):
    """The TSIG record breaks the format; the request is FORMERR."""


@dataclass(frozen=True, slots=True)
class Key:
    """A shared secret and its name, which both sides must spell alike. `algorithm` is a key of `ALGORITHMS`."""

    name: bytes
    algorithm: str
    secret: bytes = field(repr=False)

    @classmethod
    def from_text(cls, name: str, algorithm: str, secret: bytes) -> "Key":
        """Reads a key whose secret is in base64, as `tsig-keygen` and `keymgr` write it.

        Raises ValueError that says what is wrong, and never shows the secret.
        """
        if algorithm not in ALGORITHMS:
            raise ValueError(f"unknown algorithm {algorithm!r}: use one of {', '.join(ALGORITHMS)}")
        try:
            raw = base64.b64decode(b"".join(secret.split()), validate=True)
        except binascii.Error:
            raise ValueError("the secret is not base64; make one with: openssl rand -base64 32") from None
        if len(raw) < SECRET_BYTES_MIN:
            raise ValueError(f"a secret of {len(raw)} bytes; at least {SECRET_BYTES_MIN} are needed, better 32")
        return cls(name_from_text(name), algorithm, raw)

    def mac(self, data: bytes) -> bytes:
        """The signature of `data`."""
        return hmac.digest(self.secret, data, self.algorithm.removeprefix("hmac-"))


@dataclass(frozen=True, slots=True)
class Signature:
    """A TSIG record as it came. `at` is where it begins in its message; times in seconds since 1970."""

    at: int
    key_name: bytes
    algorithm: bytes
    time_signed: int
    fudge_seconds: int
    mac: bytes
    original_id: int
    error: int
    other: bytes


class Signer:
    """Signs the responses to one request, or the request itself: each signature covers the one before."""

    def __init__(self, key: Key, before: bytes = b"") -> None:
        """`before`: the signature that the next one covers; empty for a request."""
        self.key = key
        self.last_mac = before
        self._is_later = False

    def sign(self, message: bytes, now: float, *, error: int = NOERROR, asked_at: int | None = None) -> bytes:
        """The message with its signature at the end. `now`: seconds since 1970.

        BADTIME tells the client our time and gives back its own, `asked_at` (RFC 8945 section 5.2.3).
        """
        time_signed = int(now) if asked_at is None else asked_at
        other = b"" if asked_at is None else int(now).to_bytes(6, "big")
        id_ = int.from_bytes(message[:2], "big")
        unsigned = Signature(
            len(message), self.key.name, name_from_text(self.key.algorithm), time_signed, FUDGE_SECONDS, b"", id_,
            error, other,
        )  # fmt: skip
        self.last_mac = self.key.mac(_digested(message, unsigned, self.last_mac, is_later=self._is_later))
        self._is_later = True
        return _appended(message, unsigned, self.last_mac)


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of a request's signature: an error number of RFC 8945 or 0, and what signs the responses, if any."""

    error: int
    signature: Signature
    signer: Signer | None

    @property
    def record_bytes(self) -> int:
        """How much longer `sign` makes a message, at most."""
        names = len(self.signature.key_name) + len(self.signature.algorithm)
        return names + _HEAD.size + _TIMES.size + 2 + max(ALGORITHMS.values()) + 6 + 6

    def sign(self, message: bytes, now: float) -> bytes:
        """The response with what belongs behind it: our signature, or the error alone where nothing may be signed."""
        if self.signer is None:
            bare = Signature(
                len(message), self.signature.key_name, self.signature.algorithm, self.signature.time_signed,
                self.signature.fudge_seconds, b"", self.signature.original_id, self.error, b"",
            )  # fmt: skip
            return _appended(message, bare, b"")
        asked_at = self.signature.time_signed if self.error == BADTIME else None
        return self.signer.sign(message, now, error=self.error, asked_at=asked_at)


def check(data: bytes, at: int, keys: Mapping[bytes, Key], now: float, *, request_mac: bytes = b"") -> Checked:
    """Checks the signature whose record begins at `at`, the last of the message. `now`: seconds since 1970.

    `request_mac`: for a response, the signature of its request. Raises MalformedSignature. The order of the checks is
    RFC 8945's (section 5.2): key, signature, time.
    """
    found = read_signature(data, at)
    key = keys.get(found.key_name)
    if key is None or found.algorithm != name_from_text(key.algorithm):
        return Checked(BADKEY, found, None)
    size = ALGORITHMS[key.algorithm]
    if not max(MAC_BYTES_MIN, size // 2) <= len(found.mac) <= size:
        raise MalformedSignature(f"a signature of {len(found.mac)} bytes")
    counts = data[4:10] + (int.from_bytes(data[10:12], "big") - 1).to_bytes(2, "big")
    message = found.original_id.to_bytes(2, "big") + data[2:4] + counts + data[12:at]
    mac = key.mac(_digested(message, found, request_mac, is_later=False))
    if not hmac.compare_digest(mac[: len(found.mac)], found.mac):
        return Checked(BADSIG, found, None)
    signer = Signer(key, found.mac)
    if len(found.mac) < size:
        return Checked(BADTRUNC, found, signer)
    if abs(now - found.time_signed) > found.fudge_seconds:
        return Checked(BADTIME, found, signer)
    return Checked(NOERROR, found, signer)


def read_signature(data: bytes, at: int) -> Signature:
    """Reads the TSIG record at `at`. Raises MalformedSignature."""
    try:
        name, here = _read_name(data, at)
        type_, class_, ttl, length = _HEAD.unpack_from(data, here)
        here += _HEAD.size
        if type_ != TSIG or class_ != CLASS_ANY or ttl or here + length != len(data):
            raise MalformedSignature("the record's head")
        algorithm, here = _read_name(data, here)
        high, low, fudge = _TIMES.unpack_from(data, here)
        mac, here = _read_counted(data, here + _TIMES.size)
        original_id, error = struct.unpack_from("!HH", data, here)
        other, here = _read_counted(data, here + 4)
    except (IndexError, struct.error):
        raise MalformedSignature("the record ends early") from None
    if here != len(data):
        raise MalformedSignature("bytes behind the record")
    return Signature(at, name, algorithm, high << 32 | low, fudge, mac, original_id, error, other)


def _digested(message: bytes, signature: Signature, before: bytes, *, is_later: bool) -> bytes:
    """What is signed (RFC 8945 sections 4.3 and 5.3.1). Later messages of a stream leave away what cannot change."""
    times = _TIMES.pack(signature.time_signed >> 32, signature.time_signed & 0xFFFFFFFF, signature.fudge_seconds)
    prior = len(before).to_bytes(2, "big") + before if before else b""
    if is_later:
        return prior + message + times
    named = signature.key_name + CLASS_ANY.to_bytes(2, "big") + bytes(4) + signature.algorithm
    tail = signature.error.to_bytes(2, "big") + len(signature.other).to_bytes(2, "big") + signature.other
    return prior + message + named + times + tail


def _appended(message: bytes, signature: Signature, mac: bytes) -> bytes:
    rdata = (
        signature.algorithm
        + _TIMES.pack(signature.time_signed >> 32, signature.time_signed & 0xFFFFFFFF, signature.fudge_seconds)
        + len(mac).to_bytes(2, "big")
        + mac
        + struct.pack("!HHH", signature.original_id, signature.error, len(signature.other))
        + signature.other
    )
    additionals = (int.from_bytes(message[10:12], "big") + 1).to_bytes(2, "big")
    record = signature.key_name + _HEAD.pack(TSIG, CLASS_ANY, 0, len(rdata)) + rdata
    return message[:10] + additionals + message[12:] + record


def _read_counted(data: bytes, at: int) -> tuple[bytes, int]:
    end = at + 2 + int.from_bytes(data[at : at + 2], "big")
    if end > len(data):
        raise MalformedSignature("the record ends early")
    return data[at + 2 : end], end


def _read_name(data: bytes, at: int) -> tuple[bytes, int]:
    """A name in canonical form. Some clients compress the key's name: each pointer must lead further back."""
    labels, size, end, limit = [], 0, 0, at
    while length := data[at]:
        if length >= 0xC0:
            end = end or at + 2
            at = (length & 0x3F) << 8 | data[at + 1]
            if at >= limit:
                raise MalformedSignature("a pointer that leads forward")
            limit = at
            continue
        if length > 63:
            raise MalformedSignature("an unknown kind of label")
        labels.append(data[at : at + length + 1])
        size += length + 1
        at += length + 1
        if size >= NAME_BYTES_MAX:
            raise MalformedSignature("a long name")
    return (b"".join(labels) + b"\0").lower(), end or at + 1
