from meridian_proto.v1 import health_pb2 as _health_pb2
from meridian_proto.v1 import spending_pb2 as _spending_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Frame(_message.Message):
    __slots__ = ("sequence", "hello", "config", "verdict", "endpoint_health", "allowance", "drain", "config_ack", "spans", "metrics", "confirmed", "spenders", "letters", "zone_keys", "candidate", "trial", "candidate_ack", "tallies", "cookie_secrets", "ticket_secrets", "explain_request", "purges", "explained", "proofs", "proofs_held", "obtained")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_HEALTH_FIELD_NUMBER: _ClassVar[int]
    ALLOWANCE_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    CONFIG_ACK_FIELD_NUMBER: _ClassVar[int]
    SPANS_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    CONFIRMED_FIELD_NUMBER: _ClassVar[int]
    SPENDERS_FIELD_NUMBER: _ClassVar[int]
    LETTERS_FIELD_NUMBER: _ClassVar[int]
    ZONE_KEYS_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    TRIAL_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_ACK_FIELD_NUMBER: _ClassVar[int]
    TALLIES_FIELD_NUMBER: _ClassVar[int]
    COOKIE_SECRETS_FIELD_NUMBER: _ClassVar[int]
    TICKET_SECRETS_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_REQUEST_FIELD_NUMBER: _ClassVar[int]
    PURGES_FIELD_NUMBER: _ClassVar[int]
    EXPLAINED_FIELD_NUMBER: _ClassVar[int]
    PROOFS_FIELD_NUMBER: _ClassVar[int]
    PROOFS_HELD_FIELD_NUMBER: _ClassVar[int]
    OBTAINED_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    hello: Hello
    config: Config
    verdict: _health_pb2.Verdict
    endpoint_health: EndpointHealth
    allowance: _spending_pb2.Allowance
    drain: Drain
    config_ack: ConfigAck
    spans: Spans
    metrics: Metrics
    confirmed: _spending_pb2.Confirmed
    spenders: _spending_pb2.Spenders
    letters: _spending_pb2.Letters
    zone_keys: ZoneKeys
    candidate: Config
    trial: Trial
    candidate_ack: ConfigAck
    tallies: Tallies
    cookie_secrets: CookieSecrets
    ticket_secrets: TicketSecrets
    explain_request: ExplainRequest
    purges: Purges
    explained: Explained
    proofs: Proofs
    proofs_held: ProofsHeld
    obtained: Obtained
    def __init__(self, sequence: _Optional[int] = ..., hello: _Optional[_Union[Hello, _Mapping]] = ..., config: _Optional[_Union[Config, _Mapping]] = ..., verdict: _Optional[_Union[_health_pb2.Verdict, _Mapping]] = ..., endpoint_health: _Optional[_Union[EndpointHealth, _Mapping]] = ..., allowance: _Optional[_Union[_spending_pb2.Allowance, _Mapping]] = ..., drain: _Optional[_Union[Drain, _Mapping]] = ..., config_ack: _Optional[_Union[ConfigAck, _Mapping]] = ..., spans: _Optional[_Union[Spans, _Mapping]] = ..., metrics: _Optional[_Union[Metrics, _Mapping]] = ..., confirmed: _Optional[_Union[_spending_pb2.Confirmed, _Mapping]] = ..., spenders: _Optional[_Union[_spending_pb2.Spenders, _Mapping]] = ..., letters: _Optional[_Union[_spending_pb2.Letters, _Mapping]] = ..., zone_keys: _Optional[_Union[ZoneKeys, _Mapping]] = ..., candidate: _Optional[_Union[Config, _Mapping]] = ..., trial: _Optional[_Union[Trial, _Mapping]] = ..., candidate_ack: _Optional[_Union[ConfigAck, _Mapping]] = ..., tallies: _Optional[_Union[Tallies, _Mapping]] = ..., cookie_secrets: _Optional[_Union[CookieSecrets, _Mapping]] = ..., ticket_secrets: _Optional[_Union[TicketSecrets, _Mapping]] = ..., explain_request: _Optional[_Union[ExplainRequest, _Mapping]] = ..., purges: _Optional[_Union[Purges, _Mapping]] = ..., explained: _Optional[_Union[Explained, _Mapping]] = ..., proofs: _Optional[_Union[Proofs, _Mapping]] = ..., proofs_held: _Optional[_Union[ProofsHeld, _Mapping]] = ..., obtained: _Optional[_Union[Obtained, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol", "kind", "slot", "config_version", "pid")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    CONFIG_VERSION_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    kind: str
    slot: int
    config_version: int
    pid: int
    def __init__(self, protocol: _Optional[int] = ..., kind: _Optional[str] = ..., slot: _Optional[int] = ..., config_version: _Optional[int] = ..., pid: _Optional[int] = ...) -> None: ...

class Config(_message.Message):
    __slots__ = ("version", "document", "files")
    class FilesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    version: int
    document: bytes
    files: _containers.ScalarMap[str, bytes]
    def __init__(self, version: _Optional[int] = ..., document: _Optional[bytes] = ..., files: _Optional[_Mapping[str, bytes]] = ...) -> None: ...

class ConfigAck(_message.Message):
    __slots__ = ("version", "refused")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    version: int
    refused: str
    def __init__(self, version: _Optional[int] = ..., refused: _Optional[str] = ...) -> None: ...

class EndpointHealth(_message.Message):
    __slots__ = ("down",)
    DOWN_FIELD_NUMBER: _ClassVar[int]
    down: _containers.RepeatedCompositeFieldContainer[DownEndpoint]
    def __init__(self, down: _Optional[_Iterable[_Union[DownEndpoint, _Mapping]]] = ...) -> None: ...

class DownEndpoint(_message.Message):
    __slots__ = ("upstream", "address")
    UPSTREAM_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    upstream: str
    address: str
    def __init__(self, upstream: _Optional[str] = ..., address: _Optional[str] = ...) -> None: ...

class ZoneKeys(_message.Message):
    __slots__ = ("zones",)
    ZONES_FIELD_NUMBER: _ClassVar[int]
    zones: _containers.RepeatedCompositeFieldContainer[SignedZone]
    def __init__(self, zones: _Optional[_Iterable[_Union[SignedZone, _Mapping]]] = ...) -> None: ...

class SignedZone(_message.Message):
    __slots__ = ("zone", "keys", "leaving")
    ZONE_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    zone: str
    keys: _containers.RepeatedCompositeFieldContainer[ZoneKey]
    leaving: bool
    def __init__(self, zone: _Optional[str] = ..., keys: _Optional[_Iterable[_Union[ZoneKey, _Mapping]]] = ..., leaving: _Optional[bool] = ...) -> None: ...

class ZoneKey(_message.Message):
    __slots__ = ("algorithm", "private_key", "entry_point", "signs_keys", "signs_zone", "offered")
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    PRIVATE_KEY_FIELD_NUMBER: _ClassVar[int]
    ENTRY_POINT_FIELD_NUMBER: _ClassVar[int]
    SIGNS_KEYS_FIELD_NUMBER: _ClassVar[int]
    SIGNS_ZONE_FIELD_NUMBER: _ClassVar[int]
    OFFERED_FIELD_NUMBER: _ClassVar[int]
    algorithm: int
    private_key: bytes
    entry_point: bool
    signs_keys: bool
    signs_zone: bool
    offered: bool
    def __init__(self, algorithm: _Optional[int] = ..., private_key: _Optional[bytes] = ..., entry_point: _Optional[bool] = ..., signs_keys: _Optional[bool] = ..., signs_zone: _Optional[bool] = ..., offered: _Optional[bool] = ...) -> None: ...

class CookieSecrets(_message.Message):
    __slots__ = ("secrets",)
    SECRETS_FIELD_NUMBER: _ClassVar[int]
    secrets: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, secrets: _Optional[_Iterable[bytes]] = ...) -> None: ...

class TicketSecrets(_message.Message):
    __slots__ = ("secrets",)
    SECRETS_FIELD_NUMBER: _ClassVar[int]
    secrets: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, secrets: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Proofs(_message.Message):
    __slots__ = ("revision", "http", "texts")
    class HttpEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class TextsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: TextValues
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[TextValues, _Mapping]] = ...) -> None: ...
    REVISION_FIELD_NUMBER: _ClassVar[int]
    HTTP_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    revision: int
    http: _containers.ScalarMap[str, str]
    texts: _containers.MessageMap[str, TextValues]
    def __init__(self, revision: _Optional[int] = ..., http: _Optional[_Mapping[str, str]] = ..., texts: _Optional[_Mapping[str, TextValues]] = ...) -> None: ...

