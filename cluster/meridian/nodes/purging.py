"""What agent and gateway workers say of answers that are to be forgotten."""

from meridian.core.purging import Purge, Purges
from meridian_proto.v1 import channel_pb2 as pb
from meridian_proto.v1.channel_pb2 import Frame


def purges_frame(purges: Purges) -> Frame:
    """The orders to purge, for workers."""
    orders = [
        pb.Purge(
            number=one.number, route=one.route, host=one.host, path=one.path, path_prefix=one.path_prefix, tag=one.tag
        )
        for one in purges.orders
    ]
    return Frame(purges=pb.Purges(number=purges.number, orders=orders))


def purges_from_proto(purges: pb.Purges) -> Purges:
    """See purges_frame."""
    orders = [Purge(one.number, one.route, one.host, one.path, one.path_prefix, one.tag) for one in purges.orders]
    return Purges(purges.number, tuple(orders))
