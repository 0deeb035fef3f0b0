"""Changes to examples/shop.yaml that pass validation: twenty that break something, and twenty that break nothing."""

from collections.abc import Iterable
from dataclasses import dataclass

_STATIC = "  - name: static\n    match: {path_prefix: /, methods: [GET, HEAD]}\n    upstream: static\n"
_FILES_PATH = "{path_prefix: /, methods: [GET, HEAD]}"
_PRODUCTS_MATCH = "{path_prefix: /api/products, methods: [GET, HEAD]}"
_BALANCE = "    balance: least_request\n"


@dataclass(frozen=True, slots=True)
class Change:
    """`name` says what an operator would call the mistake (or the wish); each pair is a text and what replaces it."""

    name: str
    pairs: tuple[tuple[str, str], ...]

    def edit(self, text: str) -> str:
        """The changed document. Every text must be there: a change that changes nothing proves nothing."""
        for old, new in self.pairs:
            assert old in text, f"{self.name}: {old!r} is not in the document"
            text = text.replace(old, new)
        return text


def _change(name: str, *pairs: tuple[str, str]) -> Change:
    return Change(name, pairs)


def _added(section: str, entry: str) -> tuple[str, str]:
    return f"\n{section}:\n", f"\n{section}:\n  - {entry}\n"


def _word(upstream: str, word: str) -> tuple[str, str]:
    """One more word for an upstream; only upstreams have a health of their own right after the name or balance."""
    name = f"  - name: {upstream}\n"
    after = _BALANCE if upstream == "products" else ""
    return f"{name}{after}    health", f"{name}{after}    {word}\n    health"


def _ports(old: int, host: str, new: int) -> Iterable[tuple[str, str]]:
    return [(f"127.0.0.2{n}:{old}", f"{host}{n}:{new}") for n in (1, 2, 3)]


BAD = (
    _change("wrong port, products", (":7001", ":7991")),
    _change("wrong port, orders", (":7002", ":7992")),
    _change("wrong port, files", (":7003", ":7993")),
    _change("wrong addresses", ("127.0.0.2", "127.0.0.7")),
    _change("names that do not resolve", *_ports(7001, "no-such-", 7001)),
    _change("a port that speaks TLS", *_ports(7001, "127.0.0.1", 8443)),
    _change("a port that speaks DNS", *_ports(7002, "127.0.0.1", 5300)),
    _change("a port that wants a token", *_ports(7003, "127.0.0.1", 9900)),
    _change("orders at the files' service", *_ports(7002, "127.0.0.2", 7003)),
    _change("products at the files' service", *_ports(7001, "127.0.0.2", 7003)),
    _change("a limit of one", ("rate: 50000/s, burst: 100000", "rate: 1/h, burst: 1")),
    _change("a limit of one a minute", ("rate: 40000/s, burst: 80000", "rate: 1/m, burst: 1")),
    _change("a limit meant for one client", ("client_ip, rate: 50000/s, burst: 100000", "route, rate: 20/m, burst: 5")),
    _change("a wrong host everywhere", ("match: {path", "match: {host: shop.example.org, path")),
    _change("a wrong host on the files", (_FILES_PATH, "{host: shop.example.org, path_prefix: /}")),
    _change("no route for the files", (_STATIC, "")),
    _change("a misspelt path", (_FILES_PATH, "{path_prefix: /files, methods: [GET, HEAD]}")),
    _change("methods of another route", (_PRODUCTS_MATCH, "{path_prefix: /api/products, methods: [POST]}")),
    _change("a tiny timeout", _word("products", "connect_timeout_seconds: 0.000001")),
    _change(
        "a route that shadows all",
        _added("routes", "{name: all, match: {host: shop.example.com, path_prefix: /}, upstream: static}"),
    ),
)  # fmt: skip

HARMLESS = (
    _change("more burst", ("burst: 100000", "burst: 200000")),
    _change("more rate", ("rate: 40000/s", "rate: 60000/s")),
    _change("a little less rate", ("rate: 50000/s", "rate: 45000/s")),
    _change("a limit on the files", (_STATIC, _STATIC + "    stages:\n      - {limit: orders-per-client}\n")),
    _change("a route that nobody asks for", _added("routes", "{name: new, match: {path: /new}, upstream: static}")),
    _change("a route of another host", _added("routes", "{name: new, match: {host: a.example.com}, upstream: orders}")),
    _change("a route with a new name", ("  - name: orders\n    match", "  - name: ordering\n    match")),
    _change("the host written out", ("match: {path", "match: {host: shop.example.com, path")),
    _change("an upstream with a new name", ("name: static\n    health", "name: files\n    health"),
            ("upstream: static", "upstream: files")),
    _change("an upstream that nobody uses",
            _added("upstreams", '{name: spare, endpoints: [{address: "127.0.0.21:7999"}]}')),
    _change("in turn", (_BALANCE, "    balance: round_robin\n")),
    _change("by chance", (_BALANCE, "    balance: random\n")),
    _change("more tries", _word("orders", "retries: 4")),
    _change("a shorter timeout", _word("products", "response_timeout_seconds: 10")),
    _change("a longer idle time", _word("static", "idle_timeout_seconds: 60")),
    _change("more connections", _word("static", "connections_max: 4096")),
    _change("another weight", ("7001\", region: us-east", "7001\", weight: 3, region: us-east")),
    _change("slower probes", ("interval_seconds: 1,", "interval_seconds: 2,")),
    _change("a record", ("records:\n", "records:\n      - {name: more, type: TXT, value: text}\n")),
    _change("another time to live", ("ttl_seconds: 300", "ttl_seconds: 600")),
)  # fmt: skip
