"""A gRPC service with all four kinds of call, on grpcio's own server, and grpcio's client for it: no proto, bytes are
messages."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc


class Service:
    """Says back what it is told; remembers what it saw."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()
        self.seconds_left: list[float] = []
        self.calls = 0

    async def unary(self, request: bytes, context: Any) -> bytes:
        """As its request says: echo, fail, or wait."""
        self.calls += 1
        left = context.time_remaining()
        self.seconds_left.append(left if left is not None else float("inf"))
        if request.startswith(b"fail"):
            context.set_trailing_metadata((("x-detail", "because"),))
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as asked: \u00fc")
        if request == b"wait":
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        await context.send_initial_metadata((("x-first", "1"),))
        context.set_trailing_metadata((("x-last", "2"), ("x-sum-bin", bytes(range(256)))))
        return request

    async def to_one(self, requests: Any, context: Any) -> bytes:
        """Client streaming."""
        return b"%d" % sum([len(request) async for request in requests])

    async def to_many(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        """Server streaming: so many messages."""
        for number in range(int(request)):
            yield b"%d" % number

    async def both(self, requests: Any, context: Any) -> AsyncIterator[bytes]:
        """Bidirectional: answers each message before it reads the next."""
        async for request in requests:
            yield request

    def handlers(self) -> Any:
        """For a server."""
        return grpc.method_handlers_generic_handler("test.Echo", {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "ToOne": grpc.stream_unary_rpc_method_handler(self.to_one),
            "ToMany": grpc.unary_stream_rpc_method_handler(self.to_many),
            "Both": grpc.stream_stream_rpc_method_handler(self.both),
        })  # fmt: skip


@contextlib.asynccontextmanager
async def grpc_service(service: Service, port: int = 0) -> AsyncIterator[int]:
    """Serves it without TLS; gives its port."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((service.handlers(),))
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


class Calls:
    """The four kinds of call."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.unary = channel.unary_unary("/test.Echo/Unary")
        self.to_one = channel.stream_unary("/test.Echo/ToOne")
        self.to_many = channel.unary_stream("/test.Echo/ToMany")
        self.both = channel.stream_stream("/test.Echo/Both")


@contextlib.asynccontextmanager
async def grpc_calls(port: int, ca: str) -> AsyncIterator[Calls]:
    """A channel of its own to a gateway."""
    credentials = grpc.ssl_channel_credentials(Path(ca).read_bytes())
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0)]
    async with grpc.aio.secure_channel(f"localhost:{port}", credentials, options) as channel:
        yield Calls(channel)
