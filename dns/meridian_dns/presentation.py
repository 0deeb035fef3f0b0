"""Record data as text: for each type the fields it is made of, and each field with how it is read and written.

Invariant: for every type in `FIELDS`, what `rdata_to_text` writes `rdata_from_words` reads back to the same bytes.
Formats: RFC 1035 section 3.3 and 5, RFC 2782 (SRV), RFC 3596 (AAAA), RFC 4034 (DS, DNSKEY, RRSIG,
NSEC), RFC 6698 (TLSA), RFC 8659 (CAA), RFC 9460.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from meridian_dns import records
from meridian_dns.lexing import Word, escaped, unescaped, words_of
from meridian_dns.names import name_from_text, name_to_text
from meridian_dns.security_text import (
    base64_from_words,
    base64_to_text,
    type_name,
    type_of,
    types_from_words,
    types_to_text,
)
from meridian_dns.svcb import params_from_words, params_to_text

TXT_BYTES_MAX = 4096  # far above any use; a larger record would need several TCP segments for one answer
DIGEST_BYTES = {1: 32, 2: 64}  # RFC 6698 section 2.1.3: SHA-256, SHA-512
DS_DIGEST_BYTES = {1: 20, 2: 32, 4: 48}  # RFC 4034, 4509, 6605: SHA-1, SHA-256, SHA-384

_DURATION = re.compile(r"(?:(\d+)([wdhms]))", re.IGNORECASE)
_DURATION_SECONDS = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}

Resolve = Callable[[str], bytes]
"""Reads a name as it is meant where it stands: relative to an origin, or not."""


@dataclass(frozen=True, slots=True)
class Field:
    """A part of record data. `read` takes its words from the left; `write` gives text and the next part's place."""

    label: str
    read: Callable[[deque[Word], Resolve], bytes]
    write: Callable[[bytes, int], tuple[str, int]]


def rdata_from_text(type_: int, text: str, resolve: Resolve = name_from_text) -> bytes:
    """Reads a record's value as an operator writes it. Raises ValueError that says why not.

    As in a zone file, but a TXT value that does not start with a quote is one text, cut every 255 bytes.
    """
    if type_ == records.TXT and not text.startswith('"'):
        whole = text.encode()
        return _checked_txt([whole[at : at + 255] for at in range(0, len(whole), 255)] or [b""])
    if type_ == records.TXT and not re.fullmatch(r'(\s*"([^"\\]|\\.)*")*\s*', text):
        raise ValueError("a quote is not closed, or text stands outside the quotes")
    return rdata_from_words(type_, words_of(text), resolve)


def rdata_from_words(type_: int, words: Iterable[Word], resolve: Resolve) -> bytes:
    """Reads record data in the form of a zone file. Raises ValueError that says why not.

    A deque is emptied from the left: after an error, what is missing of it was read, the word at fault last.
    """
    fields, left = FIELDS[type_], words if isinstance(words, deque) else deque(words)
    needs = f"needs {', '.join(field.label for field in fields)}"
    out = []
    for field in fields:
        if not left and not field.label.startswith("["):
            raise ValueError(f"ends before its {field.label}: {needs}")
        out.append(field.read(left, resolve))
    if left:
        raise ValueError(f"{left.popleft().text!r} is one word too many: {needs}")
    rdata = b"".join(out)
    size = DIGEST_BYTES.get(rdata[2]) if type_ == records.TLSA else None
    if size is not None and len(rdata) != 3 + size:
        raise ValueError(f"a digest of matching type {rdata[2]} has {size} bytes, not {len(rdata) - 3}")
    size = DS_DIGEST_BYTES.get(rdata[3]) if type_ in (records.DS, records.CDS) and rdata[2] else None
    if size is not None and len(rdata) != 4 + size:
        raise ValueError(f"a digest of type {rdata[3]} has {size} bytes, not {len(rdata) - 4}")
    if type_ in (records.SVCB, records.HTTPS) and rdata[:2] == b"\0\0" and len(rdata) > 2 + len(_name_at(rdata, 2)):
        raise ValueError("priority 0 makes an alias, which has no parameters (RFC 9460 section 2.4.2)")
    return rdata


def rdata_to_text(type_: int, rdata: bytes) -> str:
    """Writes record data in the form of a zone file, names absolute."""
    at, texts = 0, []
    for field in FIELDS[type_]:
        text, at = field.write(rdata, at)
        texts.append(text)
    assert at == len(rdata)
    return " ".join(filter(None, texts))


def seconds_from_text(text: str) -> int | None:
    """Reads `300` or `1h30m` (the form that BIND brought); None if it is neither."""
    if text.isascii() and text.isdigit():
        return int(text)
    if not re.fullmatch(f"(?:{_DURATION.pattern})+", text, re.IGNORECASE | re.ASCII):
        return None
    return sum(int(count) * _DURATION_SECONDS[unit.lower()] for count, unit in _DURATION.findall(text))


def _name_at(rdata: bytes, at: int) -> bytes:
    end = at
    while rdata[end]:
        end += rdata[end] + 1
    return rdata[at : end + 1]


def _number(label: str, size: int, *, is_duration: bool = False) -> Field:
    def read(words: deque[Word], _: Resolve) -> bytes:
        text = words.popleft().text
        digits = text.isascii() and text.isdigit()
        value = seconds_from_text(text) if is_duration else int(text) if digits else None
        if value is None or value >= 1 << 8 * size:
            raise ValueError(f"{label} {text!r} is no number from 0 to {(1 << 8 * size) - 1}")
        return value.to_bytes(size, "big")

    return Field(label, read, lambda rdata, at: (str(int.from_bytes(rdata[at : at + size], "big")), at + size))


