"""The channel between an agent and one worker: protobuf frames, each behind its length (four bytes, big endian), over
a stream that the launcher made.

Invariant: neither side ever waits for the other, and what is kept for the other side is bounded. What keeps it: of
state (config, verdict, ...) only the latest of each kind is kept, and is sent anew on every new stream; of reports the
oldest are dropped and counted. Whoever sends nonsense loses the stream, and the next one begins anew.
"""

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable, Container
from typing import Protocol, cast

from google.protobuf.message import DecodeError

from meridian_proto.v1.channel_pb2 import Frame, Hello

PROTOCOL = 1
FRAME_BYTES_MAX = 32 * 1024 * 1024  # the largest document is 16 MiB; its certificates come beside it
REPORTS_MAX = 256  # frames; at one each 200 ms a peer may be silent for 50 s before the oldest is dropped
REPORT_BYTES_MAX = 8 * 1024 * 1024
WRITE_BUFFER_BYTES = 256 * 1024  # what the transport holds before the rest stays in the outbox
LENGTH_BYTES = 4

STATE = (
    "config", "candidate", "trial", "verdict", "endpoint_health", "allowance", "spenders", "drain", "config_ack",
    "candidate_ack", "tallies", "metrics", "confirmed", "zone_keys", "cookie_secrets", "ticket_secrets",
    "purges", "proofs", "proofs_held", "obtained",
)  # fmt: skip


class ChannelError(Exception):
    """The other side does not keep to the protocol."""


class Outbox:
    """What waits to be sent: reports in order, and the latest of each kind of state."""

    def __init__(self) -> None:
        self.dropped = 0
        self._state: dict[str, Frame] = {}
        self._unsent: dict[str, None] = {}  # kinds of state, in order of asking
        self._reports: deque[tuple[Frame, int]] = deque()
        self._report_bytes = 0
        self._sequence = 0

    def put(self, frame: Frame) -> None:
        """Keeps a frame until it is taken; the channel numbers it."""
        kind = frame.WhichOneof("body")
        assert kind is not None and kind != "hello"
        if kind in STATE:
            self._state[kind] = frame
            self._unsent[kind] = None
            return
        self._reports.append((frame, frame.ByteSize()))
        self._report_bytes += self._reports[-1][1]
        while len(self._reports) > REPORTS_MAX or self._report_bytes > REPORT_BYTES_MAX:
            self._report_bytes -= self._reports.popleft()[1]
            self._sequence += 1  # the gap tells the other side
            self.dropped += 1

    def state(self, kinds: Container[str]) -> list[Frame]:
        """Copies of the latest frames of these kinds, for another channel."""
        found = []
        for kind, frame in self._state.items():
            if kind in kinds:
                copy = Frame()
                copy.CopyFrom(frame)
                found.append(copy)
        return found

    def begin_anew(self) -> None:
        """A new stream: all state is to be sent again."""
        self._unsent = dict.fromkeys(self._state)
        self._sequence = 0

    def take(self) -> Frame | None:
        """The next frame to send, or None. State goes before reports: what serves comes first."""
        if self._unsent:
            kind = next(iter(self._unsent))
            del self._unsent[kind]
            frame = self._state[kind]
        elif self._reports:
            frame, size = self._reports.popleft()
            self._report_bytes -= size
        else:
            return None
        self._sequence += 1
        frame.sequence = self._sequence
        return frame


class Inbox:
    """Cuts a byte stream into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Returns the frames that are now complete; raises ChannelError for nonsense."""
        buffer = self._buffer
        buffer += data
        frames, at = [], 0
        while len(buffer) - at >= LENGTH_BYTES:
            length = int.from_bytes(buffer[at : at + LENGTH_BYTES], "big")
            if not 0 < length <= FRAME_BYTES_MAX:
                raise ChannelError(f"a frame of {length} bytes; the limit is {FRAME_BYTES_MAX}")
            end = at + LENGTH_BYTES + length
            if len(buffer) < end:
                break
            try:
                frame = Frame.FromString(bytes(memoryview(buffer)[at + LENGTH_BYTES : end]))
            except DecodeError as error:
                raise ChannelError(f"a frame that is none: {error}") from error
            frames.append(frame)
            at = end
        del buffer[:at]
        return frames


