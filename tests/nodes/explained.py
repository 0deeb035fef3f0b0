"""A node's explainer over a small document, for tests of the node, its admin API and the command."""

from meridian.core.document import load
from meridian.core.snapshot import compile_snapshot
from meridian.core.verdicts import NodeVerdict, RegionVerdict, Standing, Verdict
from meridian.nodes.config_flow import Reading
from meridian.nodes.dns_explainer import DnsExplainer, Sources
from meridian.nodes.settings import Settings

DOCUMENT = """\
listeners: [{name: web, bind: "127.0.0.1:8080", protocols: [h1]}]
regions:
  - {name: eu, near: [203.0.113.0/24]}
  - {name: us}
zones:
  - name: gw.example.com
    nameservers: [ns1.gw.example.com, ns2.gw.example.com]
    records:
      - {name: shop, type: A, steer: {policy: geo, regions: [eu, us]}, ttl_seconds: 30}
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