def _name(label: str) -> Field:
    def write(rdata: bytes, at: int) -> tuple[str, int]:
        name = _name_at(rdata, at)
        return name_to_text(name), at + len(name)

    return Field(label, lambda words, resolve: resolve(words.popleft().text), write)


def _address(label: str, kind: type[IPv4Address] | type[IPv6Address], size: int) -> Field:
    def read(words: deque[Word], _: Resolve) -> bytes:
        return kind(words.popleft().text).packed

    return Field(label, read, lambda rdata, at: (str(kind(rdata[at : at + size])), at + size))


def _read_strings(words: deque[Word], _: Resolve) -> bytes:
    strings = [unescaped(word.text) for word in words]
    words.clear()
    return _checked_txt(strings)


def _checked_txt(strings: list[bytes]) -> bytes:
    if any(len(string) > 255 for string in strings):
        raise ValueError("a quoted string is longer than 255 bytes: split it, or leave the quotes away")
    rdata = b"".join(bytes((len(string),)) + string for string in strings)
    if len(rdata) > TXT_BYTES_MAX:
        raise ValueError(f"more than {TXT_BYTES_MAX} bytes of text")
    return rdata


def _write_strings(rdata: bytes, at: int) -> tuple[str, int]:
    strings = []
    while at < len(rdata):
        strings.append(escaped(rdata[at + 1 : at + 1 + rdata[at]]))
        at += 1 + rdata[at]
    return " ".join(strings), at


def _read_tag(words: deque[Word], _: Resolve) -> bytes:
    tag = words.popleft().text.lower()
    if not re.fullmatch("[a-z0-9]{1,255}", tag):
        raise ValueError(f"tag {tag!r} is not letters and digits, such as issue, issuewild or iodef")
    return bytes((len(tag),)) + tag.encode()


def _write_tag(rdata: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + rdata[at]
    return rdata[at + 1 : end].decode("ascii"), end


def _read_digest(words: deque[Word], _: Resolve) -> bytes:
    text = "".join(word.text for word in words)
    words.clear()
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ValueError(f"{text!r} is not hexadecimal") from None


def _read_key(words: deque[Word], _: Resolve) -> bytes:
    data = base64_from_words(words)
    words.clear()
    return data


def _read_types(words: deque[Word], _: Resolve) -> bytes:
    data = types_from_words(words)
    words.clear()
    return data


def _read_params(words: deque[Word], _: Resolve) -> bytes:
    wire = params_from_words(words)
    words.clear()
    return wire


_PRIORITY, _WEIGHT, _PORT = _number("priority", 2), _number("weight", 2), _number("port", 2)
_VALUE = Field(
    "value",
    lambda words, _: unescaped(words.popleft().text),
    lambda rdata, at: (escaped(rdata[at:]), len(rdata)),
)
_DIGEST = Field("data in hexadecimal", _read_digest, lambda rdata, at: (rdata[at:].hex(), len(rdata)))
_PARAMS = Field("[parameters]", _read_params, lambda rdata, at: (params_to_text(rdata[at:]), len(rdata)))
_ALGORITHM, _KEY_TAG, _TTL = _number("algorithm", 1), _number("key tag", 2), _number("TTL", 4)
_TYPE = Field(
    "type covered",
    lambda words, _: type_of(words.popleft().text).to_bytes(2, "big"),
    lambda rdata, at: (type_name(int.from_bytes(rdata[at : at + 2], "big")), at + 2),
)
_KEY = Field("data in base64", _read_key, lambda rdata, at: (base64_to_text(rdata[at:]), len(rdata)))
_TYPE_LIST = Field("types", _read_types, lambda rdata, at: (types_to_text(rdata[at:]), len(rdata)))
_DNSKEY = (_number("flags", 2), _number("protocol", 1), _ALGORITHM, _KEY)
_DS = (_KEY_TAG, _ALGORITHM, _number("digest type", 1), _DIGEST)
_TIMES = tuple(_number(label, 4, is_duration=True) for label in ("refresh", "retry", "expire", "negative TTL"))

FIELDS: dict[int, tuple[Field, ...]] = {
    records.A: (_address("IPv4 address", IPv4Address, 4),),
    records.AAAA: (_address("IPv6 address", IPv6Address, 16),),
    records.ALIAS: (_name("target"),),
    records.CAA: (_number("flags", 1), Field("tag", _read_tag, _write_tag), _VALUE),
    records.CDNSKEY: _DNSKEY,
    records.CDS: _DS,
    records.CNAME: (_name("target"),),
    records.DNSKEY: _DNSKEY,
    records.DS: _DS,
    records.HTTPS: (_PRIORITY, _name("target"), _PARAMS),
    records.MX: (_number("preference", 2), _name("mail server")),
    records.NS: (_name("nameserver"),),
    records.NSEC: (_name("next name"), _TYPE_LIST),
    records.PTR: (_name("target"),),
    records.RRSIG: (
        *(_TYPE, _ALGORITHM, _number("labels", 1), _TTL, _number("expiration", 4), _number("inception", 4), _KEY_TAG),
        *(_name("signer"), _KEY),
    ),
    records.SOA: (_name("primary"), _name("contact"), _number("serial", 4), *_TIMES),
    records.SRV: (_PRIORITY, _WEIGHT, _PORT, _name("target")),
    records.SVCB: (_PRIORITY, _name("target"), _PARAMS),
    records.TLSA: (_number("usage", 1), _number("selector", 1), _number("matching type", 1), _DIGEST),
    records.TXT: (Field("strings", _read_strings, _write_strings),),
}