class TextValues(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, values: _Optional[_Iterable[str]] = ...) -> None: ...

class ProofsHeld(_message.Message):
    __slots__ = ("revision",)
    REVISION_FIELD_NUMBER: _ClassVar[int]
    revision: int
    def __init__(self, revision: _Optional[int] = ...) -> None: ...

class Obtained(_message.Message):
    __slots__ = ("pairs",)
    class PairsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Pair
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Pair, _Mapping]] = ...) -> None: ...
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    pairs: _containers.MessageMap[str, Pair]
    def __init__(self, pairs: _Optional[_Mapping[str, Pair]] = ...) -> None: ...

class Pair(_message.Message):
    __slots__ = ("chain", "key")
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    chain: bytes
    key: bytes
    def __init__(self, chain: _Optional[bytes] = ..., key: _Optional[bytes] = ...) -> None: ...

class Drain(_message.Message):
    __slots__ = ("on",)
    ON_FIELD_NUMBER: _ClassVar[int]
    on: bool
    def __init__(self, on: _Optional[bool] = ...) -> None: ...

class Spans(_message.Message):
    __slots__ = ("spans",)
    SPANS_FIELD_NUMBER: _ClassVar[int]
    spans: _containers.RepeatedCompositeFieldContainer[Span]
    def __init__(self, spans: _Optional[_Iterable[_Union[Span, _Mapping]]] = ...) -> None: ...

