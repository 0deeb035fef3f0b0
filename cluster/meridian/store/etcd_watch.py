"""One watch on etcd, over as many streams and members as it takes.

Invariant: every event after the start is delivered once, in order, and whole revisions only. What keeps it: a stream
always begins one above the last revision that was delivered whole, never at a header's revision, which may be ahead of
events still to come; parts of one answer are joined before they are delivered; a stream that has gone silent is left.

A watch is opened with require-leader, so that a member cut off from its quorum ends it. A member that hangs, or a
machine that vanished, ends nothing: hence we ask for progress each second and leave when even that is not answered.

Another store may stand in the place of the one that was listed, and a watch would miss what it holds. Three signs end
a watch as a compaction does, so that the caller lists again. Another cluster id: a store that was restored, or begun
under another token. A lower revision than was seen, twice: a member that merely lags says one too, but not a second
later. And, for who names the era, that every member was away before one answered: a store begun anew under the same
token has the same id, and may have any revision.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from meridian.store import etcd_messages as messages
from meridian.store.etcd_errors import CLOSED, Fate, judge
from meridian.store.etcd_members import Member, Metadata, Search, cancelled_from_outside
from meridian.store.port import Batch, Compacted, Event, Refused
from meridian_proto.v1 import etcd_pb2 as pb

PROGRESS_EVERY_SECONDS = 1.0
# Three unanswered questions: a busy member answers late, a dead one never.
SILENCE_SECONDS_MAX = 3.5
# Events of one answer that comes in parts; etcd sends at most 1000 revisions of at most 128 operations in one.
JOINED_EVENTS_MAX = 128_000
BEHIND_MAX = 2  # answers in a row below what was seen: the one that opens the watch, and one a second later


class _Ended(Exception):
    """This stream is over, for the reason given; another may go on."""


class _TokenRefused(_Ended):
    """This stream is over because the member does not take our token."""


async def watch(
    search: Search, authorize: Callable[[Metadata | None], Awaitable[Metadata]], prefix: str, after_revision: int,
    era: int,
) -> AsyncGenerator[Batch, None]:  # fmt: skip
    """Yields batches as `Store.watch` promises. `authorize` gives the metadata, other than the refused."""
    position = after_revision
    refused: Metadata | None = None
    search.restart()
    while True:
        metadata = await authorize(refused)
        member = await search.member()
        try:
            async with _stream(member, messages.watch_request(prefix, position + 1), metadata) as call:
                parts: list[Event] = []
                behind = 0
                while True:
                    answer = await _read(call)
                    _raise_if_cancelled(answer, member, position)
                    behind = behind + 1 if answer.header.revision < position else 0
                    if behind == BEHIND_MAX or (era and (search.all_failed or answer.header.cluster_id != era)):
                        raise _another_store(answer.header, member, position, era)
                    search.restart()
                    refused = None
                    parts += messages.events(answer.events)
                    if len(parts) > JOINED_EVENTS_MAX:
                        raise Refused(f"{member.endpoint} sent more than {JOINED_EVENTS_MAX} events in one answer")
                    if parts and not answer.fragment:
                        batch, parts = _batch(parts), []
                        position = batch.revision
                        yield batch
        except _TokenRefused as error:
            if refused is not None:
                raise Refused(f"{member.endpoint} does not let us watch {prefix}: {error}") from error
            refused = metadata
        except _Ended as error:
            await search.failed(member, str(error))


def _batch(events: Sequence[Event]) -> Batch:
    return Batch(tuple(events), events[-1].mod_revision)


def _another_store(header: pb.ResponseHeader, member: Member, position: int, era: int) -> Compacted:
    if era and header.cluster_id != era:
        why = f"has the id {header.cluster_id:x}, and {era:x} was listed: another store in its place"
    elif header.revision < position:
        why = f"is at revision {header.revision}, and {position} was seen: another store in its place"
    else:
        why = "answers after all members were away: it may be another store"
    return Compacted(f"{member.endpoint} {why}; list again", header.revision)


def _raise_if_cancelled(answer: pb.WatchResponse, member: Member, position: int) -> None:
    if answer.compact_revision:
        raise Compacted(
            f"{member.endpoint}: revision {position + 1} is compacted up to {answer.compact_revision}: list again",
            answer.compact_revision,
        )
    if answer.canceled:
        reason = answer.cancel_reason or "etcd cancelled the watch"
        # To a watch, etcd 3.4 says "permission denied" also for a token that it does not know.
        if judge(grpc.StatusCode.UNKNOWN, reason).fate is Fate.TOKEN or "permission denied" in reason:
            raise _TokenRefused(reason)
        raise _Ended(reason)


async def _read(call: Any) -> pb.WatchResponse:
    """Returns the stream's next answer; raises _Ended when there will be none."""
    try:
        async with asyncio.timeout(SILENCE_SECONDS_MAX):
            answer: Any = await call.read()
    except TimeoutError:
        raise _Ended("a watch fell silent") from None
    except asyncio.CancelledError:
        if cancelled_from_outside():
            raise
        raise _Ended(CLOSED.reason) from None
    except grpc.aio.AioRpcError as error:
        judgement = judge(error.code(), error.details())
        if judgement.fate is Fate.TOKEN:
            raise _TokenRefused(judgement.reason) from error
        if judgement.fate is Fate.FINAL:
            raise Refused(f"a watch failed: {judgement.reason}") from error
        raise _Ended(judgement.reason) from error
    if answer is grpc.aio.EOF:
        raise _Ended("etcd closed the watch")
    response: pb.WatchResponse = answer
    return response


@asynccontextmanager
async def _stream(member: Member, create: pb.WatchRequest, metadata: Metadata) -> AsyncIterator[Any]:
    """Opens a stream and keeps asking it for progress until the end of the block."""
    over = asyncio.Event()

    async def requests() -> AsyncIterator[pb.WatchRequest]:
        yield create
        while not over.is_set():
            try:
                async with asyncio.timeout(PROGRESS_EVERY_SECONDS):
                    await over.wait()
            except TimeoutError:
                yield pb.WatchRequest(progress_request=pb.WatchProgressRequest())

    call = member.watch.Watch(requests(), metadata=metadata)
    try:
        yield call
    finally:
        over.set()
        call.cancel()
