"""Between the port's words and etcd's messages. Pure, both ways."""

from collections.abc import Iterable, Sequence

from meridian.core.upkeep import MemberHealth
from meridian.store.port import (
    Absent,
    Compare,
    CreatedAt,
    Delete,
    Event,
    Item,
    ModifiedAt,
    Op,
    Present,
    Put,
    ValueIs,
    encode_key,
    prefix_end,
)
from meridian_proto.v1 import etcd_pb2 as pb


def txn_request(when: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op]) -> pb.TxnRequest:
    return pb.TxnRequest(
        compare=[_compare(condition) for condition in when],
        success=[_operation(op) for op in then],
        failure=[_operation(op) for op in otherwise],
    )


def watch_request(prefix: str, start_revision: int) -> pb.WatchRequest:
    create = pb.WatchCreateRequest(
        key=encode_key(prefix), range_end=prefix_end(prefix), start_revision=start_revision, fragment=True
    )
    return pb.WatchRequest(create_request=create)


def item(kv: pb.KeyValue) -> Item:
    return Item(_decode_key(kv.key), kv.value, kv.create_revision, kv.mod_revision, kv.lease)


def events(messages: Iterable[pb.Event]) -> list[Event]:
    return [_event(message) for message in messages]


def member_health(endpoint: str, status: pb.StatusResponse) -> MemberHealth:
    """Returns what a member's status says, in words and numbers."""
    alarms = tuple(sorted({text.rpartition("alarm:")[2].strip() for text in status.errors if "alarm:" in text}))
    known = "knows a leader" if status.leader else "sees no leader"
    raised = "".join(f", alarm {alarm}" for alarm in alarms)
    return MemberHealth(
        endpoint,
        True,
        f"etcd {status.version}, {known}{raised}",
        knows_leader=bool(status.leader),
        leads=bool(status.leader) and status.leader == status.header.member_id,
        db_bytes=status.dbSize,
        used_bytes=status.dbSizeInUse,
        quota_bytes=status.dbSizeQuota,
        alarms=alarms,
    )


def _event(message: pb.Event) -> Event:
    kv = message.kv
    if message.type == pb.Event.DELETE:
        return Event(_decode_key(kv.key), None, kv.mod_revision)
    return Event(_decode_key(kv.key), kv.value, kv.mod_revision, kv.create_revision, kv.lease)


def _compare(condition: Compare) -> pb.Compare:
    key = encode_key(condition.key)
    match condition:
        case Absent():  # etcd compares an absent key as one that was created at revision 0
            return pb.Compare(result=pb.Compare.EQUAL, target=pb.Compare.CREATE, key=key, create_revision=0)
        case Present():
            return pb.Compare(result=pb.Compare.GREATER, target=pb.Compare.CREATE, key=key, create_revision=0)
        case CreatedAt(_, revision):
            return pb.Compare(result=pb.Compare.EQUAL, target=pb.Compare.CREATE, key=key, create_revision=revision)
        case ModifiedAt(_, revision):
            return pb.Compare(result=pb.Compare.EQUAL, target=pb.Compare.MOD, key=key, mod_revision=revision)
        case ValueIs(_, value):
            return pb.Compare(result=pb.Compare.EQUAL, target=pb.Compare.VALUE, key=key, value=value)


def _operation(op: Op) -> pb.RequestOp:
    if isinstance(op, Put):
        return pb.RequestOp(request_put=pb.PutRequest(key=encode_key(op.key), value=op.value, lease=op.lease))
    if isinstance(op, Delete):
        return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=encode_key(op.key)))
    range_ = pb.DeleteRangeRequest(key=encode_key(op.prefix), range_end=prefix_end(op.prefix))
    return pb.RequestOp(request_delete_range=range_)


def _decode_key(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")
