"""A real OTLP receiver for tests: a gRPC server on opentelemetry-proto that keeps the spans it is sent.

    with OtlpReceiver() as receiver:
        ... export to receiver.endpoint ...
        receiver.wait_for(lambda spans: len(spans) == 2, within_seconds=5)

It runs on grpc's own threads, so it serves whichever loop or process the exporter lives in.
"""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """One span as it came. `parent_span_id` is empty for a root; `kind` as in OTLP: 2 server, 3 client."""

    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes
    name: str
    kind: int
    start_unix_nanoseconds: int
    end_unix_nanoseconds: int
    attributes: dict[str, str | int | float | bool]
    resource: dict[str, str | int | float | bool]
    failed: bool
    failure: str


class OtlpReceiver(TraceServiceServicer):
    """Keeps every span sent to `endpoint` in `spans`; answers with a status if `refusing`, never if `hanging`."""

    def __init__(self, *, port: int = 0, credentials: grpc.ServerCredentials | None = None) -> None:
        """Listens on loopback from the start; `port` 0 chooses one."""
        self._arrived = threading.Condition()
        self._spans: list[ReceivedSpan] = []
        self.requests = 0
        self.refusing: grpc.StatusCode | None = None
        self.hanging = False
        self._released = threading.Event()
        self._server = grpc.server(ThreadPoolExecutor(4))
        add_TraceServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call] # generated code
        if credentials is None:
            self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        else:
            self.port = self._server.add_secure_port(f"127.0.0.1:{port}", credentials)
        self.endpoint = f"{'http' if credentials is None else 'https'}://localhost:{self.port}"

    def __enter__(self) -> Self:
        """Starts to answer."""
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stops, and lets go of who hangs."""
        self._released.set()
        self._server.stop(None).wait()

    @property
    def spans(self) -> tuple[ReceivedSpan, ...]:
        """All spans so far, in the order of their arrival."""
        with self._arrived:
            return tuple(self._spans)

    def wait_for(
        self, condition: Callable[[tuple[ReceivedSpan, ...]], object], *, within_seconds: float
    ) -> tuple[ReceivedSpan, ...]:
        """Blocks until `condition(spans)` holds and returns the spans; raises AssertionError at the deadline."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: condition(tuple(self._spans)), within_seconds):
                names = [span.name for span in self._spans]
                raise AssertionError(f"not within {within_seconds} s; spans that came: {names}")
            return tuple(self._spans)

    def Export(  # noqa: N802 - the name is the service's
        self, request: ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> ExportTraceServiceResponse:
        """The one method of OTLP's trace service."""
        self.requests += 1
        if self.hanging:
            self._released.wait()
        if self.refusing is not None:
            context.abort(self.refusing, "as the test asked")
        with self._arrived:
            for group in request.resource_spans:
                resource = _plain(group.resource.attributes)
                for scope in group.scope_spans:
                    for span in scope.spans:
                        self._spans.append(
                            ReceivedSpan(
                                span.trace_id,
                                span.span_id,
                                span.parent_span_id,
                                span.name,
                                span.kind,
                                span.start_time_unix_nano,
                                span.end_time_unix_nano,
                                _plain(span.attributes),
                                resource,
                                span.status.code == span.status.STATUS_CODE_ERROR,
                                span.status.message,
                            )
                        )
            self._arrived.notify_all()
        return ExportTraceServiceResponse()


def _plain(attributes: Iterable[KeyValue]) -> dict[str, str | int | float | bool]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value") or "string_value") for item in attributes}
