from meridian_proto.v1 import health_pb2 as _health_pb2
from meridian_proto.v1 import spending_pb2 as _spending_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor

class Delivered(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
