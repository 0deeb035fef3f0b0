"""What a worker counts in a trial, between core/judging and the channel's messages."""

from collections.abc import Iterable, Mapping

from meridian.core.judging import BOUNDS_SECONDS, Arms, Sample, Tally
from meridian_proto.v1 import channel_pb2 as pb


def arms_to_proto(generation: int, arms: Arms) -> pb.Frame:
    """One frame with all that a trial has counted."""
    samples = [
        pb.Sample(
            of=of,
            share=sample.share,
            current=_tally_to_proto("", sample.current),
            candidate=_tally_to_proto("", sample.candidate),
        )
        for of, sample in arms.samples.items()
    ]
    return pb.Frame(
        tallies=pb.Tallies(
            generation=generation,
            current=_tallies_to_proto(arms.current),
            candidate=_tallies_to_proto(arms.candidate),
            samples=samples,
        )
    )


def arms_from_proto(share: float, tallies: pb.Tallies) -> Arms:
    """What one worker has counted where the candidate takes `share` of the exchanges."""
    samples = {
        sample.of: Sample(sample.share, _tally_from_proto(sample.current), _tally_from_proto(sample.candidate))
        for sample in tallies.samples
        if _is_comparable(sample.current) and _is_comparable(sample.candidate)
    }
    return Arms(share, _tallies_from_proto(tallies.current), _tallies_from_proto(tallies.candidate), samples)


def _tallies_to_proto(tallies: Mapping[str, Tally]) -> list[pb.Tally]:
    return [_tally_to_proto(route, tally) for route, tally in tallies.items()]


def _tallies_from_proto(tallies: Iterable[pb.Tally]) -> dict[str, Tally]:
    return {one.route: _tally_from_proto(one) for one in tallies if _is_comparable(one)}


def _tally_to_proto(route: str, tally: Tally) -> pb.Tally:
    return pb.Tally(
        route=route,
        exchanges=tally.exchanges,
        failed=tally.failed,
        rejected=tally.rejected,
        unrouted=tally.unrouted,
        refused=tally.refused,
        slower=tally.slower,
    )


def _tally_from_proto(one: pb.Tally) -> Tally:
    return Tally(one.exchanges, one.failed, one.rejected, one.unrouted, one.refused, tuple(one.slower))


def _is_comparable(tally: pb.Tally) -> bool:
    return len(tally.slower) == len(BOUNDS_SECONDS)
