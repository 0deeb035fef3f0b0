"""A node's explainers over a small document, for tests of the node, its admin API and the command."""

import asyncio
from collections.abc import Callable, Sequence

from meridian.core.document import load
from meridian.core.snapshot import compile_snapshot
from meridian.core.verdicts import NodeVerdict, RegionVerdict, Standing, Verdict
from meridian.gateway.gateway import Gateway
from meridian.gateway.outcome import Silent
from meridian.nodes.config_flow import Reading
from meridian.nodes.crew import WorkerState
from meridian.nodes.dns_explainer import DnsExplainer, Sources
from meridian.nodes.request_explainer import RequestExplainer
from meridian.nodes.request_telling import explained_frame
from meridian.nodes.settings import Settings
from meridian_proto.v1.channel_pb2 import Explained, Frame

DOCUMENT = """\
listeners: [{name: web, bind: "127.0.0.1:8080", protocols: [h1]}]
regions:
  - {name: eu, near: [203.0.113.0/24]}
  - {name: us}
upstreams:
  - {name: app, endpoints: [{address: "127.0.0.1:8000", region: eu}, {address: "127.0.0.1:8001", region: us}]}
  - {name: next, endpoints: [{address: "127.0.0.1:8002"}]}
limits: [{name: per-client, key: client_ip, rate: 1/h, burst: 1}]
routes:
  - {name: shop, match: {host: shop.example.com}, upstream: app, stages: [{limit: per-client}]}
  - name: canary
    match: {host: shop.example.com, headers: [{name: x-canary, exact: "yes"}]}
    upstream: next
  - {name: read, match: {host: shop.example.com, path_prefix: /read, methods: [GET]}, upstream: app}
dns: {views: [{name: office, networks: [10.0.0.0/8]}]}
zones:
  - name: gw.example.com
    view: office
    nameservers: [ns1.gw.example.com]
    records: [{name: desk, type: A, value: 10.0.0.9}]
  - name: gw.example.com
    nameservers: [ns1.gw.example.com, ns2.gw.example.com]
    records:
      - {name: shop, type: A, steer: {policy: geo, regions: [eu, us]}, ttl_seconds: 30}
      - {name: quick, type: A, steer: {policy: latency, regions: [eu, us]}, ttl_seconds: 30}
      - {name: www, type: CNAME, value: shop}
"""
VERDICT = Verdict(
    fence=1,
    version=17,
    nodes={
        "eu-1": NodeVerdict("eu-1", "eu", ("192.0.2.11",), Standing.WITHDRAWN, "silent, and seen down"),
        "eu-2": NodeVerdict("eu-2", "eu", ("192.0.2.12",), Standing.SERVING),
        "us-1": NodeVerdict("us-1", "us", ("192.0.2.21",), Standing.SERVING),
    },
    regions={"eu": RegionVerdict("eu", Standing.SERVING), "us": RegionVerdict("us", Standing.SERVING)},
    leader="us-1",
)


def reading(version: int = 3) -> Reading:
    """The document, as a node holds it."""
    document = load(DOCUMENT)
    return Reading(version, document, b"", {}, compile_snapshot(document, {}, version), (), {})


def desk(verdict: Verdict = VERDICT, worker_version: int | None = 3) -> DnsExplainer:
    """The explainer of node eu-2."""
    settings = Settings(name="eu-2", region="eu", advertise=("192.0.2.12",))
    return DnsExplainer(settings, lambda: Sources(reading(), verdict, {}, worker_version))


class TellingCrew:
    """One gateway worker in this process, which never listens. `mute`: it does not answer."""

    def __init__(self, tell: Callable[[Explained], None]) -> None:
        self.worker = WorkerState("gateway", 0, connected=True)
        self.gateway: Gateway | None = None
        self.mute = False
        self._tell = tell

    @property
    def workers(self) -> Sequence[WorkerState]:
        return [WorkerState("dns", 0, connected=True), self.worker]

    def send(self, frame: Frame, kind: str | None = None) -> None:
        raise NotImplementedError

    def send_to(self, kind: str, slot: int, frame: Frame) -> None:
        assert (kind, slot) == ("gateway", 0)
        if self.gateway is None:
            loop, snapshot = asyncio.get_running_loop(), reading().snapshot
            self.gateway = Gateway(snapshot, region="eu", worker=0, loop=loop, report=Silent(), node="eu-2")
        if not self.mute:
            self._tell(explained_frame(self.gateway, frame.explain_request).explained)


def request_desk() -> RequestExplainer:
    """The explainer of requests of node eu-2. Its crew is made when it is first asked."""
    crew: list[TellingCrew] = []
    desk = RequestExplainer(Settings(name="eu-2", region="eu", advertise=("192.0.2.12",)), lambda: crew[0])
    crew.append(TellingCrew(desk.on_explained))
    return desk
