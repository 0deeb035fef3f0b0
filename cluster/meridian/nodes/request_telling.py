"""What agent and gateway worker say of single requests: what would become of one, and which answers to forget."""

import msgspec

from meridian.core.purging import Purge, Purges
from meridian.gateway.explaining import Question
from meridian.gateway.gateway import Gateway
from meridian_proto.v1 import channel_pb2 as pb
from meridian_proto.v1.channel_pb2 import Explained, ExplainRequest, Frame


def explained_frame(gateway: Gateway | None, asked: ExplainRequest) -> Frame:
    """What this worker would do with a request."""
    if gateway is None:
        return Frame(explained=Explained(number=asked.number, refused="this worker has no document yet"))
    question = Question(
        method=asked.method.encode(),
        tls=asked.tls,
        port=asked.port,
        authority=asked.authority.encode(),
        target=asked.target.encode(),
        headers=[(field.name, field.value) for field in asked.headers],
        client=asked.client,
    )
    explanation = msgspec.json.encode(gateway.explain(question))
    return Frame(explained=Explained(number=asked.number, explanation=explanation))


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
