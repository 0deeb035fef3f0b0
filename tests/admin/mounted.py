"""The admin API on a real socket, over the real configuration on an embedded store, for admin and cli tests."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import uvicorn
from tests.nodes.explained import desk, request_desk

from meridian.admin.app import build_app
from meridian.admin.panel import UpgradeDesk
from meridian.admin.status import KeyStatus, NodeStatus, RegionStatus, Status, StoreStatus, ZoneKeysStatus
from meridian.control import seat_orders
from meridian.control.backup import Made, Restored, Seen, back_up, restore
from meridian.control.configuration import Configuration
from meridian.control.drains import DrainRefused
from meridian.control.purges import PurgeDesk
from meridian.control.upkeep import Defragmented
from meridian.control.zone_keys import KeysRefused, NotSigned
from meridian.core.purging import Purge
from meridian.nodes.dns_explainer import DnsExplainer
from meridian.nodes.request_explainer import RequestExplainer
from meridian.nodes.upgrade_desk import NoUpgrades
from meridian.store.documents import Beside
from meridian.store.embedded import EmbeddedStore
from meridian.store.keys import Keys
from meridian.store.port import Item, Store, StoreUnavailable

TOKEN = "token-of-the-test"
CLUSTER_KEY = bytes(range(32))
REGIONS = {"eu-west-1": "eu-west", "us-east-1": "us-east"}

DOCUMENT = """\
listeners:
  - {name: web, bind: "127.0.0.1:8080", protocols: [h1]}
upstreams:
  - name: app
    endpoints: [{address: "127.0.0.1:8000"}]
routes:
  - {name: all, upstream: app}
"""

KEY = KeyStatus(
    id="0a", role="csk", tag=4711, signs_keys=True, signs_zone=True, offered=True, dnskey="257 3 13 AA==",
    ds="gw.example.com. IN DS 4711 13 2 ab",
)  # fmt: skip
ZONE = ZoneKeysStatus(
    zone="gw.example.com.", algorithm=13, state="csk steady", until="", next_step="nothing", keys=(KEY,)
)


class LosableStore(EmbeddedStore):
    """An embedded store that can be away."""

    away = False

    async def get(self, key: str) -> Item | None:
        if self.away:
            raise StoreUnavailable("no etcd member answered: 127.0.0.1:2379")
        return await super().get(key)


@dataclass
class ClusterPanel:
    """A cluster whose nodes serve what a test says they serve."""

    store: Store
    configuration: Configuration
    serving: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REGIONS, 0))
    refusing: dict[str, str] = field(default_factory=dict)
    draining: set[str] = field(default_factory=set)
    follow: bool = True  # nodes take each version at once
    version: int = 0
    zone: ZoneKeysStatus = ZONE
    told: list[str] = field(default_factory=list)
    zones: DnsExplainer = field(default_factory=desk)
    requests: RequestExplainer = field(default_factory=request_desk)
    upgrades: UpgradeDesk = field(default_factory=NoUpgrades)

    def status(self) -> Status:
        away = getattr(self.store, "away", False)
        nodes = tuple(self._node(name, region) for name, region in REGIONS.items())
        return Status(
            cluster="test",
            node="eu-west-1",
            store=StoreStatus(reachable=not away, detail="no etcd member answered" if away else ""),
            leader="eu-west-1",
            config_version=self.version,
            nodes=nodes,
            regions=tuple(RegionStatus(name=region, standing="serving") for region in REGIONS.values()),
        )

    def _node(self, name: str, region: str) -> NodeStatus:
        return NodeStatus(
            name=name,
            region=region,
            standing="draining" if self.draining & {name, region} else "serving",
            leader=name == "eu-west-1",
            config_version=self.version if self.follow and name not in self.refusing else self.serving[name],
            config_refused=self.refusing.get(name, ""),
        )

    async def drain(self, name: str, on: bool, *, force: bool = False) -> None:
        if not on:
            self.draining.discard(name)
        elif self.draining and not force:
            raise DrainRefused("nobody would be left serving")
        else:
            self.draining.add(name)

    async def defragment(self) -> tuple[Defragmented, ...]:
        if getattr(self.store, "away", False):
            raise StoreUnavailable("no etcd member answered")
        return (Defragmented("https://127.0.0.1:2379", 4096, 1024),)

    async def back_up(self) -> tuple[Made, bytes]:
        return await back_up(self.store, Keys("test"), CLUSTER_KEY)

    async def restore(self, raw: bytes, *, author: str, force: bool) -> Restored:
        done = await restore(self.store, Keys("test"), CLUSTER_KEY, raw, Seen(), author=author, force=force)
        self.version = done.version
        return done

    def zone_keys(self, zone: str) -> ZoneKeysStatus:
        if zone != "gw.example.com":
            raise NotSigned(f"zone {zone} has no keys")
        return self.zone

    async def tell_zone_keys(self, zone: str, word: str) -> None:
        self.zone_keys(zone)
        if word == "gone":
            raise KeysRefused("the zone is not on its way to be unsigned")
        self.told.append(word)

    async def purge(self, order: Purge) -> int:
        return await PurgeDesk(self.store, Keys("test"), lambda purges: None).order(order)

    async def settle_limits(self) -> None:
        await seat_orders.settle(self.store, Keys("test"))

    async def free_seats(self, node: str) -> int:
        return await seat_orders.free(self.store, Keys("test"), node, [one.name for one in self.status().nodes])

    async def metrics(self) -> str:
        return "# TYPE meridian_requests_total counter\nmeridian_requests_total 1\n"


class WatchedConfiguration(Configuration):
    """Tells the panel of each version, as the config watch of a real node does."""

    panel: ClusterPanel

    async def _write(
        self, payload: bytes, author: str, message: str, base: int, beside: Callable[[int], Beside],
        *, candidate: bool = False,
    ) -> int:  # fmt: skip
        version = await super()._write(payload, author, message, base, beside, candidate=candidate)
        if not candidate:
            self.panel.version = version
        return version


@dataclass
class Mounted:
    address: str
    panel: ClusterPanel
    store: LosableStore

    @property
    def url(self) -> str:
        return f"http://{self.address}"


@contextlib.asynccontextmanager
async def mounted() -> AsyncIterator[Mounted]:
    """Serves the API on a free port of loopback."""
    store = LosableStore(asyncio.get_running_loop().time)
    configuration = WatchedConfiguration(store, Keys("test"), CLUSTER_KEY)
    panel = ClusterPanel(store, configuration)
    configuration.panel = panel
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(build_app(panel, TOKEN), log_level="critical", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server._serve(sockets=[listening]))  # not serve(): it would take the test's signals
        try:
            yield Mounted(f"127.0.0.1:{listening.getsockname()[1]}", panel, store)
        finally:
            server.should_exit = True