class Span(_message.Message):
    __slots__ = ("trace_id", "span_id", "parent_span_id", "name", "kind", "start_unix_nanoseconds", "end_unix_nanoseconds", "attributes", "numbers", "failed", "failure")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class NumbersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    SPAN_ID_FIELD_NUMBER: _ClassVar[int]
    PARENT_SPAN_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    START_UNIX_NANOSECONDS_FIELD_NUMBER: _ClassVar[int]
    END_UNIX_NANOSECONDS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes
    name: str
    kind: int
    start_unix_nanoseconds: int
    end_unix_nanoseconds: int
    attributes: _containers.ScalarMap[str, str]
    numbers: _containers.ScalarMap[str, int]
    failed: bool
    failure: str
    def __init__(self, trace_id: _Optional[bytes] = ..., span_id: _Optional[bytes] = ..., parent_span_id: _Optional[bytes] = ..., name: _Optional[str] = ..., kind: _Optional[int] = ..., start_unix_nanoseconds: _Optional[int] = ..., end_unix_nanoseconds: _Optional[int] = ..., attributes: _Optional[_Mapping[str, str]] = ..., numbers: _Optional[_Mapping[str, int]] = ..., failed: _Optional[bool] = ..., failure: _Optional[str] = ...) -> None: ...

class Metrics(_message.Message):
    __slots__ = ("series",)
    SERIES_FIELD_NUMBER: _ClassVar[int]
    series: _containers.RepeatedCompositeFieldContainer[Series]
    def __init__(self, series: _Optional[_Iterable[_Union[Series, _Mapping]]] = ...) -> None: ...

class Series(_message.Message):
    __slots__ = ("name", "kind", "help", "labels", "value", "bounds", "counts", "sum")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    HELP_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    BOUNDS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    SUM_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: str
    help: str
    labels: _containers.ScalarMap[str, str]
    value: float
    bounds: _containers.RepeatedScalarFieldContainer[float]
    counts: _containers.RepeatedScalarFieldContainer[int]
    sum: float
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[str] = ..., help: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., value: _Optional[float] = ..., bounds: _Optional[_Iterable[float]] = ..., counts: _Optional[_Iterable[int]] = ..., sum: _Optional[float] = ...) -> None: ...

