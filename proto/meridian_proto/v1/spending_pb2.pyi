from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LimitCut(_message.Message):
    __slots__ = ("seats", "slices", "homes", "alone_max", "lease_seconds", "loan_seconds", "drift")
    SEATS_FIELD_NUMBER: _ClassVar[int]
    SLICES_FIELD_NUMBER: _ClassVar[int]
    HOMES_FIELD_NUMBER: _ClassVar[int]
    ALONE_MAX_FIELD_NUMBER: _ClassVar[int]
    LEASE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    LOAN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DRIFT_FIELD_NUMBER: _ClassVar[int]
    seats: int
    slices: int
    homes: int
    alone_max: int
    lease_seconds: float
    loan_seconds: float
    drift: float
    def __init__(self, seats: _Optional[int] = ..., slices: _Optional[int] = ..., homes: _Optional[int] = ..., alone_max: _Optional[int] = ..., lease_seconds: _Optional[float] = ..., loan_seconds: _Optional[float] = ..., drift: _Optional[float] = ...) -> None: ...

class LimitRule(_message.Message):
    __slots__ = ("rate_per_second", "burst")
    RATE_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    BURST_FIELD_NUMBER: _ClassVar[int]
    rate_per_second: float
    burst: int
    def __init__(self, rate_per_second: _Optional[float] = ..., burst: _Optional[int] = ...) -> None: ...

class LimitValue(_message.Message):
    __slots__ = ("limit", "generation", "version", "current", "following")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    FOLLOWING_FIELD_NUMBER: _ClassVar[int]
    limit: str
    generation: int
    version: int
    current: LimitRule
    following: LimitRule
    def __init__(self, limit: _Optional[str] = ..., generation: _Optional[int] = ..., version: _Optional[int] = ..., current: _Optional[_Union[LimitRule, _Mapping]] = ..., following: _Optional[_Union[LimitRule, _Mapping]] = ...) -> None: ...

class Allowance(_message.Message):
    __slots__ = ("agent", "sequence", "home", "leased", "until", "values", "cut", "store_is_lost", "fresh", "alone")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    HOME_FIELD_NUMBER: _ClassVar[int]
    LEASED_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    CUT_FIELD_NUMBER: _ClassVar[int]
    STORE_IS_LOST_FIELD_NUMBER: _ClassVar[int]
    FRESH_FIELD_NUMBER: _ClassVar[int]
    ALONE_FIELD_NUMBER: _ClassVar[int]
    agent: str
    sequence: int
    home: _containers.RepeatedScalarFieldContainer[int]
    leased: _containers.RepeatedScalarFieldContainer[int]
    until: float
    values: _containers.RepeatedCompositeFieldContainer[LimitValue]
    cut: LimitCut
    store_is_lost: bool
    fresh: _containers.RepeatedScalarFieldContainer[int]
    alone: bool
    def __init__(self, agent: _Optional[str] = ..., sequence: _Optional[int] = ..., home: _Optional[_Iterable[int]] = ..., leased: _Optional[_Iterable[int]] = ..., until: _Optional[float] = ..., values: _Optional[_Iterable[_Union[LimitValue, _Mapping]]] = ..., cut: _Optional[_Union[LimitCut, _Mapping]] = ..., store_is_lost: _Optional[bool] = ..., fresh: _Optional[_Iterable[int]] = ..., alone: _Optional[bool] = ...) -> None: ...

class Confirmed(_message.Message):
    __slots__ = ("agent", "sequence")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    agent: str
    sequence: int
    def __init__(self, agent: _Optional[str] = ..., sequence: _Optional[int] = ...) -> None: ...

class Spenders(_message.Message):
    __slots__ = ("addresses", "sitting")
    class SittingEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: str
        def __init__(self, key: _Optional[int] = ..., value: _Optional[str] = ...) -> None: ...
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    SITTING_FIELD_NUMBER: _ClassVar[int]
    addresses: _containers.RepeatedScalarFieldContainer[str]
    sitting: _containers.ScalarMap[int, str]
    def __init__(self, addresses: _Optional[_Iterable[str]] = ..., sitting: _Optional[_Mapping[int, str]] = ...) -> None: ...

class Letters(_message.Message):
    __slots__ = ("letters",)
    LETTERS_FIELD_NUMBER: _ClassVar[int]
    letters: _containers.RepeatedCompositeFieldContainer[Letter]
    def __init__(self, letters: _Optional[_Iterable[_Union[Letter, _Mapping]]] = ...) -> None: ...

