"""What a gateway worker counts in a trial, between the data plane's counts and the channel's messages."""

from collections.abc import Iterable

from meridian.core.judging import BOUNDS_SECONDS, Tally
from meridian.gateway.trial import Counts
from meridian_proto.v1 import channel_pb2 as pb


def tallies_to_proto(generation: int, current: Counts, candidate: Counts) -> pb.Frame:
    """One frame with all that a trial has counted."""
    return pb.Frame(
        tallies=pb.Tallies(
            generation=generation,
            current=_counts_to_proto(current),
            candidate=_counts_to_proto(candidate),
        )
    )


def tallies_from_proto(tallies: Iterable[pb.Tally]) -> dict[str, Tally]:
    """By route."""
    return {
        one.route: Tally(one.exchanges, one.failed, one.rejected, one.unrouted, one.refused, tuple(one.slower))
        for one in tallies
        if len(one.slower) == len(BOUNDS_SECONDS)
    }


def _counts_to_proto(counts: Counts) -> list[pb.Tally]:
    return [
        pb.Tally(
            route=route,
            exchanges=count.exchanges,
            failed=count.failed,
            rejected=count.rejected,
            unrouted=count.unrouted,
            refused=count.refused,
            slower=count.slower,
        )
        for route, count in counts.routes.items()
    ]
