"""Nothing is lost between core and proto, and workers can use it without grpc."""

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from meridian.control.messages import (
    decode_verdict,
    encode_verdict,
    report_from_proto,
    report_to_proto,
    verdict_from_proto,
    verdict_to_proto,
)
from meridian.core.health import Sight
from meridian.core.verdicts import NodeVerdict, RegionVerdict, Report, Standing, Verdict
from meridian_proto.v1 import health_pb2

NAMES = st.text("abc-1", min_size=1, max_size=6)
STANDINGS = st.sampled_from(Standing)


@given(
    st.integers(0, 2**62),
    st.integers(0, 2**62),
    st.dictionaries(NAMES, st.tuples(NAMES, st.tuples(NAMES, NAMES), STANDINGS, NAMES)),
    st.dictionaries(NAMES, st.tuples(STANDINGS, NAMES)),
)
def test_verdicts_survive(
    fence: int,
    version: int,
    nodes: dict[str, tuple[str, tuple[str, str], Standing, str]],
    regions: dict[str, tuple[Standing, str]],
) -> None:
    verdict = Verdict(
        fence,
        version,
        {name: NodeVerdict(name, *rest) for name, rest in nodes.items()},
        {name: RegionVerdict(name, *rest) for name, rest in regions.items()},
        "leader",
    )
    assert decode_verdict(encode_verdict(verdict)) == verdict


@given(st.dictionaries(NAMES, st.sampled_from(Sight)), st.booleans(), st.booleans(), st.integers(0, 2**60))
def test_reports_survive(sights: dict[str, Sight], draining: bool, serving: bool, sequence: int) -> None:
    report = Report("a", "eu", "a.1", 4, sequence, sights, draining, serving, 0.25)
    message = health_pb2.Report.FromString(report_to_proto(report, 0.25).SerializeToString())
    assert report_from_proto(message) == report


def test_numbers_from_a_newer_node_are_read_as_harmless() -> None:
    message = verdict_to_proto(Verdict(1, 1, {"a": NodeVerdict("a", "eu", (), Standing.DRAINING)}))
    message.nodes[0].standing = 99  # type: ignore[assignment]  # as it arrives from the wire
    assert verdict_from_proto(message).nodes["a"].standing is Standing.SERVING


def test_workers_can_use_it_without_grpc() -> None:
    program = "import sys, meridian.control.messages; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=30).returncode == 0