class Letter(_message.Message):
    __slots__ = ("to", "body")
    TO_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    to: str
    body: bytes
    def __init__(self, to: _Optional[str] = ..., body: _Optional[bytes] = ...) -> None: ...

class Spending(_message.Message):
    __slots__ = ("ask", "grant", "back", "consult", "consulted")
    ASK_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    BACK_FIELD_NUMBER: _ClassVar[int]
    CONSULT_FIELD_NUMBER: _ClassVar[int]
    CONSULTED_FIELD_NUMBER: _ClassVar[int]
    ask: Ask
    grant: Grant
    back: Back
    consult: Consult
    consulted: Consulted
    def __init__(self, ask: _Optional[_Union[Ask, _Mapping]] = ..., grant: _Optional[_Union[Grant, _Mapping]] = ..., back: _Optional[_Union[Back, _Mapping]] = ..., consult: _Optional[_Union[Consult, _Mapping]] = ..., consulted: _Optional[_Union[Consulted, _Mapping]] = ...) -> None: ...

class Ask(_message.Message):
    __slots__ = ("limit", "key", "borrower", "incarnation", "lender", "serial", "kept", "tokens", "generation", "version")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    BORROWER_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    LENDER_FIELD_NUMBER: _ClassVar[int]
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    limit: str
    key: str
    borrower: str
    incarnation: int
    lender: str
    serial: int
    kept: int
    tokens: float
    generation: int
    version: int
    def __init__(self, limit: _Optional[str] = ..., key: _Optional[str] = ..., borrower: _Optional[str] = ..., incarnation: _Optional[int] = ..., lender: _Optional[str] = ..., serial: _Optional[int] = ..., kept: _Optional[int] = ..., tokens: _Optional[float] = ..., generation: _Optional[int] = ..., version: _Optional[int] = ...) -> None: ...

class Grant(_message.Message):
    __slots__ = ("limit", "key", "borrower", "incarnation", "lender", "serial", "tokens", "spare")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    BORROWER_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    LENDER_FIELD_NUMBER: _ClassVar[int]
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    SPARE_FIELD_NUMBER: _ClassVar[int]
    limit: str
    key: str
    borrower: str
    incarnation: int
    lender: str
    serial: int
    tokens: float
    spare: float
    def __init__(self, limit: _Optional[str] = ..., key: _Optional[str] = ..., borrower: _Optional[str] = ..., incarnation: _Optional[int] = ..., lender: _Optional[str] = ..., serial: _Optional[int] = ..., tokens: _Optional[float] = ..., spare: _Optional[float] = ...) -> None: ...

class Back(_message.Message):
    __slots__ = ("limit", "key", "borrower", "incarnation", "lender", "kept")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    BORROWER_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    LENDER_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    limit: str
    key: str
    borrower: str
    incarnation: int
    lender: str
    kept: int
    def __init__(self, limit: _Optional[str] = ..., key: _Optional[str] = ..., borrower: _Optional[str] = ..., incarnation: _Optional[int] = ..., lender: _Optional[str] = ..., kept: _Optional[int] = ...) -> None: ...

class Consult(_message.Message):
    __slots__ = ("limit", "key", "asker", "number", "owner")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    ASKER_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    limit: str
    key: str
    asker: str
    number: int
    owner: str
    def __init__(self, limit: _Optional[str] = ..., key: _Optional[str] = ..., asker: _Optional[str] = ..., number: _Optional[int] = ..., owner: _Optional[str] = ...) -> None: ...

class Consulted(_message.Message):
    __slots__ = ("limit", "key", "asker", "number", "admitted", "level", "reset_seconds", "wait_seconds")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    ASKER_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ADMITTED_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    RESET_SECONDS_FIELD_NUMBER: _ClassVar[int]
    WAIT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    limit: str
    key: str
    asker: str
    number: int
    admitted: bool
    level: float
    reset_seconds: float
    wait_seconds: float
    def __init__(self, limit: _Optional[str] = ..., key: _Optional[str] = ..., asker: _Optional[str] = ..., number: _Optional[int] = ..., admitted: _Optional[bool] = ..., level: _Optional[float] = ..., reset_seconds: _Optional[float] = ..., wait_seconds: _Optional[float] = ...) -> None: ...
