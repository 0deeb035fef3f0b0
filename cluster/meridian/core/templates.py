"""Texts of the document with variables of the request in them: `https://${host}${target}`.

Invariant: whatever a client sends, no control byte comes out of a variable, so that no value ends a line or a field;
and in a URL it comes out percent-encoded, so that it stays within its part of it.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote_from_bytes

from meridian.core import fields
from meridian.core.fields import Headers
from meridian.core.limit_keys import host_of

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_NAMED = re.compile(r"(header|cookie|query):([A-Za-z0-9!#$%&'*+.^_`|~-]+)")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_PATH_SAFE = "/-._~!$&'()*+,;=:@%"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a request: what variables stand for."""

    client: str
    scheme: bytes
    authority: bytes
    method: bytes
    target: bytes
    request_id: bytes
    route: str
    consumer: str
    headers: Headers


_PLAIN: Mapping[str, Callable[[Facts], bytes]] = {
    "client": lambda facts: facts.client.encode(),
    "host": lambda facts: host_of(facts.authority),
    "authority": lambda facts: facts.authority,
    "scheme": lambda facts: facts.scheme,
    "method": lambda facts: facts.method,
    "path": lambda facts: facts.target.partition(b"?")[0],
    "query": lambda facts: facts.target.partition(b"?")[2],
    "target": lambda facts: facts.target,
    "request_id": lambda facts: facts.request_id,
    "route": lambda facts: facts.route.encode(),
    "consumer": lambda facts: facts.consumer.encode(),
}
_OF_URL = frozenset({"path", "query", "target", "authority", "host"})  # in a URL's own writing already


@dataclass(frozen=True, slots=True)
class Template:
    """A text taken apart: literals, and variables by their name in between (at the odd places)."""

    parts: tuple[str, ...]

    @property
    def begins_literally(self) -> bool:
        """Whether its first byte is the document's."""
        return bool(self.parts[0])

    def as_value(self, facts: Facts) -> bytes:
        """For a header field."""
        if len(self.parts) == 1:
            return self.parts[0].encode()
        pieces = [
            _CONTROL.sub(_percent, _value(part, facts)) if at % 2 else part.encode()
            for at, part in enumerate(self.parts)
        ]
        return b"".join(pieces).strip(b" \t")

    def as_url(self, facts: Facts) -> bytes:
        """For a URL, or the path of one. Where it begins with a variable it is a path and nothing else: no client may
        choose another host by two slashes."""
        pieces = [_in_url(part, _value(part, facts)) if at % 2 else part.encode() for at, part in enumerate(self.parts)]
        found = b"".join(pieces)
        return found if self.begins_literally else b"/" + found.lstrip(b"/")


def parse(text: str) -> Template:
    """Takes a text apart. Raises ValueError that says what is wrong."""
    if not text.isascii() or not text.isprintable():
        raise ValueError(f"{text!r}: only printable ASCII may stand here; percent-encode the rest")
    parts = _VARIABLE.split(text)
    for name in parts[1::2]:
        if name not in _PLAIN and _NAMED.fullmatch(name) is None:
            known = ", ".join(f"${{{one}}}" for one in sorted(_PLAIN))
            raise ValueError(f"there is no variable ${{{name}}} (known: {known}, ${{header:NAME}}, cookie, query)")
    if any("${" in literal for literal in parts[::2]):
        raise ValueError(f"{text!r}: a ${{ without its }}")
    return Template(
        tuple(part.lower() if at % 2 and part.startswith("header:") else part for at, part in enumerate(parts))
    )


def checked_template(text: str) -> str:
    """The text itself. Raises ValueError that says what is wrong."""
    parse(text)
    return text


def _value(name: str, facts: Facts) -> bytes:
    plain = _PLAIN.get(name)
    if plain is not None:
        return plain(facts)
    kind, _, wanted = name.partition(":")
    if kind == "query":
        return fields.query(facts.target, wanted.encode()) or b""
    find = fields.header if kind == "header" else fields.cookie
    return find(facts.headers, wanted.encode()) or b""


def _in_url(name: str, value: bytes) -> bytes:
    safe = _PATH_SAFE + "?[]" if name in _OF_URL else ""
    return quote_from_bytes(value, safe).encode()


def _percent(found: re.Match[bytes]) -> bytes:
    return b"%%%02X" % found[0][0]
