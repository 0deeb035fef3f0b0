"""Invariant 6: gateways and DNS make the same of one verdict."""

from hypothesis import given
from hypothesis import strategies as st

from meridian.core.verdicts import NodeVerdict, RegionVerdict, Standing, Verdict
from meridian.nodes.dns_state import build_view
from meridian.nodes.gateway_worker import spill_of

REGIONS = ("eu", "us", "ap")
OWN = NodeVerdict("own", "eu", ("127.0.0.1",), Standing.SERVING)
SHARES = st.sampled_from([None, None, 0.05, 0.5, 1.0])


@given(st.lists(st.tuples(st.sampled_from(Standing), SHARES), min_size=3, max_size=3))
def test_dns_and_spill_over_send_the_same_part_to_every_region(kinds: list[tuple[Standing, float | None]]) -> None:
    regions = {
        name: RegionVerdict(name, standing, share=share) for name, (standing, share) in zip(REGIONS, kinds, strict=True)
    }
    verdict = Verdict(1, 9, {}, regions)
    left, doubted, shares = spill_of(verdict)
    view = build_view([], Verdict(1, 9, {n: NodeVerdict(n, n, (), Standing.SERVING) for n in REGIONS}, regions), OWN)
    assert view.version == verdict.version
    for name, region in view.regions.items():
        assert (name in left) is not region.serving
        assert (name in doubted) is region.suspect
        assert shares.get(name, 1.0) == region.share
        assert (shares.get(name, 1.0) if name not in left else 0.0) == regions[name].part
