"""What a client of HTTP/3 may not do, each over UDP to a real gateway before a real service: see violations_http3."""

import asyncio
import ssl
from typing import Any

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, QuicEvent, StopSendingReceived, StreamDataReceived, StreamReset
from tests.conformance.violations_http3 import BEGUN, CASES, GET, Case
from tests.gateway.echoing import authority
from tests.gateway.harness import hello, origin, secure
from tests.support import wait_until

FLOOR = 85
"""Requirements that are kept; less is red."""

AT_ONCE = 8
LAST = 400
"""The stream of a good request afterwards."""


class Client(QuicConnectionProtocol):
    """Speaks what it is told to."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.ended: int | None = None
        self.told: dict[int, set[int]] = {}  # codes of RESET_STREAM and STOP_SENDING, by stream
        self.answered: set[int] = set()

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ConnectionTerminated):
            self.ended = event.error_code
        elif isinstance(event, StreamReset | StopSendingReceived):
            self.told.setdefault(event.stream_id, set()).add(event.error_code)
        elif isinstance(event, StreamDataReceived) and event.data[:1] == b"\x01":  # HEADERS
            self.answered.add(event.stream_id)


async def costs_of(port: int, case: Case) -> str:
    """What is wrong with what a case costs; "" if nothing is."""
    trusted = authority().cert_pem.bytes()
    configuration = QuicConfiguration(
        alpn_protocols=["h3"], server_name="localhost", cadata=trusted, verify_mode=ssl.CERT_REQUIRED
    )
    async with connect("127.0.0.1", port, configuration=configuration, create_protocol=Client) as client:
        assert isinstance(client, Client)
        for stream_id, raw, end in case.said if case.bare else (BEGUN, *case.said):
            client._quic.send_stream_data(stream_id, raw, end is True)
            client.transmit()
            if end is None:
                await client.ping()  # what stands before the reset has come
                client._quic.reset_stream(stream_id, 0)
                client.transmit()
        if case.scope != "connection":
            client._quic.send_stream_data(LAST, GET, end_stream=True)
            client.transmit()
        try:
            await wait_until(
                lambda: client.ended is not None or LAST in client.answered,
                within_seconds=10, what="an end", every_seconds=0.005,
            )  # fmt: skip
        except AssertionError:
            return "silence"
        right = {
            "connection": client.ended in case.codes,
            "stream": client.ended is None and bool(client.told.get(0, set()) & case.codes),
            "nothing": client.ended is None and not client.told,
        }[case.scope]
        said = f"ended by {client.ended}, streams by {client.told}, answered {client.answered}"
        return "" if right else f"{case.scope} {sorted(case.codes)}, not {said}"


async def test_requirements() -> None:
    failed: list[str] = []
    turn = asyncio.Semaphore(AT_ONCE)
    async with origin(hello) as app, secure(app) as (running, _):

        async def check(case: Case) -> None:
            async with turn:
                if wrong := await costs_of(running.port, case):
                    failed.append(f"{case}: {wrong}")

        await asyncio.gather(*map(check, CASES))
    print(f"\nHTTP/3, violations: {len(CASES) - len(failed)} of {len(CASES)}")  # noqa: T201 # the score
    assert not failed, "\n".join(failed)
    assert len({str(case) for case in CASES}) == len(CASES) >= FLOOR