class Trial(_message.Message):
    __slots__ = ("version", "generation", "share")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    version: int
    generation: int
    share: float
    def __init__(self, version: _Optional[int] = ..., generation: _Optional[int] = ..., share: _Optional[float] = ...) -> None: ...

class Tallies(_message.Message):
    __slots__ = ("generation", "current", "candidate", "samples")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    generation: int
    current: _containers.RepeatedCompositeFieldContainer[Tally]
    candidate: _containers.RepeatedCompositeFieldContainer[Tally]
    samples: _containers.RepeatedCompositeFieldContainer[Sample]
    def __init__(self, generation: _Optional[int] = ..., current: _Optional[_Iterable[_Union[Tally, _Mapping]]] = ..., candidate: _Optional[_Iterable[_Union[Tally, _Mapping]]] = ..., samples: _Optional[_Iterable[_Union[Sample, _Mapping]]] = ...) -> None: ...

class Sample(_message.Message):
    __slots__ = ("of", "share", "current", "candidate")
    OF_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    of: str
    share: float
    current: Tally
    candidate: Tally
    def __init__(self, of: _Optional[str] = ..., share: _Optional[float] = ..., current: _Optional[_Union[Tally, _Mapping]] = ..., candidate: _Optional[_Union[Tally, _Mapping]] = ...) -> None: ...

class Tally(_message.Message):
    __slots__ = ("route", "exchanges", "failed", "rejected", "unrouted", "refused", "slower")
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    EXCHANGES_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    UNROUTED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    SLOWER_FIELD_NUMBER: _ClassVar[int]
    route: str
    exchanges: int
    failed: int
    rejected: int
    unrouted: int
    refused: int
    slower: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, route: _Optional[str] = ..., exchanges: _Optional[int] = ..., failed: _Optional[int] = ..., rejected: _Optional[int] = ..., unrouted: _Optional[int] = ..., refused: _Optional[int] = ..., slower: _Optional[_Iterable[int]] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("number", "method", "tls", "port", "authority", "target", "headers", "client")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    TLS_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    number: int
    method: str
    tls: bool
    port: int
    authority: str
    target: str
    headers: _containers.RepeatedCompositeFieldContainer[Field]
    client: str
    def __init__(self, number: _Optional[int] = ..., method: _Optional[str] = ..., tls: _Optional[bool] = ..., port: _Optional[int] = ..., authority: _Optional[str] = ..., target: _Optional[str] = ..., headers: _Optional[_Iterable[_Union[Field, _Mapping]]] = ..., client: _Optional[str] = ...) -> None: ...

class Field(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: bytes
    value: bytes
    def __init__(self, name: _Optional[bytes] = ..., value: _Optional[bytes] = ...) -> None: ...

class Explained(_message.Message):
    __slots__ = ("number", "explanation", "refused")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    number: int
    explanation: bytes
    refused: str
    def __init__(self, number: _Optional[int] = ..., explanation: _Optional[bytes] = ..., refused: _Optional[str] = ...) -> None: ...

class Purges(_message.Message):
    __slots__ = ("number", "orders")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ORDERS_FIELD_NUMBER: _ClassVar[int]
    number: int
    orders: _containers.RepeatedCompositeFieldContainer[Purge]
    def __init__(self, number: _Optional[int] = ..., orders: _Optional[_Iterable[_Union[Purge, _Mapping]]] = ...) -> None: ...

class Purge(_message.Message):
    __slots__ = ("number", "route", "host", "path", "path_prefix", "tag")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    PATH_PREFIX_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    number: int
    route: str
    host: str
    path: str
    path_prefix: str
    tag: str
    def __init__(self, number: _Optional[int] = ..., route: _Optional[str] = ..., host: _Optional[str] = ..., path: _Optional[str] = ..., path_prefix: _Optional[str] = ..., tag: _Optional[str] = ...) -> None: ...
