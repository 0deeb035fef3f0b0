"""The watch against a scripted server on a real socket: what a real etcd does too seldom to wait for."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

import grpc
import grpc.aio
import pytest

from meridian.store.etcd import EtcdStore
from meridian.store.port import Compacted, StoreUnavailable
from meridian_proto.v1 import etcd_pb2 as pb

Script = Callable[[int], list[pb.WatchResponse]]


def answer(*revisions: int, header: int = 99, **fields: object) -> pb.WatchResponse:
    kvs = [pb.KeyValue(key=b"/p/%d" % number, mod_revision=revision) for number, revision in enumerate(revisions)]
    events = [pb.Event(type=pb.Event.PUT, kv=kv) for kv in kvs]
    return pb.WatchResponse(header=pb.ResponseHeader(revision=header), events=events, **fields)  # type: ignore[arg-type]  # bool fields only


CREATED = answer(created=True)
PROGRESS = answer(header=1000)


class Scripted:
    """A member whose n-th watch gets the n-th script, and which notes where each watch wanted to begin."""

    def __init__(self, scripts: list[list[pb.WatchResponse]]) -> None:
        self._scripts = scripts
        self.starts: list[int] = []

    async def watch(
        self, requests: AsyncIterator[pb.WatchRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.WatchResponse]:
        assert ("hasleader", "true") in [(key, value) for key, value in context.invocation_metadata()]
        self.starts.append((await anext(requests)).create_request.start_revision)
        if len(self.starts) > len(self._scripts):
            await context.abort(grpc.StatusCode.UNAVAILABLE, "etcdserver: no leader")
        for response in self._scripts[len(self.starts) - 1]:
            yield response

    async def status(self, _: pb.StatusRequest, __: grpc.aio.ServicerContext) -> pb.StatusResponse:
        return pb.StatusResponse(leader=1, version="scripted")


@asynccontextmanager
async def serving(*scripts: list[pb.WatchResponse]) -> AsyncIterator[tuple[EtcdStore, Scripted]]:
    member = Scripted(list(scripts))
    server = grpc.aio.server()
    watch = grpc.stream_stream_rpc_method_handler(
        member.watch, pb.WatchRequest.FromString, pb.WatchResponse.SerializeToString
    )
    status = grpc.unary_unary_rpc_method_handler(
        member.status, pb.StatusRequest.FromString, pb.StatusResponse.SerializeToString
    )
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("etcdserverpb.Watch", {"Watch": watch}),
            grpc.method_handlers_generic_handler("etcdserverpb.Maintenance", {"Status": status}),
        )
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    store = EtcdStore([f"http://127.0.0.1:{port}"], deadline_seconds=0.5)
    try:
        yield store, member
    finally:
        await store.close()
        await server.stop(0)


async def watched(store: EtcdStore, after_revision: int) -> tuple[list[list[int]], Exception]:
    """Returns the revisions of each batch, and how the watch ended."""
    batches: list[list[int]] = []
    try:
        async with asyncio.timeout(10), aclosing(store.watch("/p/", after_revision=after_revision)) as stream:
            async for batch in stream:
                assert batch.revision == batch.events[-1].mod_revision
                batches.append([event.mod_revision for event in batch.events])
    except (Compacted, StoreUnavailable) as error:
        return batches, error
    raise AssertionError("a watch ends with an error or not at all")


async def test_parts_are_joined_and_a_broken_part_is_asked_for_again() -> None:
    async with serving(
        [CREATED, answer(11), answer(12, 12, fragment=True), answer(12, fragment=True), answer(12, 13)],
        [CREATED, answer(14, 15), answer(16, fragment=True)],  # and the stream ends in the middle of revision 16
        [CREATED, answer(16, 16)],
    ) as (store, member):
        batches, end = await watched(store, 10)
    assert batches == [[11], [12, 12, 12, 12, 13], [14, 15], [16, 16]]
    assert member.starts[:4] == [11, 14, 16, 17]
    assert isinstance(end, StoreUnavailable)
    assert "no leader" in str(end)


async def test_a_header_or_progress_ahead_of_the_events_does_not_move_the_start() -> None:
    async with serving([CREATED, answer(11), PROGRESS, PROGRESS], [CREATED, answer(12, header=2000)], []) as (
        store,
        member,
    ):
        batches, _ = await watched(store, 10)
    assert batches == [[11], [12]]
    assert member.starts[:4] == [11, 12, 13, 13]


async def test_a_cancelled_watch_is_opened_again_and_a_compacted_one_is_said() -> None:
    async with serving(
        [CREATED, answer(11), answer(canceled=True, cancel_reason="the watcher lagged")],
        [CREATED, answer(canceled=True, compact_revision=40)],
    ) as (store, member):
        batches, end = await watched(store, 10)
    assert batches == [[11]]
    assert member.starts == [11, 12]
    assert isinstance(end, Compacted)
    assert end.revision == 40


async def test_closing_the_store_ends_a_watch() -> None:
    async with (
        serving([CREATED, answer(11)] * 1) as (store, _),
        aclosing(store.watch("/p/", after_revision=1)) as stream,
    ):
        assert (await anext(stream)).revision == 11
        await store.close()
        with pytest.raises(StoreUnavailable, match="closed"):
            await anext(stream)


async def test_a_store_begun_anew_ends_the_watch_and_a_member_that_lags_does_not() -> None:
    young = [answer(created=True, header=3), answer(header=4)]
    async with serving(young) as (store, _), aclosing(store.watch("/p/", after_revision=50)) as batches:
        with pytest.raises(Compacted, match="another store in its place") as caught:
            await anext(batches)
        assert caught.value.revision == 4
    late = [answer(created=True, header=49), answer(51, header=51)]
    async with serving(late) as (store, _), aclosing(store.watch("/p/", after_revision=50)) as batches:
        assert (await anext(batches)).revision == 51
