from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Sight(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SIGHT_UNKNOWN: _ClassVar[Sight]
    SIGHT_UP: _ClassVar[Sight]
    SIGHT_DOWN: _ClassVar[Sight]

class Standing(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STANDING_SERVING: _ClassVar[Standing]
    STANDING_SUSPECT: _ClassVar[Standing]
    STANDING_DRAINING: _ClassVar[Standing]
    STANDING_WITHDRAWN: _ClassVar[Standing]
SIGHT_UNKNOWN: Sight
SIGHT_UP: Sight
SIGHT_DOWN: Sight
STANDING_SERVING: Standing
STANDING_SUSPECT: Standing
STANDING_DRAINING: Standing
STANDING_WITHDRAWN: Standing

class Report(_message.Message):
    __slots__ = ("observer", "region", "node_id", "epoch", "sequence", "nodes", "draining", "age_seconds", "serving", "heard", "dark", "withdrawn", "witness", "fence", "version", "load", "capacity", "round_trips")
    class NodesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Sight
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Sight, str]] = ...) -> None: ...
    class HeardEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class RoundTripsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    OBSERVER_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    AGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SERVING_FIELD_NUMBER: _ClassVar[int]
    HEARD_FIELD_NUMBER: _ClassVar[int]
    DARK_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWN_FIELD_NUMBER: _ClassVar[int]
    WITNESS_FIELD_NUMBER: _ClassVar[int]
    FENCE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    ROUND_TRIPS_FIELD_NUMBER: _ClassVar[int]
    observer: str
    region: str
    node_id: str
    epoch: int
    sequence: int
    nodes: _containers.ScalarMap[str, Sight]
    draining: bool
    age_seconds: float
    serving: bool
    heard: _containers.ScalarMap[str, float]
    dark: _containers.RepeatedScalarFieldContainer[str]
    withdrawn: _containers.RepeatedScalarFieldContainer[str]
    witness: bool
    fence: int
    version: int
    load: float
    capacity: float
    round_trips: _containers.ScalarMap[str, float]
    def __init__(self, observer: _Optional[str] = ..., region: _Optional[str] = ..., node_id: _Optional[str] = ..., epoch: _Optional[int] = ..., sequence: _Optional[int] = ..., nodes: _Optional[_Mapping[str, Sight]] = ..., draining: _Optional[bool] = ..., age_seconds: _Optional[float] = ..., serving: _Optional[bool] = ..., heard: _Optional[_Mapping[str, float]] = ..., dark: _Optional[_Iterable[str]] = ..., withdrawn: _Optional[_Iterable[str]] = ..., witness: _Optional[bool] = ..., fence: _Optional[int] = ..., version: _Optional[int] = ..., load: _Optional[float] = ..., capacity: _Optional[float] = ..., round_trips: _Optional[_Mapping[str, float]] = ...) -> None: ...

class NodeVerdict(_message.Message):
    __slots__ = ("name", "region", "addresses", "standing", "reason", "age_seconds", "penalty", "keeps")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    STANDING_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    AGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    PENALTY_FIELD_NUMBER: _ClassVar[int]
    KEEPS_FIELD_NUMBER: _ClassVar[int]
    name: str
    region: str
    addresses: _containers.RepeatedScalarFieldContainer[str]
    standing: Standing
    reason: str
    age_seconds: float
    penalty: float
    keeps: bool
    def __init__(self, name: _Optional[str] = ..., region: _Optional[str] = ..., addresses: _Optional[_Iterable[str]] = ..., standing: _Optional[_Union[Standing, str]] = ..., reason: _Optional[str] = ..., age_seconds: _Optional[float] = ..., penalty: _Optional[float] = ..., keeps: _Optional[bool] = ...) -> None: ...

class RegionVerdict(_message.Message):
    __slots__ = ("name", "standing", "reason", "age_seconds", "share", "demand", "moved_seconds")
    NAME_FIELD_NUMBER: _ClassVar[int]
    STANDING_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    AGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    DEMAND_FIELD_NUMBER: _ClassVar[int]
    MOVED_SECONDS_FIELD_NUMBER: _ClassVar[int]
    name: str
    standing: Standing
    reason: str
    age_seconds: float
    share: float
    demand: float
    moved_seconds: float
    def __init__(self, name: _Optional[str] = ..., standing: _Optional[_Union[Standing, str]] = ..., reason: _Optional[str] = ..., age_seconds: _Optional[float] = ..., share: _Optional[float] = ..., demand: _Optional[float] = ..., moved_seconds: _Optional[float] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("fence", "version", "nodes", "regions", "leader", "fallback", "beat", "distances")
    FENCE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    REGIONS_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_FIELD_NUMBER: _ClassVar[int]
    BEAT_FIELD_NUMBER: _ClassVar[int]
    DISTANCES_FIELD_NUMBER: _ClassVar[int]
    fence: int
    version: int
    nodes: _containers.RepeatedCompositeFieldContainer[NodeVerdict]
    regions: _containers.RepeatedCompositeFieldContainer[RegionVerdict]
    leader: str
    fallback: int
    beat: bool
    distances: _containers.RepeatedCompositeFieldContainer[Distance]
    def __init__(self, fence: _Optional[int] = ..., version: _Optional[int] = ..., nodes: _Optional[_Iterable[_Union[NodeVerdict, _Mapping]]] = ..., regions: _Optional[_Iterable[_Union[RegionVerdict, _Mapping]]] = ..., leader: _Optional[str] = ..., fallback: _Optional[int] = ..., beat: _Optional[bool] = ..., distances: _Optional[_Iterable[_Union[Distance, _Mapping]]] = ...) -> None: ...

class Distance(_message.Message):
    __slots__ = ("one", "other", "seconds", "age_seconds")
    ONE_FIELD_NUMBER: _ClassVar[int]
    OTHER_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    AGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    one: str
    other: str
    seconds: float
    age_seconds: float
    def __init__(self, one: _Optional[str] = ..., other: _Optional[str] = ..., seconds: _Optional[float] = ..., age_seconds: _Optional[float] = ...) -> None: ...
