"""gRPC's own list of interoperability cases (grpc/grpc, doc/interop-test-descriptions.md), between grpcio's client and
server with the gateway in between. Messages are bytes: a request that asks for something says so in JSON.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from tests.gateway.grpc_service import grpc_calls
from tests.gateway.harness import secure

FLOOR = 22
"""Cases that are kept; less is red."""

NOT_RUN = {
    "cacheable_unary": "GET is of an experiment that has ended",
    "compute_engine_creds, jwt_token_creds, oauth2_auth_token, per_rpc_creds, google_default_credentials,"
    " compute_engine_channel_credentials": "they need Google's servers",
    "orca_per_rpc, orca_oob, rpc_behavior, pick_first_unary": "of load balancing by the client",
}

SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \U0001f608\t\n"
LARGE_REQUEST, LARGE_RESPONSE = bytes(271_828), 314_159
SIZES_UP, SIZES_DOWN = (27_182, 8, 1_828, 45_904), (31_415, 9, 2_653, 58_979)
INITIAL, TRAILING = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"


async def _as_asked(request: bytes, context: Any) -> bytes:
    """Metadata back, then a status, a nap, or so many bytes."""
    given = dict(context.invocation_metadata() or ())
    if INITIAL in given:
        await context.send_initial_metadata(((INITIAL, given[INITIAL]),))
    if TRAILING in given:
        context.set_trailing_metadata(((TRAILING, given[TRAILING]),))
    asked = json.loads(request) if request[:1] == b"{" else {}
    if "code" in asked:
        await context.abort(next(code for code in grpc.StatusCode if code.value[0] == asked["code"]), asked["message"])
    if asked.get("compress"):
        context.set_compression(grpc.Compression.Gzip)
    await asyncio.sleep(asked.get("sleep", 0))
    return bytes(asked.get("size", len(request)))


class Service:
    """grpc.testing.TestService, as far as the cases ask."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()

    async def unary(self, request: bytes, context: Any) -> bytes:
        """UnaryCall and EmptyCall."""
        return await _as_asked(request, context)

    async def to_one(self, requests: Any, context: Any) -> bytes:
        """StreamingInputCall."""
        try:
            return b"%d" % sum([len(request) async for request in requests])
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def to_many(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        """StreamingOutputCall."""
        asked = json.loads(request)
        if asked.get("compress"):
            context.set_compression(grpc.Compression.Gzip)
        for size in asked["sizes"]:
            yield bytes(size)

    async def both(self, requests: Any, context: Any) -> AsyncIterator[bytes]:
        """FullDuplexCall."""
        try:
            async for request in requests:
                yield await _as_asked(request, context)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


def asking(**words: Any) -> bytes:
    """A request that asks for these."""
    return json.dumps(words).encode()


async def sized(*sizes: int) -> AsyncIterator[bytes]:
    """Messages of these sizes."""
    for size in sizes:
        yield bytes(size)


async def refusal(call: Awaitable[Any]) -> tuple[grpc.StatusCode, str]:
    """The status that a call ends with."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


class Cases:
    """Each named as gRPC names it. A case that fails raises."""

    def __init__(self, channel: Any, service: Service) -> None:
        self.channel, self.service = channel, service
        self.unary = channel.unary_unary("/test/Unary")
        self.to_one = channel.stream_unary("/test/ToOne")
        self.to_many = channel.unary_stream("/test/ToMany")
        self.both = channel.stream_stream("/test/Both")

    async def empty_unary(self) -> None:
        assert await self.unary(b"") == b""

    async def large_unary(self) -> None:
        assert len(await self.unary(asking(size=LARGE_RESPONSE, payload="x" * 271_828))) == LARGE_RESPONSE

    async def client_compressed_unary(self) -> None:
        assert len(await self.unary(LARGE_REQUEST, compression=grpc.Compression.Gzip)) == len(LARGE_REQUEST)

    async def server_compressed_unary(self) -> None:
        assert len(await self.unary(asking(size=LARGE_RESPONSE, compress=True))) == LARGE_RESPONSE

    async def client_streaming(self) -> None:
        assert await self.to_one(sized(*SIZES_UP)) == b"%d" % sum(SIZES_UP)

    async def client_compressed_streaming(self) -> None:
        assert await self.to_one(sized(*SIZES_UP), compression=grpc.Compression.Gzip) == b"%d" % sum(SIZES_UP)

    async def server_streaming(self) -> None:
        assert [len(one) async for one in self.to_many(asking(sizes=SIZES_DOWN))] == [*SIZES_DOWN]

    async def server_compressed_streaming(self) -> None:
        assert [len(one) async for one in self.to_many(asking(sizes=SIZES_DOWN, compress=True))] == [*SIZES_DOWN]

    async def ping_pong(self) -> None:
        call = self.both()
        for up, down in zip(SIZES_UP, SIZES_DOWN, strict=True):
            await call.write(asking(size=down, payload="x" * up))
            assert len(await call.read()) == down
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.OK

    async def empty_stream(self) -> None:
        call = self.both()
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF and await call.code() is grpc.StatusCode.OK

    async def custom_metadata(self) -> None:
        metadata = ((INITIAL, "test_initial_metadata_value"), (TRAILING, b"\xab\xab\xab"))
        one, many = self.unary(b"", metadata=metadata), self.both(sized(1), metadata=metadata)
        assert await one == b"" and [message async for message in many] == [bytes(1)]
        for call in (one, many):
            assert (await call.initial_metadata())[INITIAL] == "test_initial_metadata_value"
            assert (await call.trailing_metadata())[TRAILING] == b"\xab\xab\xab"

    async def status_code_and_message(self) -> None:
        asked = asking(code=2, message="test status message")
        assert await refusal(self.unary(asked)) == (grpc.StatusCode.UNKNOWN, "test status message")
        call = self.both()
        await call.write(asked)
        assert await call.code() is grpc.StatusCode.UNKNOWN and await call.details() == "test status message"

    async def special_status_message(self) -> None:
        assert await refusal(self.unary(asking(code=2, message=SPECIAL))) == (grpc.StatusCode.UNKNOWN, SPECIAL)

    async def every_status(self) -> None:
        for code in grpc.StatusCode:
            if code is not grpc.StatusCode.OK:
                assert await refusal(self.unary(asking(code=code.value[0], message="m"))) == (code, "m")

    async def unimplemented_method(self) -> None:
        assert (await refusal(self.channel.unary_unary("/test/None")(b"")))[0] is grpc.StatusCode.UNIMPLEMENTED

    async def unimplemented_service(self) -> None:
        assert (await refusal(self.channel.unary_unary("/none/Unary")(b"")))[0] is grpc.StatusCode.UNIMPLEMENTED

    async def cancel_after_begin(self) -> None:
        self.service.cancelled.clear()
        call = self.to_one()
        await call.write(b"")
        call.cancel()
        assert await call.code() is grpc.StatusCode.CANCELLED

    async def cancel_after_first_response(self) -> None:
        self.service.cancelled.clear()
        call = self.both()
        await call.write(asking(size=31_415))
        assert len(await call.read()) == 31_415
        call.cancel()
        assert await call.code() is grpc.StatusCode.CANCELLED
        await asyncio.wait_for(self.service.cancelled.wait(), 10)

    async def timeout_on_sleeping_server(self) -> None:
        code, _ = await refusal(self.unary(asking(sleep=20), timeout=0.2))
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED

    async def concurrent_large_unary(self) -> None:
        found = await asyncio.gather(*(self.unary(LARGE_REQUEST) for _ in range(30)))
        assert {len(one) for one in found} == {len(LARGE_REQUEST)}

    async def rpc_soak(self) -> None:
        for _ in range(50):
            assert len(await self.unary(asking(size=1000))) == 1000

    async def trailers_only(self) -> None:
        call = self.unary(asking(code=5, message="no"))
        assert await call.code() is grpc.StatusCode.NOT_FOUND


async def test_cases() -> None:
    service = Service()
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((
        grpc.method_handlers_generic_handler("test", {
            "Unary": grpc.unary_unary_rpc_method_handler(service.unary),
            "ToOne": grpc.stream_unary_rpc_method_handler(service.to_one),
            "ToMany": grpc.unary_stream_rpc_method_handler(service.to_many),
            "Both": grpc.stream_stream_rpc_method_handler(service.both),
        }),
    ))  # fmt: skip
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    failed: list[str] = []
    try:
        async with secure(port, protocol="h2") as (running, ca), grpc_calls(running.port, ca) as calls:
            cases = Cases(calls.channel, service)
            named: dict[str, Callable[[], Awaitable[None]]] = {
                name: getattr(cases, name) for name, made in vars(Cases).items() if asyncio.iscoroutinefunction(made)
            }
            for name, case in named.items():
                try:
                    async with asyncio.timeout(30):
                        await case()
                except (AssertionError, TimeoutError, grpc.aio.AioRpcError) as error:
                    failed.append(f"{name}: {error!r}")
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await server.stop(0)
    print(f"\ngRPC interoperability: {len(named) - len(failed)} of {len(named)}")  # noqa: T201 # the score
    for names, why in NOT_RUN.items():
        print(f"NOT RUN: {names}: {why}")  # noqa: T201
    assert not failed, "\n".join(failed)
    assert len(named) >= FLOOR
