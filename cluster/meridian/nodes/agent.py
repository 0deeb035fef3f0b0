"""The agent: `python -m meridian.nodes.agent`, started by the launcher. The only process of a node that holds etcd's
credentials, the cluster key and the peers' certificates, and the only one that talks to other nodes.

Its death stops nothing that serves. It comes back by the launcher, with the document from its own disk if etcd is away.
"""

import asyncio
import secrets
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog

from meridian.control.bundle import BundleError, derive_key
from meridian.control.disk import SnapshotDisk
from meridian.control.peers import NoPeers, PeerPortTaken, PeerTransport
from meridian.nodes import clock
from meridian.nodes.child import BadStart, Birth, Post, first
from meridian.nodes.crew import ProcessCrew
from meridian.nodes.headquarters import Headquarters
from meridian.nodes.line import Message
from meridian.nodes.secret_files import read_secret, token_of
from meridian.nodes.settings import Settings
from meridian.nodes.snapshot_disk import FolderDisk
from meridian.nodes.sockets import Wanted
from meridian.nodes.upgrade_desk import UpgradeDesk
from meridian.store.embedded import EmbeddedStore
from meridian.store.port import Store, StoreError
from meridian.telemetry.logs import configure
from meridian.telemetry.metrics import Series

_log = structlog.get_logger("meridian.agent")


CERTIFICATE_LOOK_SECONDS = 5.0
DEPART_SECONDS = 0.8  # for one write to the store; what stays ends with its lease


class Agent:
    """The agent on its line: what the launcher says reaches headquarters, and the other way."""

    def __init__(self, birth: Birth) -> None:
        """Raises BadStart."""
        settings = birth.settings
        self._settings = settings
        self._token = token_of(settings)
        cluster_key = _cluster_key(settings)
        self._store = _store(settings, settings.etcd)
        self._regional = _store(settings, settings.etcd_regional) if settings.etcd_regional else None
        self._upgrades = UpgradeDesk(lambda seconds: self._post.say("upgrade", seconds=seconds))
        self._headquarters = Headquarters(
            settings,
            self._store,
            cluster_key,
            peers=_peers(settings),
            disk=_disk(settings, cluster_key),
            listen=self._listen,
            regional=self._regional,
            upgrades=self._upgrades,
        )
        kinds = {"gateway": settings.workers, "dns": 1 if settings.dns_port else 0}
        self._crew = ProcessCrew(kinds, self._headquarters)
        self._headquarters.employ(self._crew, self._series)
        self._children: Sequence[Sequence[Any]] = ()
        self._listened: asyncio.Future[Sequence[str]] | None = None
        self._tasks = asyncio.TaskGroup()
        self._admin_task: asyncio.Task[None] | None = None
        self._departure: asyncio.Task[None] | None = None
        self._leave: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._post = Post(birth, self._on_message, self._end)

    async def run(self) -> None:
        """Runs until the launcher says so or is gone."""
        async with self._tasks:
            running = self._tasks.create_task(self._headquarters.run())
            renewal = self._tasks.create_task(self._end_when_renewed())
            self._post.say("ready")
            await self._leave
            if self._departure is not None:
                await asyncio.wait({self._departure}, timeout=DEPART_SECONDS)
                self._departure.cancel()
            running.cancel()
            renewal.cancel()
            if self._admin_task is not None:
                self._admin_task.cancel()
        self._crew.close()
        await self._store.close()
        if self._regional is not None:
            await self._regional.close()

    async def _end_when_renewed(self) -> None:
        """Ends the agent when a file of its certificates changed: the launcher starts it again at once, with the new
        ones, and the workers serve on. That is once in days, and no part has to know how to change its certificate.
        """
        settings = self._settings
        named = (settings.etcd_ca, settings.etcd_cert, settings.etcd_key,
                 settings.peer_ca, settings.peer_cert, settings.peer_key)  # fmt: skip
        files = [Path(name) for name in named if name is not None]
        known = _stamps(files)
        while True:
            await asyncio.sleep(CERTIFICATE_LOOK_SECONDS)
            now = _stamps(files)
            if now != known and None not in now:
                _log.info("certificates changed, the agent starts again")
                self._end(0.0)
                return

    def _end(self, grace_seconds: float) -> None:
        if not self._leave.done():
            self._leave.set_result(grace_seconds)

    async def _listen(self, wanted: Sequence[Wanted]) -> Sequence[str]:
        """Asks the launcher for exactly these sockets. Only the config flow asks, so one question at a time is open."""
        assert self._listened is None
        self._listened = asyncio.get_running_loop().create_future()
        self._post.say("listen", sockets=[entry.to_list() for entry in dict.fromkeys(wanted)])
        try:
            return await self._listened
        finally:
            self._listened = None

    def _on_message(self, message: Message, sockets: list[socket.socket]) -> None:
        match message["say"]:
            case "sockets":
                if self._admin_task is None:
                    hosts = ("localhost", self._settings.name)
                    serving = self._headquarters.serve_admin(sockets[0], self._token, hosts)
                    self._admin_task = self._tasks.create_task(serving)
            case "channel":
                place = (message["kind"], message["slot"])
                generation, serves = message["generation"], message["serves"]
                self._tasks.create_task(self._crew.attach(*place, sockets[0], generation, serves))
            case "succeeded":
                self._crew.succeeded(message["kind"], message["slot"], message["generation"])
            case "upgrade":
                self._upgrades.hear(message)
            case "children":
                self._children = message["children"]
            case "listening" | "refused":
                if self._listened is not None and not self._listened.done():
                    self._listened.set_result(message.get("problems", ()))
            case "drain":
                self._tasks.create_task(self._announce_leaving())
            case "depart":
                self._departure = self._tasks.create_task(self._headquarters.depart())

    async def _announce_leaving(self) -> None:
        linger_seconds = await self._headquarters.leave()
        _log.info("node is left out by the cluster")
        self._post.say("left", linger_seconds=linger_seconds)

    def _series(self) -> list[Series]:
        help = "How often a process of this node was started again."
        restarts = [
            Series("meridian_restarts_total", "counter", help, {"role": role, "slot": str(slot)}, float(count))
            for role, slot, _, count in self._children
        ]
        return [*restarts, Series("meridian_channel_dropped_total", "counter", "Frames to workers that were dropped.",
                                  {}, float(self._crew.dropped))]  # fmt: skip


