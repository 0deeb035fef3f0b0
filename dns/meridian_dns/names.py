"""Domain names in their one canonical form: wire bytes, lower case, uncompressed, ending in the root's zero byte.

Invariant: two names are equal by RFC 4343 exactly when their canonical bytes are equal, so a name is a dictionary key
and a suffix of a datagram at once. Lower-casing whole names is safe: a length byte is at most 63, below "A" (65).
"""

import re
from collections.abc import Iterator

LABEL_BYTES_MAX = 63  # RFC 1035 section 2.3.4
NAME_BYTES_MAX = 255  # RFC 1035 section 2.3.4, length bytes and the root included
ROOT = b"\0"

_PIECE = re.compile(r"\\(\d{3})|\\(\D)|(\.)|([^\\.]+)")
_ABSOLUTE = re.compile(r"(?<!\\)(?:\\\\)*\.$")  # a last dot that no backslash takes away
_PLAIN = frozenset(range(0x21, 0x7F)) - frozenset(b'.\\"();@$')


def name_from_text(text: str) -> bytes:
    """Reads an absolute name (the last dot may be missing) with RFC 1035 section 5.1 escapes into canonical bytes.

    Raises ValueError that says what is wrong: an empty or long label, a long name, a character outside ASCII.
    """
    if text in (".", ""):
        return ROOT
    # A zone of 100,000 names has hardly any with an escape.
    labels = _escaped_labels(text) if "\\" in text else _ascii(text).split(b".")
    if not labels[-1]:
        labels.pop()
    if not all(labels):
        raise ValueError(f"{text!r} has an empty label")
    if any(len(label) > LABEL_BYTES_MAX for label in labels):
        raise ValueError(f"{text!r} has a label of more than {LABEL_BYTES_MAX} bytes")
    name = b"".join(bytes((len(label),)) + label for label in labels) + ROOT
    if len(name) > NAME_BYTES_MAX:
        raise ValueError(f"{text!r} is longer than {NAME_BYTES_MAX} bytes")
    return name.lower()


def _ascii(text: str) -> bytes:
    try:
        return text.encode("ascii")
    except UnicodeEncodeError:
        raise ValueError(f"{text!r} has characters outside ASCII: write the name in its xn-- form") from None


def _escaped_labels(text: str) -> list[bytes]:
    labels = [b""]
    consumed = 0
    for piece in _PIECE.finditer(text):
        code, escaped, dot, plain = piece.groups()
        consumed += len(piece.group())
        if dot:
            labels.append(b"")
        elif code:
            if int(code) > 255:
                raise ValueError(f"\\{code} in {text!r} is no byte")
            labels[-1] += bytes((int(code),))
        else:
            labels[-1] += _ascii(escaped or plain)
    if consumed != len(text):
        raise ValueError(f"{text!r} ends in a lone backslash")
    return labels


def is_absolute(text: str) -> bool:
    """Whether a name in text ends in the root's dot."""
    return _ABSOLUTE.search(text) is not None


def name_below(text: str, origin: bytes) -> bytes:
    """Reads a name as a zone file means it (RFC 1035 section 5.1): `@` is `origin`, without a last dot it follows.

    Raises ValueError as `name_from_text` does.
    """
    if text == "@":
        return origin
    name = name_from_text(text)
    if is_absolute(text):
        return name
    if len(name) - 1 + len(origin) > NAME_BYTES_MAX:
        raise ValueError(f"{text!r} below {name_to_text(origin)} is longer than {NAME_BYTES_MAX} bytes")
    return name[:-1] + origin


def name_to_text(name: bytes) -> str:
    """Writes canonical bytes as an absolute name with its last dot, unusual bytes escaped (RFC 1035 section 5.1)."""
    if name == ROOT:
        return "."
    return "".join(
        "".join(chr(byte) if byte in _PLAIN else f"\\{byte:03d}" for byte in ancestor[1 : ancestor[0] + 1]) + "."
        for ancestor in ancestors(name)
        if ancestor != ROOT
    )


def parent(name: bytes) -> bytes:
    """The name without its first label. `name` is not the root."""
    return name[name[0] + 1 :]


def ancestors(name: bytes) -> Iterator[bytes]:
    """`name` itself, then each parent, the root last."""
    while name[0]:
        yield name
        name = name[name[0] + 1 :]
    yield name


def is_within(name: bytes, origin: bytes) -> bool:
    """Whether `name` is `origin` or below it."""
    if not name.endswith(origin):
        return False
    at, end = 0, len(name) - len(origin)
    while at < end:
        at += name[at] + 1
    return at == end


def order_key(name: bytes) -> tuple[bytes, ...]:
    """What names are sorted by in DNSSEC (RFC 4034 section 6.1): their labels, the root's side first."""
    return tuple(ancestor[1 : ancestor[0] + 1] for ancestor in ancestors(name))[-2::-1]


def label_count(name: bytes) -> int:
    """How many labels `name` has for a signature (RFC 4034 section 3.1.3): the root and a wildcard's star are none."""
    return sum(1 for _ in ancestors(name)) - 1 - name.startswith(b"\1*")
