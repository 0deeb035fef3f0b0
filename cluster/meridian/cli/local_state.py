"""What the local cluster consists of, and where its state lies. Pure words and paths; nothing is started here.

Three nodes in three regions on 127.0.0.11 to .13 with the same ports, three etcd members on the same addresses, and
the demo's services of each region on 127.0.0.21 to .23. More nodes of a region stand on 127.0.REGION.N.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from meridian.cli.errors import Mistake

if TYPE_CHECKING:
    from meridian.core.model import Document

CLUSTER = "meridian"
DNS_PORT = 5300
ADMIN_PORT = 9900
PEER_PORT = 9901
ETCD_CLIENT_PORT = 23790
ETCD_PEER_PORT = 23800
WITNESS = ("witness-1", "witness", "127.0.0.14")  # name, region, address
SERVICE_PORTS = (7001, 7002, 7003)  # of examples/shop_services.py
NODES_MAX = 9  # of one region: a machine for trials carries no more


@dataclass(frozen=True, slots=True)
class Place:
    """What stands in one region: a node and an etcd member at `address`, the demo's services at `services`."""

    node: str
    region: str
    address: str
    services: str


PLACES = (
    Place("eu-west-1", "eu-west", "127.0.0.11", "127.0.0.21"),
    Place("us-east-1", "us-east", "127.0.0.12", "127.0.0.22"),
    Place("ap-south-1", "ap-south", "127.0.0.13", "127.0.0.23"),
)


@dataclass(frozen=True, slots=True)
class LocalNode:
    """One node; http and https are host:port of the document's listeners, empty if it has none."""

    name: str
    region: str
    address: str
    http: str
    https: str

    @property
    def dns(self) -> str:
        return f"{self.address}:{DNS_PORT}"

    @property
    def admin(self) -> str:
        return f"{self.address}:{ADMIN_PORT}"

    @property
    def peer(self) -> str:
        return f"{self.address}:{PEER_PORT}"


@dataclass(frozen=True, slots=True)
class LocalWitness:
    """A node that serves nobody, in a region of its own."""

    name: str
    region: str
    address: str

    @property
    def admin(self) -> str:
        return f"{self.address}:{ADMIN_PORT}"


@dataclass(frozen=True, slots=True)
class LocalEtcd:
    name: str
    address: str

    @property
    def endpoint(self) -> str:
        return f"https://{self.address}:{ETCD_CLIENT_PORT}"

    @property
    def peer_url(self) -> str:
        return f"https://{self.address}:{ETCD_PEER_PORT}"


@dataclass(frozen=True, slots=True)
class LocalServices:
    """The demo's services of one region: one process."""

    name: str
    region: str
    address: str


@dataclass(frozen=True, slots=True)
class LocalCluster:
    """Everything that `local up` starts. `services_file` is empty when the services are somebody else's."""

    nodes: tuple[LocalNode, ...]
    etcd: tuple[LocalEtcd, ...]
    services: tuple[LocalServices, ...]
    document: str
    services_file: str
    workers: int
    witnesses: tuple[LocalWitness, ...] = ()
    limit_nodes: int = len(PLACES)

    @property
    def agents(self) -> tuple[LocalNode | LocalWitness, ...]:
        """Everyone who speaks to the others, whether it serves or not."""
        return (*self.nodes, *self.witnesses)

    @property
    def sizes(self) -> dict[str, int]:
        """How many nodes each region has."""
        return dict(Counter(node.region for node in self.nodes))

    def names(self) -> list[str]:
        """Of all parts, each one process (a node: one and its children)."""
        nodes, members = [node.name for node in self.nodes], [member.name for member in self.etcd]
        witnesses = [witness.name for witness in self.witnesses]
        return nodes + members + [services.name for services in self.services] + witnesses


@dataclass(frozen=True, slots=True)
class LocalPaths:
    """Where the local cluster keeps what; all below one root that only its owner may read."""

    root: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "LocalPaths":
        """MERIDIAN_LOCAL, else XDG_STATE_HOME, else ~/.local/state."""
        if chosen := environment.get("MERIDIAN_LOCAL"):
            return cls(Path(chosen).expanduser().absolute())
        base = environment.get("XDG_STATE_HOME") or "~/.local/state"
        return cls(Path(base).expanduser().absolute() / "meridian" / "local")

    def make_root(self) -> None:
        """Makes the folder that only its owner may enter; what lies in it are keys. Raises Mistake."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            remedy = "name another folder by MERIDIAN_LOCAL"
            raise Mistake(f"cannot make the state folder {self.root}: {error.strerror}", remedy) from None

    @property
    def cluster(self) -> Path:
        return self.root / "cluster.json"

    @property
    def token(self) -> Path:
        return self.root / "token"

    @property
    def cluster_key(self) -> Path:
        return self.root / "cluster.key"

    @property
    def ca(self) -> Path:
        """The authority of the demo's certificate: what curl gets as --cacert."""
        return self.root / "tls" / "ca.pem"

    @property
    def cluster_ca(self) -> Path:
        """The authority of etcd members and agents; the demo's certificate is not of it (see local_ca)."""
        return self.root / "tls" / "cluster-ca.pem"

    def certificate(self, name: str) -> Path:
        return self.root / "tls" / f"{name}.pem"

    def key(self, name: str) -> Path:
        return self.root / "tls" / f"{name}.key"

    def log(self, name: str) -> Path:
        return self.root / "logs" / f"{name}.log"

    def mark(self, name: str) -> Path:
        return self.root / "run" / f"{name}.json"

    def data(self, name: str) -> Path:
        return self.root / "data" / name

    @property
    def applied(self) -> Path:
        """Digest of the document that `local up` applied last."""
        return self.root / "applied"

    @property
    def lock(self) -> Path:
        return self.root / "lock"


