"""What a route may want of a request beyond its host, path and method: fields, cookies, query, client address."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from meridian.core import fields
from meridian.core.fields import Headers
from meridian.core.patterns import Pattern

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Kind = Literal["header", "cookie", "query"]
How = Literal["exact", "prefix", "regex", "present", "absent"]

_STRENGTH: dict[How, int] = {"exact": 4, "prefix": 3, "regex": 2, "present": 1, "absent": 0}
_SHOWN = {"header": "header {}", "cookie": "cookie {}", "query": "query parameter {}"}


@dataclass(slots=True)
class Ask:
    """One request. What is asked of it more than once is looked up once."""

    target: bytes
    headers: Headers
    client: str  # IP address
    _known: dict[tuple[Kind, bytes], bytes | None] = field(default_factory=dict)

    def value(self, kind: Kind, name: bytes) -> bytes | None:
        """What it says under a name; None if it does not say it at all."""
        key = (kind, name)
        if key not in self._known:
            if kind == "header":
                found = fields.header(self.headers, name)
            elif kind == "cookie":
                found = fields.cookie(self.headers, name)
            else:
                found = fields.query(self.target, name)
            self._known[key] = found
        return self._known[key]


@dataclass(frozen=True, slots=True)
class FieldIs:
    """What a header field, cookie or query parameter must be. `pattern` is of `regex`, and matches the whole value."""

    kind: Kind
    name: bytes
    how: How
    value: bytes = b""
    pattern: Pattern | None = None

    def holds(self, ask: Ask) -> bool:
        """Whether the request is so."""
        found = ask.value(self.kind, self.name)
        if found is None or self.how == "absent":
            return found is None and self.how == "absent"
        if self.how == "exact":
            return found == self.value
        if self.how == "prefix":
            return found.startswith(self.value)
        return self.pattern is None or self.pattern.fullmatch(found) is not None

    @property
    def strength(self) -> int:
        """How narrow it is, among its like."""
        return _STRENGTH[self.how]

    def __str__(self) -> str:
        """In words that name no value: what a client sends may be a secret."""
        what = _SHOWN[self.kind].format(self.name.decode("latin-1"))
        wanted = {
            "exact": f"to be {self.value.decode('latin-1')!r}",
            "prefix": f"to begin with {self.value.decode('latin-1')!r}",
            "regex": f"to match {self.value.decode('latin-1')!r}",
            "present": "to be there",
            "absent": "to be absent",
        }
        return f"{what} {wanted[self.how]}"


@dataclass(frozen=True, slots=True)
class ClientIn:
    """The client's address must lie in one of these networks."""

    networks: tuple[Network, ...]

    def holds(self, ask: Ask) -> bool:
        """Whether the request is so."""
        return _is_in(ask.client, self.networks)

    @property
    def bits(self) -> int:
        """How narrow the widest of them is; an IPv4 network counts as the IPv6 one that it maps to."""
        return min(one.prefixlen if one.version == 6 else one.prefixlen + 96 for one in self.networks)

    def __str__(self) -> str:
        """In words."""
        return f"the client to be of {', '.join(map(str, self.networks))}"


Condition = FieldIs | ClientIn


def implies(narrow: Sequence[Condition], wide: Sequence[Condition]) -> bool:
    """Whether every request that `narrow` takes is taken by `wide`, as far as that can be told from their words."""
    return all(any(_implied(mine, one) for mine in narrow) for one in wide)


def _implied(narrow: Condition, wide: Condition) -> bool:
    if isinstance(wide, ClientIn):
        return isinstance(narrow, ClientIn) and all(
            any(one.version == other.version and one.subnet_of(other) for other in wide.networks)  # type: ignore[arg-type] # of one version
            for one in narrow.networks
        )
    if isinstance(narrow, ClientIn) or (narrow.kind, narrow.name) != (wide.kind, wide.name):
        return False
    if (narrow.how, narrow.value) == (wide.how, wide.value):
        return True
    if wide.how == "present":
        return narrow.how != "absent"
    return narrow.how in ("exact", "prefix") and (
        (wide.how == "prefix" and narrow.value.startswith(wide.value))
        or (wide.how == "regex" and narrow.how == "exact" and wide.pattern is not None
            and wide.pattern.fullmatch(narrow.value) is not None)
    )  # fmt: skip


@lru_cache(maxsize=16_384)  # more than the connections of a worker, so that each client is looked up once
def _is_in(client: str, networks: tuple[Network, ...]) -> bool:
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)