def encode(frame: Frame) -> bytes:
    """The frame with its length before it; raises ChannelError if it is too large to be sent."""
    data = frame.SerializeToString()
    if len(data) > FRAME_BYTES_MAX:
        raise ChannelError(f"a frame of {len(data)} bytes; the limit is {FRAME_BYTES_MAX}")
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


class Listener(Protocol):
    """Who is told what the channel hears. Calls are on the loop and must not raise."""

    def on_hello(self, hello: Hello) -> None:
        """The other side is there (again); it holds nothing of ours until state arrives anew."""

    def on_frame(self, frame: Frame) -> None:
        """A frame other than hello."""

    def on_lost(self, reason: str) -> None:
        """The stream ended. Sending goes on into the outbox."""


class Channel:
    """One side of a channel, over as many streams as come one after another. All methods are for the loop's thread."""

    def __init__(self, hello: Callable[[], Hello], listener: Listener) -> None:
        """`hello` is asked for at the beginning of each stream: it tells the present state."""
        self.outbox = Outbox()
        self._hello = hello
        self._listener = listener
        self._stream: _Stream | None = None

    @property
    def connected(self) -> bool:
        """Whether the other side has said hello."""
        return self._stream is not None and self._stream.greeted

    async def attach(self, sock: socket.socket) -> None:
        """Takes a new stream in place of the one before. Returns when it is set up; raises OSError if it is broken."""
        self.close()
        loop = asyncio.get_running_loop()
        stream = _Stream(self)
        await loop.create_unix_connection(lambda: stream, sock=sock)

    def send(self, frame: Frame) -> None:
        """Sends a frame now or later; see the module's head for what may be dropped. Never blocks, never raises."""
        self.outbox.put(frame)
        if self._stream is not None:
            self._stream.pump()

    def close(self) -> None:
        """Ends the present stream; frames sent to its transport before are lost with it."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.abandon()

    def _opened(self, stream: "_Stream") -> None:
        self.close()  # one stream at a time: of two attaches at once the later wins
        self._stream = stream
        self.outbox.begin_anew()
        hello = self._hello()
        hello.protocol = PROTOCOL
        stream.write(Frame(hello=hello))
        stream.pump()

    def _closed(self, stream: "_Stream", reason: str) -> None:
        if self._stream is stream:
            self._stream = None
            self._listener.on_lost(reason)

    def _heard(self, stream: "_Stream", frame: Frame) -> None:
        if self._stream is not stream:
            return
        kind = frame.WhichOneof("body")
        if not stream.greeted:
            if kind != "hello" or frame.hello.protocol != PROTOCOL:
                raise ChannelError(f"hello of protocol {PROTOCOL} expected; are the agent and its workers one version?")
            stream.greeted = True
            self._listener.on_hello(frame.hello)
        elif kind is not None and kind != "hello":
            self._listener.on_frame(frame)


class _Stream(asyncio.Protocol):
    """One stream of a channel."""

    def __init__(self, channel: Channel) -> None:
        self.greeted = False
        self._channel = channel
        self._inbox = Inbox()
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._reason = "closed by the other side"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self._channel._opened(self)

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._inbox.feed(data):
                self._channel._heard(self, frame)
        except ChannelError as error:
            self._end(str(error))

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self.pump()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._channel._closed(self, str(error) if error else self._reason)

    def write(self, frame: Frame) -> None:
        if self._transport is not None:
            self._transport.write(encode(frame))

    def pump(self) -> None:
        """Moves frames from the outbox to the transport until that is full."""
        while self._transport is not None and not self._paused:
            frame = self._channel.outbox.take()
            if frame is None:
                return
            try:
                self.write(frame)
            except ChannelError as error:
                self._end(str(error))

    def abandon(self) -> None:
        if self._transport is not None:
            with contextlib.suppress(OSError):
                self._transport.abort()

    def _end(self, reason: str) -> None:
        self._reason = reason
        self.abandon()
