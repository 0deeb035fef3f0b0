"""Who a node is, and how its control plane is set."""

from dataclasses import dataclass

from meridian.control.members import NOWHERE, Endpoints, MemberRecord
from meridian.core.granting.shares import Cut
from meridian.core.speech import OWN, Speaker


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this node is. `boot_id` is new with every start; `addresses` are what DNS answers for the node. A `witness`
    has none: it looks, votes and leads, serves nobody, and takes no part in limits.
    """

    name: str
    region: str
    boot_id: str
    addresses: tuple[str, ...]
    endpoints: Endpoints = NOWHERE
    witness: bool = False
    speaker: Speaker = OWN

    @property
    def node_id(self) -> str:
        """The name and the boot: no two processes ever share it."""
        return f"{self.name}.{self.boot_id}"

    def record(self) -> MemberRecord:
        """The member record that this node begins with."""
        return MemberRecord(
            self.name,
            self.node_id,
            self.region,
            self.addresses,
            self.endpoints,
            witness=self.witness,
            software=self.speaker.software,
            protocols=(self.speaker.oldest, self.speaker.newest),
            capabilities=tuple(sorted(self.speaker.capabilities)),
        )


@dataclass(frozen=True, slots=True)
class Settings:
    """`limit_nodes` and `workers` cut the limits when the cluster begins; later ones are compared and reported.
    `capacity` is what this node declares to carry, in requests per second; 0: nothing.

    `generation` is that of a store which begins empty: it rises from store to store, where they do not outlive a node.
    """

    limit_nodes: int = 3
    workers: int = 1
    quota_bytes: int = 2 * 1024**3  # of store members that do not tell theirs; etcd's own default
    generation: int = 0
    capacity: float = 0.0


def cut_for(nodes: int, workers: int) -> Cut:
    """Returns how a cluster of up to `nodes` nodes of `workers` workers cuts its limits.

    Four seats a node leave room for an even spread when some are away. One node has one seat, its home.
    """
    if nodes == 1:
        return Cut(seats=1, slices=workers, homes=1, alone_max=workers if workers > 1 else 0)
    return Cut(seats=4 * nodes, slices=workers, homes=nodes, alone_max=nodes * workers)