def parse_sizes(text: str) -> dict[str, int]:
    """How many nodes in which region: a number for all of them together, or REGION=N,.... Raises Mistake."""
    regions = [place.region for place in PLACES]
    try:
        if text.isdigit():
            found = {region: (int(text) + 2 - i) // 3 for i, region in enumerate(regions)}
        else:
            found = dict.fromkeys(regions, 1) | {
                region.strip(): int(count) for region, count in (pair.split("=") for pair in text.split(","))
            }
    except ValueError:
        raise Mistake(f"--nodes {text}: this is no number of nodes", "write 5, or eu-west=2,us-east=2") from None
    if found.keys() != set(regions) or not all(1 <= count <= NODES_MAX for count in found.values()):
        remedy = f"each of {', '.join(regions)} has 1 to {NODES_MAX} nodes"
        raise Mistake(f"--nodes {text}: the local cluster cannot be so", remedy)
    return found


def _nodes(sizes: Mapping[str, int], http: int, https: int) -> Iterator[LocalNode]:
    """The first of each region as ever, then the others, so that a change of size moves nobody."""
    for place in PLACES:
        yield _node(place.node, place.region, place.address, http, https)
    for number, place in enumerate(PLACES, 1):
        for more in range(2, sizes[place.region] + 1):
            yield _node(f"{place.region}-{more}", place.region, f"127.0.{number}.{more}", http, https)


def _node(name: str, region: str, address: str, http: int, https: int) -> LocalNode:
    return LocalNode(name, region, address, _host_port(address, http), _host_port(address, https))


def plan_cluster(
    document: "Document", document_path: Path, services_file: Path | None, workers: int, *,
    sizes: Mapping[str, int] | None = None, witness: bool = False, limit_nodes: int = len(PLACES),
) -> LocalCluster:  # fmt: skip
    """Lays out the local cluster for a document, with one node in each region if `sizes` does not say more."""
    http, https = _listener_ports(document)
    return LocalCluster(
        nodes=tuple(_nodes(sizes or {place.region: 1 for place in PLACES}, http, https)),
        etcd=tuple(LocalEtcd(f"etcd-{i}", place.address) for i, place in enumerate(PLACES, 1)),
        services=tuple(LocalServices(f"services-{place.region}", place.region, place.services) for place in PLACES)
        if services_file
        else (),
        document=str(document_path),
        services_file=str(services_file or ""),
        workers=workers,
        witnesses=(LocalWitness(*WITNESS),) if witness else (),
        limit_nodes=limit_nodes,
    )


def _host_port(address: str, port: int) -> str:
    return f"{address}:{port}" if port else ""


def _listener_ports(document: "Document") -> tuple[int, int]:
    """The ports of the first plain and the first encrypted listener; 0 where there is none."""
    from meridian.core.addresses import split_host_port

    http = https = 0
    for listener in document.listeners:
        if listener.passes_through:
            continue
        port = split_host_port(listener.bind)[1]
        if listener.uses_tls:
            https = https or port
        else:
            http = http or port
    return http, https


def save_cluster(paths: LocalPaths, cluster: LocalCluster) -> None:
    """Writes the layout, so that `status` and `down` know it when every process is dead."""
    write_whole(paths.cluster, json.dumps(asdict(cluster), indent=1).encode())


def load_cluster(paths: LocalPaths) -> LocalCluster | None:
    """Reads the layout; None if no local cluster was ever started here, or its file is not ours."""
    try:
        found = json.loads(paths.cluster.read_bytes())
        return LocalCluster(
            nodes=tuple(LocalNode(**node) for node in found["nodes"]),
            etcd=tuple(LocalEtcd(**member) for member in found["etcd"]),
            services=tuple(LocalServices(**services) for services in found["services"]),
            document=found["document"],
            services_file=found["services_file"],
            workers=found["workers"],
            witnesses=tuple(LocalWitness(**witness) for witness in found.get("witnesses", ())),
            limit_nodes=found.get("limit_nodes", len(PLACES)),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_whole(path: Path, content: bytes) -> None:
    """Replaces a file at once, readable by its owner only, so that nobody ever reads half of it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600, exist_ok=False)
    fresh.write_bytes(content)
    fresh.replace(path)
