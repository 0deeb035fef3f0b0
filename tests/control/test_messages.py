"""Nothing is lost between core and proto, and workers can use it without grpc."""

import subprocess
import sys
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from meridian.control.messages import (
    beat_to_proto,
    decode_verdict,
    encode_verdict,
    report_from_proto,
    report_to_proto,
    verdict_from_proto,
    verdict_to_proto,
)
from meridian.core.distances import REGIONS_MAX
from meridian.core.health import Sight
from meridian.core.standings import Distance, NodeVerdict, RegionVerdict, Report, Standing, Verdict
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


def test_what_is_kept_of_load_survives_and_no_share_is_not_none_of_the_clients() -> None:
    nodes = {"a": NodeVerdict("a", "eu", (), Standing.DRAINING, keeps=True)}
    regions = {
        "eu": RegionVerdict("eu", Standing.DRAINING, "", 90.0, 0.25, 800.0, 95.0),
        "us": RegionVerdict("us", Standing.SERVING, "", 90.0, None, 30.0, 80.0),
        "ap": RegionVerdict("ap", Standing.SERVING, "", 90.0),
    }
    verdict = Verdict(1, 2, nodes, regions)
    read = decode_verdict(encode_verdict(verdict, 100.0), 200.0)
    assert read == verdict
    assert [(one.demand, one.moved) for one in map(read.regions.get, ("eu", "us", "ap")) if one] == [
        (800.0, 195.0),
        (30.0, 180.0),
        (0.0, float("-inf")),
    ]
    report = Report("a", "eu", "a.1", 4, 1, {}, load=123.5, capacity=2000.0)
    assert report_from_proto(health_pb2.Report.FromString(report_to_proto(report, 0.0).SerializeToString())) == report


def test_what_reports_say_of_others_survives() -> None:
    report = Report("a", "eu", "a.1", 4, 1, {}, False, True, 0.0, {"b": 0.25}, frozenset("bc"), frozenset("c"))
    message = health_pb2.Report.FromString(report_to_proto(report, 0.0).SerializeToString())
    assert report_from_proto(message) == report


def test_distances_survive_and_travel_as_ages() -> None:
    sent = Verdict(1, 2, distances={("ap", "eu"): Distance(0.21, 90.0), ("eu", "us"): Distance(0.0801, 95.0)})
    read = decode_verdict(encode_verdict(sent, 100.0), 200.0)
    assert read == sent
    assert [held.taken for held in read.distances.values()] == [190.0, 195.0]


def test_a_distance_that_is_none_is_left_out() -> None:
    bad = {"nan": float("nan"), "less": -1.0, "far": 61.0}
    report = Report("a", "eu", "a.1", 4, 1, {}, round_trips={**bad, "us": 0.5})
    message = health_pb2.Report.FromString(report_to_proto(report, 0.0).SerializeToString())
    assert report_from_proto(message).round_trips == {"us": 0.5}
    many = replace(report, round_trips={str(number): 0.5 for number in range(REGIONS_MAX + 1)})
    assert len(report_from_proto(report_to_proto(many, 0.0)).round_trips) == REGIONS_MAX
    sent = Verdict(1, 2, distances={("eu", name): Distance(seconds) for name, seconds in bad.items()})
    assert decode_verdict(encode_verdict(sent)).distances == {}


def test_times_travel_as_ages() -> None:
    node = NodeVerdict("a", "eu", (), Standing.WITHDRAWN, "", changed=970.0, penalty=1.5)
    sent = Verdict(5, 1, {"a": node}, {"eu": RegionVerdict("eu", Standing.WITHDRAWN, "", changed=980.0)}, fallback=2)
    read = decode_verdict(encode_verdict(sent, 1000.0), 50.0)
    assert (read.nodes["a"].changed, read.nodes["a"].penalty, read.regions["eu"].changed) == (20.0, 1.5, 30.0)
    assert read == sent


def test_a_beat_is_small() -> None:
    message = beat_to_proto(2**40, 2**30)
    assert message.beat
    assert (message.fence, message.version) == (2**40, 2**30)
    assert message.ByteSize() < 24


def test_numbers_from_a_newer_node_are_read_as_harmless() -> None:
    message = verdict_to_proto(Verdict(1, 1, {"a": NodeVerdict("a", "eu", (), Standing.DRAINING)}))
    message.nodes[0].standing = 99  # type: ignore[assignment]  # as it arrives from the wire
    assert verdict_from_proto(message).nodes["a"].standing is Standing.SERVING


def test_workers_can_use_it_without_grpc() -> None:
    program = "import sys, meridian.control.messages; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=30).returncode == 0


def test_what_a_newer_leader_wrote_survives_an_older_one() -> None:
    node = {name: NodeVerdict(name, "eu", ("192.0.2.1",), Standing.SERVING, "") for name in "ab"}
    verdict = Verdict(3, 4, node, {"eu": RegionVerdict("eu", Standing.SERVING, "")}, "a")
    message = health_pb2.Verdict.FromString(encode_verdict(verdict))
    future = bytes([0xFA, 0x3F, 3]) + b"new"  # field 1023, of three bytes
    message.MergeFromString(future)
    for entry in (*message.nodes, *message.regions):
        entry.MergeFromString(future)
    older = Verdict(5, 5, {"a": node["a"]}, {"eu": RegionVerdict("eu", Standing.WITHDRAWN, "gone")}, "b")
    written = encode_verdict(older, over=message.SerializeToString())
    assert decode_verdict(written) == older
    assert written.count(future) == 3  # of the whole, of a, of eu; what is named no more is gone
    assert encode_verdict(older).count(future) == 0
