"""Which upstream takes a connection that passes through. The exact server name wins over the longest wildcard, that
over the route without names."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class L4Route:
    """See l4_words.L4Route; `proxy_protocol` is 0 for none."""

    name: str
    listener: str
    server_names: tuple[str, ...]
    upstream: str
    proxy_protocol: int
    idle_seconds: float


@dataclass(frozen=True, slots=True)
class L4Table:
    """The routes of one listener; `needs_name` where it cannot be told without the server name."""

    exact: Mapping[str, L4Route] = field(default_factory=dict)
    wildcards: Mapping[str, L4Route] = field(default_factory=dict)  # key: without "*", for example ".example.com"
    fallback: L4Route | None = None

    @property
    def needs_name(self) -> bool:
        """Whether the client must speak before a route is known."""
        return bool(self.exact or self.wildcards)

    def find(self, server_name: str) -> L4Route | None:
        """The route for a name in lower case; empty: the client has named none."""
        found = self.exact.get(server_name)
        if found is not None:
            return found
        dot = server_name.find(".") if self.wildcards else -1
        while dot != -1:
            found = self.wildcards.get(server_name[dot:])
            if found is not None:
                return found
            dot = server_name.find(".", dot + 1)
        return self.fallback


NOTHING = L4Table()


def build_l4(routes: Iterable[L4Route]) -> Mapping[str, L4Table]:
    """The tables by listener. Of two routes that say the same the earlier wins; the document allows none."""
    exact: dict[str, dict[str, L4Route]] = {}
    wildcards: dict[str, dict[str, L4Route]] = {}
    fallbacks: dict[str, L4Route] = {}
    names: dict[str, None] = {}
    for route in routes:
        names[route.listener] = None
        for name in route.server_names:
            if name.startswith("*."):
                wildcards.setdefault(route.listener, {}).setdefault(name[1:], route)
            else:
                exact.setdefault(route.listener, {}).setdefault(name, route)
        if not route.server_names:
            fallbacks.setdefault(route.listener, route)
    return MappingProxyType(
        {name: L4Table(exact.get(name, {}), wildcards.get(name, {}), fallbacks.get(name)) for name in names}
    )
