"""Spans reach a real OTLP receiver; a receiver that is slow, gone or unwilling costs spans, never the agent's time."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
import trustme
from tests.support import free_port, wait_until
from tests.telemetry.otlp_receiver import OtlpReceiver

from meridian.telemetry import context, spans
from meridian.telemetry.export import BATCH_SPANS_MAX, SpanExport
from meridian.telemetry.spans import Kind, SpanRecord

SECOND = 1_000_000_000


def make_pair(number: int = 1) -> list[SpanRecord]:
    """A server span with a remote parent, and its client span that failed."""
    caller = context.new(os.urandom, True)
    server = context.child(caller, os.urandom)
    client = context.child(server, os.urandom)
    begin = 1_700_000_000 * SECOND
    return [
        SpanRecord(
            server.trace_id, server.span_id, caller.span_id, f"GET /{number}", Kind.SERVER, begin, begin + SECOND,
            {spans.HTTP_REQUEST_METHOD: "GET", spans.HTTP_RESPONSE_STATUS_CODE: 502},
        ),
        SpanRecord(
            client.trace_id, client.span_id, server.span_id, "GET", Kind.CLIENT, begin, begin + SECOND // 2,
            {spans.SERVER_ADDRESS: "10.1.0.11", spans.SERVER_PORT: 8000}, "connection refused",
        ),
    ]  # fmt: skip


@asynccontextmanager
async def running(endpoint: str | None, queue_spans_max: int = 8192) -> AsyncIterator[SpanExport]:
    export = SpanExport(
        node="eu-west-1", region="eu-west", version="0.1.0", draw=lambda: 0.0, endpoint=endpoint,
        queue_spans_max=queue_spans_max,
    )  # fmt: skip
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(export.run())
        await asyncio.sleep(0)  # a task cancelled before its first step never runs
        try:
            yield export
        finally:
            task.cancel()


async def test_parent_and_child_arrive_with_their_resource() -> None:
    with OtlpReceiver() as receiver:
        async with running(receiver.endpoint) as export:
            sent = make_pair()
            export.put(sent)
            await wait_until(lambda: len(receiver.spans) == 2, within_seconds=10, what="two spans at the receiver")
            await wait_until(lambda: export.counts.exported == 2, within_seconds=1, what="two spans counted")
        server, client = receiver.spans
        assert server.trace_id == client.trace_id == sent[0].trace_id
        assert client.parent_span_id == server.span_id
        assert server.parent_span_id == sent[0].parent_span_id
        assert (server.kind, client.kind) == (2, 3)
        assert server.attributes == {"http.request.method": "GET", "http.response.status_code": 502}
        assert client.attributes == {"server.address": "10.1.0.11", "server.port": 8000}
        assert (client.failed, client.failure, server.failed) == (True, "connection refused", False)
        assert server.end_unix_nanoseconds - server.start_unix_nanoseconds == SECOND
        resource = server.resource
        assert (resource["service.name"], resource["meridian.node"], resource["meridian.region"]) == (
            "meridian-gateway",
            "eu-west-1",
            "eu-west",
        )


async def test_tls_receiver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(tmp_path / "ca.pem"))
    chain = certificate.cert_chain_pems[0].bytes()
    with OtlpReceiver(
        credentials=grpc.ssl_server_credentials([(certificate.private_key_pem.bytes(), chain)])
    ) as receiver:
        async with running(receiver.endpoint) as export:
            export.put(make_pair())
            await wait_until(lambda: len(receiver.spans) == 2, within_seconds=10, what="two spans over TLS")


async def test_spans_wait_for_a_receiver_that_starts_late() -> None:
    port = free_port()
    async with running(f"http://127.0.0.1:{port}") as export:
        export.put(make_pair())
        await wait_until(lambda: export.counts.failures >= 1, within_seconds=15, what="a failed send")
        with OtlpReceiver(port=port) as receiver:
            await wait_until(lambda: len(receiver.spans) == 2, within_seconds=20, what="spans after the start")
        assert export.counts.dropped == 0


async def test_a_hanging_receiver_blocks_nobody_and_the_oldest_are_dropped() -> None:
    with OtlpReceiver() as receiver:
        receiver.hanging = True
        loop = asyncio.get_running_loop()
        async with running(receiver.endpoint, queue_spans_max=10) as export:
            export.put(make_pair(0))
            await wait_until(lambda: receiver.requests == 1, within_seconds=10, what="a request that hangs")
            begin = loop.time()
            for number in range(1, 101):
                export.put(make_pair(number))
            assert loop.time() - begin < 0.5
            assert export.counts.dropped == 190
            receiver.hanging = False
            receiver._released.set()
            await wait_until(lambda: len(receiver.spans) >= 12, within_seconds=10, what="what was kept")
        names = [span.name for span in receiver.spans if span.kind == 2]
        assert names == ["GET /0", *(f"GET /{number}" for number in range(96, 101))]


async def test_a_refused_batch_is_given_up_and_the_next_one_sent() -> None:
    with OtlpReceiver() as receiver:
        receiver.refusing = grpc.StatusCode.INVALID_ARGUMENT
        async with running(receiver.endpoint) as export:
            export.put(make_pair())
            await wait_until(lambda: export.counts.dropped == 2, within_seconds=30, what="the batch given up")
            assert export.counts.failures == 5
            receiver.refusing = None
            export.put(make_pair(2))
            await wait_until(lambda: len(receiver.spans) == 2, within_seconds=30, what="the next batch")


async def test_aim_changes_the_receiver_and_none_lets_go() -> None:
    with OtlpReceiver() as first, OtlpReceiver() as second:
        async with running(None) as export:
            export.put(make_pair())
            export.aim(first.endpoint)
            export.put(make_pair(1))
            await wait_until(lambda: len(first.spans) == 2, within_seconds=10, what="spans at the first")
            export.aim(second.endpoint)
            export.put(make_pair(2))
            await wait_until(lambda: len(second.spans) == 2, within_seconds=10, what="spans at the second")
            assert export.counts.dropped == 0
        assert [span.name for span in second.spans] == ["GET /2", "GET"]


async def test_what_is_queued_at_the_end_is_sent_in_batches() -> None:
    with OtlpReceiver() as receiver:
        async with running(receiver.endpoint) as export:
            for number in range(BATCH_SPANS_MAX):
                export.put(make_pair(number))
        assert len(receiver.spans) == 2 * BATCH_SPANS_MAX
        assert receiver.requests == 2
        assert export.counts.exported == 2 * BATCH_SPANS_MAX


async def test_an_end_with_a_hanging_receiver_is_bounded() -> None:
    with OtlpReceiver() as receiver:
        receiver.hanging = True
        loop = asyncio.get_running_loop()
        async with running(receiver.endpoint) as export:
            export.put(make_pair())
            await wait_until(lambda: receiver.requests == 1, within_seconds=10, what="a request that hangs")
            begin = loop.time()
        assert loop.time() - begin < 7
