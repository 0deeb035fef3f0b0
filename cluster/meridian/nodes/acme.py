"""What agent and workers say of certificates that the cluster obtains: proofs for authorities, and what they gave.

All kinds of workers load this: it imports nothing of the store, and of DNS nothing.
"""

from collections.abc import Mapping, Sequence

from meridian.gateway.tls import Pair
from meridian_proto.v1 import channel_pb2 as pb
from meridian_proto.v1.channel_pb2 import Frame


def proofs_frame(revision: int, http: Mapping[str, str], texts: Mapping[str, Sequence[str]]) -> Frame:
    """All proofs, for gateway and DNS workers."""
    values = {name: pb.TextValues(values=found) for name, found in texts.items()}
    return Frame(proofs=pb.Proofs(revision=revision, http=http, texts=values))


def held_frame(proofs: pb.Proofs) -> Frame:
    """That a worker answers with them."""
    return Frame(proofs_held=pb.ProofsHeld(revision=proofs.revision))


def obtained_frame(pairs: Mapping[str, Pair]) -> Frame:
    """All certificates with their keys, private parts too: the channel is a socketpair of this node."""
    return Frame(obtained=pb.Obtained(pairs={id_: pb.Pair(chain=one[0], key=one[1]) for id_, one in pairs.items()}))


def pairs_of(obtained: pb.Obtained) -> dict[str, Pair]:
    """See obtained_frame."""
    return {id_: (pair.chain, pair.key) for id_, pair in obtained.pairs.items()}
