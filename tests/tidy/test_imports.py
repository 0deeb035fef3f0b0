"""Who may import whom, as data: the arrows of docs/architecture.md section 2, the home of every library, and what no
process may ever load. Anything else is red, also an import inside a function.

To change the plan of the house, change it here, in docs/architecture.md, and say why in docs/decisions/.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support import ROOT

# Room -> rooms of ours that it may import. Rooms of cluster/meridian by their folder, other packages by their name.
ARROWS: dict[str, set[str]] = {
    "cli": {"nodes", "admin", "store", "core", "pki", "meridian_proto", "meridian"},
    "admin": {"control", "store", "core", "telemetry", "meridian"},
    "nodes": {
        "gateway", "control", "admin", "store", "telemetry", "core", "meridian_dns", "meridian_proto", "meridian",
    },
    "gateway": {"core", "wire", "telemetry"},
    "control": {"core", "store", "telemetry", "meridian_proto"},
    "store": {"core", "meridian_proto"},
    "chaosmeridian": {"core", "meridian_proto"},
    # Leaves.
    "core": set(),
    "wire": set(),
    "telemetry": set(),
    "pki": set(),
    "meridian_dns": set(),
    "meridian_proto": set(),
    "meridian": set(),  # the root itself: glossary and version
}  # fmt: skip

# Library (by its import name) -> rooms that may import it. More than one room needs a reason.
HOMES: dict[str, set[str]] = {
    "OpenSSL": {"wire"},  # pyOpenSSL: clients' certificates over QUIC, as aioquic judges servers'
    # The codec, its listener (quic.py), the load's own client; and DNS over QUIC (quic.py), which stands without HTTP.
    "aioquic": {"wire", "gateway", "chaosmeridian", "meridian_dns"},
    "chaoslib": {"chaosmeridian"},
    "cryptography": {"cli", "control", "gateway", "meridian_dns", "nodes", "pki", "wire"},  # primitives of many trades
    "dns": {"chaosmeridian", "cli"},  # dnspython: a client independent of our own server
    "fastapi": {"admin"},
    "google": {"meridian_proto", "store", "control", "nodes"},  # protobuf's own types, wherever messages are
    "grpc": {"meridian_proto", "store", "control"},
    "h2": {"wire", "chaosmeridian"},  # the codec, and the load's own client
    "hpack": {"wire"},
    # The codec, the load's own client; and DNS behind our own proxy (https.py), which stands without our codec.
    "httptools": {"wire", "chaosmeridian", "meridian_dns"},
    "hyperframe": {"wire"},
    "maxminddb": {"meridian_dns"},
    "msgspec": {"telemetry", "store", "control", "nodes", "admin"},  # the house's codec for plain values
    "opentelemetry": {"telemetry"},
    "prometheus_client": {"telemetry"},
    "pydantic": {"core", "admin", "nodes"},  # the document, the API's answers, and the document on the channel
    "pylsqpack": {"wire"},
    "re2": {"core"},  # patterns of the document
    "rich": {"cli", "chaosmeridian"},  # two programs that speak to people
    "starlette": {"admin"},
    "structlog": {"telemetry", "nodes", "control", "admin"},  # set up in telemetry, spoken by the agent's parts
    "trustme": {"cli"},
    "typer": {"cli"},
    "uvicorn": {"nodes"},
    "uvloop": {"nodes", "chaosmeridian"},  # whoever starts a loop
    "yaml": {"core", "chaosmeridian"},  # the document, and Chaos Toolkit's experiments
    "zstandard": {"store"},
}

# Decisions and codecs do nothing: no I/O, no clock, no chance, no logging (STYLE 1 and 2).
PURE = (
    "core",
    "wire",
    "meridian_dns/policy.py",
    "meridian_dns/denial.py",
    "meridian_dns/throttle.py",
    "telemetry/context.py",
)
IMPURE_MODULES = {
    "asyncio",
    "logging",
    "os",
    "random",
    "secrets",
    "selectors",
    "socket",
    "subprocess",
    "threading",
    "time",
}
PURE_EXCEPTIONS: dict[str, set[str]] = {
    # It stands where aioquic's own code would: that draws connection ids and the noise of a stateless reset itself
    # (RFC 9000 sections 5.1 and 10.3: nobody may guess them), and its log of every datagram is silenced.
    "wire/aioquic_hooks.py": {"logging", "os"},
}

# Process -> modules that it must not have loaded after its own module is imported.
PROCESSES: dict[str, set[str]] = {
    "meridian.nodes.launcher": {"asyncio", "ssl", "pydantic", "grpc", "google.protobuf", "structlog", "uvloop"},
    "meridian.nodes.gateway_worker": {"grpc", "fastapi", "opentelemetry", "prometheus_client", "meridian_dns"},
    "meridian.nodes.dns_worker": {  # of the gateway's room it takes the certificates (tls.py), and no more
        "grpc",
        "fastapi",
        "opentelemetry",
        "prometheus_client",
        "meridian.gateway.gateway",
        "meridian.wire",
        "aioquic",
    },
    "meridian.cli.main": {"grpc", "fastapi", "opentelemetry", "pydantic", "uvloop"},
}

ROOTS = {"cluster/meridian": "", "dns/meridian_dns": "meridian_dns", "proto/meridian_proto": "meridian_proto",
         "chaos/chaosmeridian": "chaosmeridian"}  # fmt: skip
OURS = {"meridian", "meridian_dns", "meridian_proto", "chaosmeridian"}


@dataclass(frozen=True, slots=True)
class Import:
    """One import in a source: its room, the file within the roots, and the dotted name that is imported."""

    room: str
    file: str
    line: int
    name: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.room} imports {self.name}"


def all_imports() -> Iterator[Import]:
    for root, package in ROOTS.items():
        for path in sorted((ROOT / root).rglob("*.py")):
            parts = path.relative_to(ROOT / root).parts
            room = package or (parts[0] if len(parts) > 1 else "meridian")
            file = "/".join((package, *parts) if package else parts)
            yield from imports_of(path, room, file)


def imports_of(path: Path, room: str, file: str) -> Iterator[Import]:
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(room, file, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: imports are absolute, so that arrows can be seen"
            for alias in node.names:
                yield Import(room, file, node.lineno, f"{node.module}.{alias.name}")


def room_of(name: str) -> str:
    """The room of ours that a dotted name of ours lies in."""
    first, _, rest = name.partition(".")
    second = rest.partition(".")[0]
    return second if first == "meridian" and (ROOT / "cluster/meridian" / second).is_dir() and second else first


def test_rooms_import_only_along_the_arrows() -> None:
    wrong = []
    for found in all_imports():
        if found.name.partition(".")[0] in OURS:
            room = room_of(found.name)
            if room != found.room and room not in ARROWS.get(found.room, set()):
                wrong.append(f"{found} (room {room})")
    assert not wrong, "\n".join(wrong)


def test_every_room_is_in_the_plan() -> None:
    rooms = {path.name for path in (ROOT / "cluster/meridian").iterdir() if (path / "__init__.py").exists()}
    assert rooms | OURS == set(ARROWS)


def test_every_library_has_its_home() -> None:
    wrong = []
    for found in all_imports():
        top = found.name.partition(".")[0]
        if top not in OURS and top not in sys.stdlib_module_names and found.room not in HOMES.get(top, set()):
            wrong.append(f"{found} (home: {', '.join(sorted(HOMES.get(top, {'none'})))})")
    assert not wrong, "\n".join(wrong)


def test_decisions_and_codecs_do_nothing() -> None:
    wrong = [
        str(found)
        for found in all_imports()
        if found.file.startswith(tuple(f"{place}/" if "." not in place else place for place in PURE))
        and found.name.partition(".")[0] in IMPURE_MODULES - PURE_EXCEPTIONS.get(found.file, set())
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", sorted(PROCESSES))
def test_processes_load_only_what_they_may(module: str) -> None:
    code = f"import {module}, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert not loaded & PROCESSES[module]


@pytest.mark.parametrize(
    ("name", "room"),
    [
        ("meridian.core.model.Document", "core"),
        ("meridian.core", "core"),
        ("meridian.VERSION", "meridian"),
        ("meridian_dns.policy", "meridian_dns"),
    ],
)
def test_names_are_placed_in_their_rooms(name: str, room: str) -> None:
    assert room_of(name) == room


def test_an_import_within_a_function_is_seen(tmp_path: Path) -> None:
    source = tmp_path / "x.py"
    source.write_text("def f():\n    from meridian import gateway\n    import grpc.aio\n")
    found = [(one.line, one.name) for one in imports_of(source, "control", "control/x.py")]
    assert found == [(2, "meridian.gateway"), (3, "grpc.aio")]
    assert room_of("meridian.gateway") == "gateway"
