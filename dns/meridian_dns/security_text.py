"""Parts of DNSSEC's records as text: base64, and the list of types in NSEC (RFC 4034 section 2.2, 3.2 and 4.2)."""

import base64
import binascii
from collections.abc import Iterable
from functools import lru_cache

from meridian_dns.lexing import Word
from meridian_dns.records import SECURITY_TYPES, TYPE_NAMES, TYPES

_NUMBERS = TYPES | SECURITY_TYPES


def type_of(word: str) -> int:
    """Reads a type by its name or as TYPE123 (RFC 3597 section 5). Raises ValueError."""
    name = word.upper()
    if name in _NUMBERS:
        return _NUMBERS[name]
    digits = name.removeprefix("TYPE")
    if digits == name or not (digits.isascii() and digits.isdigit()) or int(digits) > 0xFFFF:
        raise ValueError(f"unknown type {word!r}")
    return int(digits)


def type_name(type_: int) -> str:
    """Writes a type by its name, or as TYPE123."""
    return TYPE_NAMES.get(type_, f"TYPE{type_}")


@lru_cache(maxsize=1024)  # a zone has few combinations of types, and each proof needs one
def type_bitmap(types: frozenset[int]) -> bytes:
    """The list of types of an NSEC record in wire form (RFC 4034 section 4.1.2)."""
    windows: dict[int, bytearray] = {}
    for type_ in sorted(types):
        bits = windows.setdefault(type_ >> 8, bytearray())
        low = type_ & 0xFF
        bits.extend(bytes(max(0, low // 8 + 1 - len(bits))))
        bits[low // 8] |= 0x80 >> low % 8
    return b"".join(bytes((window, len(bits))) + bits for window, bits in windows.items())


def types_from_words(words: Iterable[Word]) -> bytes:
    """Reads a list of types into its wire form. Raises ValueError."""
    return type_bitmap(frozenset(type_of(word.text) for word in words))


def types_to_text(bitmap: bytes) -> str:
    """Writes what `type_bitmap` made."""
    names, at = [], 0
    while at < len(bitmap):
        window, size = bitmap[at], bitmap[at + 1]
        for index, byte in enumerate(bitmap[at + 2 : at + 2 + size]):
            for bit in range(8):
                if byte & 0x80 >> bit:
                    names.append(type_name(window << 8 | index << 3 | bit))
        at += 2 + size
    return " ".join(names)


def base64_from_words(words: Iterable[Word]) -> bytes:
    """Reads base64 that may be cut into words. Raises ValueError."""
    text = "".join(word.text for word in words)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{text!r} is no base64") from None


def base64_to_text(data: bytes) -> str:
    """Writes base64 in one word."""
    return base64.b64encode(data).decode()
