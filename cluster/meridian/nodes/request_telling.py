"""What a gateway worker says would become of a request."""

import msgspec

from meridian.gateway.explaining import Question
from meridian.gateway.gateway import Gateway
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
