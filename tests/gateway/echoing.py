"""An exchange with no upstream, and certificates: what the tests of TLS, HTTP/2 and HTTP/3 over sockets share."""

import asyncio
from functools import cache

import trustme

from meridian.core.snapshot import Certificate
from meridian.gateway.stream import DownstreamStream, Peer
from meridian.wire.events import Headers, RequestHead


@cache
def authority() -> trustme.CA:
    """The root that all clients of a test run trust."""
    return trustme.CA()


def certificate(*hosts: str, rsa: bool = False) -> Certificate:
    """A new certificate for these names or addresses, with an ECDSA key or one of RSA."""
    issued = authority().issue_cert(*hosts, key_type=trustme.KeyType.RSA if rsa else trustme.KeyType.ECDSA)
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    return Certificate(hosts, chain, issued.private_key_pem.bytes())


class EchoExchange:
    """Answers with the request's body as it comes, trailers too; /bytes/N with N bytes; /hang never.

    `step_bytes` is what it passes on at once, as an upstream connection would. `held_max`: the most it ever held.
    """

    held_max = 0

    def __init__(self, head: RequestHead, stream: DownstreamStream, peer: Peer, step_bytes: int = 65536) -> None:
        self.head, self.stream, self.peer, self.step = head, stream, peer, step_bytes
        self.waiting = bytearray()
        self.trailers: Headers = []
        self.complete = False
        self.reset_reason: str | None = None
        self.to_send = 0
        parts = head.target.split(b"/")
        if parts[1] == b"bytes":
            self.to_send = int(parts[2])
        if parts[1] != b"hang":
            headers = [(b"x-protocol", peer.protocol.encode()), (b"x-authority", head.authority)]
            stream.respond(200, headers, end=False)

    def on_body(self, data: bytes) -> None:
        self.waiting += data
        EchoExchange.held_max = max(EchoExchange.held_max, len(self.waiting))
        self.pump()

    def on_trailers(self, headers: Headers) -> None:
        self.trailers = headers

    def on_body_end(self) -> None:
        self.complete = True
        self.pump()

    def on_blocked(self) -> None:
        pass

    def on_writable(self) -> None:
        self.pump()

    def on_reset(self, reason: str, why: str = "client_gone") -> None:
        self.reset_reason = reason

    def pump(self) -> None:
        """Passes on what the client takes."""
        if self.head.target.startswith(b"/hang") or self.reset_reason is not None:
            return
        stream = self.stream
        while self.waiting and stream.writable:
            piece = bytes(self.waiting[: self.step])
            del self.waiting[: self.step]
            stream.send_data(piece, end=False)
            stream.consumed(len(piece))
        if self.to_send and stream.writable:  # a piece in each turn of the loop, as they come from an upstream
            piece = bytes(min(self.to_send, self.step))
            self.to_send -= len(piece)
            stream.send_data(piece, end=False)
            if self.to_send:
                asyncio.get_running_loop().call_soon(self.pump)
        if self.complete and not self.waiting and not self.to_send:
            self.complete = False
            if self.trailers:
                stream.send_trailers(self.trailers)
            else:
                stream.send_data(b"", end=True)
        stream.flush()


async def run_command(*command: str, within_seconds: float = 30.0) -> tuple[int, bytes, bytes]:
    """Runs a client program beside the loop; returns its status, output and errors."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(within_seconds):
            out, err = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    return process.returncode or 0, out, err
