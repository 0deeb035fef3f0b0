"""gRPC end to end: grpcio's client, the gateway over HTTP/2 on both sides, grpcio's server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc
import pytest
from h2.errors import ErrorCodes
from h2.events import StreamReset
from tests.gateway.grpc_service import Calls, Service, grpc_calls, grpc_service
from tests.gateway.h2origin import H2Served, h2_origin, until_closed
from tests.gateway.harness import Running, document, secure, upstream
from tests.gateway.test_protocols import curl
from tests.support import free_port, wait_until

from meridian.core.snapshot import Snapshot
from meridian.gateway.grpc import timeout_seconds

MESSAGES = 1000


@contextlib.asynccontextmanager
async def called(service: Service) -> AsyncIterator[tuple[Running, Calls]]:
    """A service behind a gateway, and a channel to it."""
    async with (
        grpc_service(service) as port,
        secure(port, protocol="h2") as (running, ca),
        grpc_calls(running.port, ca) as calls,
    ):
        yield running, calls


async def numbers(count: int) -> AsyncIterator[bytes]:
    """So many messages."""
    for number in range(count):
        yield b"%d" % number


async def test_all_four_kinds_of_call() -> None:
    async with called(Service()) as (running, calls):
        assert await calls.unary(b"hello") == b"hello"
        assert await calls.to_one(numbers(MESSAGES)) == b"%d" % sum(len(str(number)) for number in range(MESSAGES))
        assert [message async for message in calls.to_many(b"%d" % MESSAGES)] == [b"%d" % n for n in range(MESSAGES)]
        assert [message async for message in calls.both(numbers(MESSAGES))] == [b"%d" % n for n in range(MESSAGES)]
        assert {(seen.status, seen.why, seen.tries) for seen in running.seen.outcomes} == {(200, "", 1)}
    assert running.gateway.active == 0


async def test_large_messages_both_ways() -> None:
    async with called(Service()) as (_, calls):
        message = bytes(range(256)) * 12_000  # 3 MB: twelve windows of a stream
        assert await calls.unary(message) == message
        assert await asyncio.gather(*(calls.unary(message) for _ in range(8))) == [message] * 8


async def test_each_side_answers_the_other_before_either_is_done() -> None:
    async with called(Service()) as (_, calls):
        call = calls.both()
        for number in range(50):
            await call.write(b"%d" % number)
            assert await call.read() == b"%d" % number
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK


async def test_metadata_and_status_come_whole() -> None:
    async with called(Service()) as (_, calls):
        call = calls.unary(b"x", metadata=(("x-own-bin", b"\x00\xff"), ("x-own", "1")))
        assert ("x-first", "1") in tuple(await call.initial_metadata())
        trailing = dict(await call.trailing_metadata())
        assert trailing["x-last"] == "2" and trailing["x-sum-bin"] == bytes(range(256))
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await calls.unary(b"fail")  # trailers only
        assert failed.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert failed.value.details() == "as asked: \u00fc" and ("x-detail", "because") in tuple(
            failed.value.trailing_metadata()
        )


async def test_who_cancels_is_heard_at_the_other_end() -> None:
    service = Service()
    async with called(service) as (running, calls):
        call = calls.unary(b"wait")
        await wait_until(lambda: service.calls, within_seconds=5, what="the call to arrive")
        call.cancel()
        await asyncio.wait_for(service.cancelled.wait(), 5)
        await wait_until(lambda: running.seen.outcomes, within_seconds=5, what="its end")
        assert running.seen.outcomes[0].why == "client_gone"
        assert await calls.unary(b"and on") == b"and on"


async def test_a_reload_during_a_stream_cuts_nothing() -> None:
    async with called(Service()) as (running, calls):
        call = calls.both()
        await call.write(b"before")
        assert await call.read() == b"before"
        for version in range(2, 6):
            running.gateway.swap(document(running.port, [upstream(free_port(), protocol="h2")], version=version))
            await call.write(b"%d" % version)
            assert await call.read() == b"%d" % version
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.OK
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await calls.unary(b"x")
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_service_that_restarts_is_found_again() -> None:
    service, port = Service(), free_port()
    async with secure(port, protocol="h2") as (running, ca), grpc_calls(running.port, ca) as calls:
        for _ in range(3):
            async with grpc_service(service, port):
                assert await calls.unary(b"here") == b"here"
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await calls.unary(b"gone")
            assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
            await running.pass_time(3)  # an ejected endpoint is tried again


async def test_the_gateways_own_answers_are_statuses_of_grpc() -> None:
    async def waits(served: H2Served) -> None:
        await until_closed(served)

    routes = [{"name": name, "match": {"path_prefix": f"/{name}"}, "upstream": name} for name in ("gone", "slow")]
    async with h2_origin(waits) as slow:

        def make(port: int) -> Snapshot:
            return document(port, [
                upstream(free_port(), name="gone", protocol="h2"),
                upstream(slow, name="slow", protocol="h2", response_timeout_seconds=0.2),
            ], routes)  # fmt: skip

        async with secure(make=make) as (running, ca), grpc_calls(running.port, ca) as calls:
            for path, code, status in (
                ("/other/X", grpc.StatusCode.UNIMPLEMENTED, 404),
                ("/gone/X", grpc.StatusCode.UNAVAILABLE, 502),
                ("/slow/X", grpc.StatusCode.UNAVAILABLE, 504),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as failed:
                    await calls.channel.unary_unary(path)(b"x")
                assert failed.value.code() is code
                seen = running.seen.outcomes.pop()
                assert seen.status == status, "the log says what went wrong, not what gRPC calls 200"
                assert seen.request_id.decode() in str(failed.value.details())


async def test_a_deadline_bounds_the_call_and_is_passed_on() -> None:
    service = Service()
    async with called(service) as (running, calls):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await calls.unary(b"wait", timeout=0.5)
        assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert 0.0 < service.seconds_left[0] < 0.5
        await asyncio.wait_for(service.cancelled.wait(), 5)
        await wait_until(lambda: running.gateway.active == 0, within_seconds=5, what="its end")


async def test_a_deadline_holds_without_its_client_and_its_service() -> None:
    reset = asyncio.Event()

    async def waits(served: H2Served) -> None:
        await served.request()
        event = await served.read_until(StreamReset)
        assert event.error_code == ErrorCodes.CANCEL
        reset.set()
        await until_closed(served)

    async with h2_origin(waits) as port, secure(port, protocol="h2") as (running, ca):
        fields = {"content-type": "application/grpc", "grpc-timeout": "200m"}
        answer = await curl(running.port, "2", ca, "/test.Echo/Unary", "POST", data=b"", headers=fields)
        assert (answer.status_code, answer.headers["grpc-status"]) == (200, "4")
        await asyncio.wait_for(reset.wait(), 5)
        seen = running.seen.outcomes[0]
        assert (seen.status, seen.why) == (504, "deadline_timeout") and 0.15 < seen.duration_seconds < 5


@pytest.mark.parametrize(
    ("said", "seconds"),
    [(b"1H", 3600), (b"2M", 120), (b"3S", 3), (b"4m", 0.004), (b"5u", 5e-6), (b"6n", 6e-9), (b"99999999S", 99999999),
     (b"", None), (b"1", None), (b"S", None), (b"1.5S", None), (b"-1S", None), (b"123456789S", None), (b"1s", None)],
)  # fmt: skip
def test_how_a_deadline_is_written(said: bytes, seconds: float | None) -> None:
    assert timeout_seconds([(b"te", b"trailers"), (b"grpc-timeout", said)]) == (
        pytest.approx(seconds) if seconds is not None else None
    )