def _stamps(files: Sequence[Path]) -> list[tuple[int, int] | None]:
    """What changes when a file is written or replaced; None for one that is not there at this moment."""
    found: list[tuple[int, int] | None] = []
    for file in files:
        try:
            stat = file.stat()
            found.append((stat.st_mtime_ns, stat.st_ino))
        except OSError:
            found.append(None)
    return found


def _cluster_key(settings: Settings) -> bytes:
    if settings.cluster_key_file is not None:
        cluster_key = read_secret("--cluster-key-file", settings.cluster_key_file)
        try:
            derive_key(cluster_key, "check")
        except BundleError as error:
            raise BadStart(f"--cluster-key-file {settings.cluster_key_file}: {error}") from None
        return cluster_key
    if settings.etcd:
        raise BadStart("--cluster-key-file is missing: without the cluster's key no document can be opened")
    return secrets.token_bytes(32)  # nothing outlives this process, so nobody else needs the key


def _disk(settings: Settings, cluster_key: bytes) -> SnapshotDisk:
    return FolderDisk(Path(settings.state), cluster_key, settings.name)


def _store(settings: Settings, endpoints: Sequence[str]) -> Store:
    if not endpoints:
        _log.warning("no --etcd: what is applied lives in this process only")
        return EmbeddedStore(clock.now)
    from meridian.store.etcd import EtcdStore
    from meridian.store.etcd_members import EtcdTls, EtcdUser

    tls = user = None
    if settings.etcd_ca is not None:
        ca, certificate, key = _tls_files(settings.etcd_ca, settings.etcd_cert, settings.etcd_key, "etcd")
        tls = EtcdTls(ca, certificate, key)
    if settings.etcd_user is not None:
        if settings.etcd_password_file is None:
            raise BadStart("--etcd-user needs --etcd-password-file")
        password = read_secret("--etcd-password-file", settings.etcd_password_file).decode().strip()
        user = EtcdUser(settings.etcd_user, password)
    try:
        return EtcdStore(endpoints, tls=tls, user=user)
    except StoreError as error:
        flag = "--etcd" if endpoints is settings.etcd else "--etcd-regional"
        raise BadStart(f"{flag}: {error}") from None


def _peers(settings: Settings) -> PeerTransport:
    if not settings.etcd:
        return NoPeers()
    if settings.peer_ca is None or settings.peer_cert is None or settings.peer_key is None:
        raise BadStart("--peer-ca, --peer-cert and --peer-key are missing: agents speak mutual TLS to each other")
    from meridian.control.peers_grpc import GrpcPeers, PeerTls

    ca, certificate, key = _tls_files(settings.peer_ca, settings.peer_cert, settings.peer_key, "peer")
    assert certificate is not None and key is not None
    host = settings.peer_address or settings.address or "0.0.0.0"
    return GrpcPeers(f"{host}:{settings.peer_port}", PeerTls(ca, certificate, key), clock.now)


def _tls_files(ca: str, cert: str | None, key: str | None, of: str) -> tuple[bytes, bytes | None, bytes | None]:
    if (cert is None) != (key is None):
        raise BadStart(f"--{of}-cert and --{of}-key go together")
    certificate = Path(cert).read_bytes() if cert is not None else None
    return Path(ca).read_bytes(), certificate, read_secret(f"--{of}-key", key) if key is not None else None


def main(birth: Birth) -> int:
    """Runs the agent. Raises BadStart."""

    async def run() -> None:
        await Agent(birth).run()

    configure()
    try:
        # asyncio's own loop: grpc.aio is made for it, and the agent has no hot path.
        asyncio.run(run())
    except* PeerPortTaken as taken:
        raise BadStart(str(first(taken))) from None
    return 0
