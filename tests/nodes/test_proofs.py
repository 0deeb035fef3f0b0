"""Workers say that they hold a proof when they answer with it, and not before; a node says it when all of them do."""

import asyncio
import json
import socket

import dns.message
from tests.gateway.test_obtained import asked
from tests.nodes.test_dns_worker_keys import DOCUMENT, RING

from meridian.gateway.answers import CHALLENGE
from meridian.nodes.acme import proofs_frame
from meridian.nodes.crew import WorkerState, proofs_held
from meridian.nodes.dns_worker import DnsDuties
from meridian.nodes.gateway_worker import GatewayDuties
from meridian.nodes.settings import Settings
from meridian.nodes.zone_keys import zone_keys_frame
from meridian_proto.v1.channel_pb2 import Config, Frame, Proofs, TextValues

NAME = "_acme-challenge.gw.example.com."
TEXT = dns.message.make_query(NAME, "TXT").to_wire()


def test_a_node_holds_what_all_its_workers_hold() -> None:
    one, other = WorkerState("gateway", 0, connected=True), WorkerState("dns", 0, connected=True)
    away = WorkerState("gateway", 1)
    one.proofs_held = 7
    assert proofs_held([one, other, away], 7) == 0
    other.proofs_held = 7
    assert proofs_held([one, other, away], 7) == 7
    assert proofs_held([one, other, away], 9) == 0


async def test_dns_answers_a_text_before_it_says_that_it_holds_it_over_changes_of_all_else() -> None:
    loop = asyncio.get_running_loop()
    duties, said = DnsDuties(Settings(name="one", region="eu")), list[Frame]()
    duties.join(said.append)
    document = DOCUMENT.model_dump_json(exclude_unset=True).encode()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as served,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        served.bind(("127.0.0.1", 0))
        client.setblocking(False)
        client.connect(served.getsockname())

        async def texts() -> list[str]:
            client.send(TEXT)
            answer = dns.message.from_wire(await asyncio.wait_for(loop.sock_recv(client, 4096), 5))
            return [rdata.to_text() for rrset in answer.answer for rdata in rrset]

        duties.on_sockets({("udp", *served.getsockname()): served})
        duties.compile(Config(version=1, document=document))()
        duties.on_state(zone_keys_frame([RING]))
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(duties.run())
            assert await texts() == []
            duties.on_state(proofs_frame(7, {}, {NAME: ["proof"]}))
            assert said[-1].proofs_held.revision == 7 and await texts() == ['"proof"']
            duties.compile(Config(version=2, document=document))()
            assert await texts() == ['"proof"'], "after another document"
            duties.on_state(zone_keys_frame([RING]))
            assert await texts() == ['"proof"'], "after other keys"
            duties.on_state(Frame(proofs=Proofs(revision=8, texts={"a..b": TextValues(values=["x"])})))
            assert said[-1].proofs_held.revision == 7, "what cannot be answered is not held"
            duties.on_state(proofs_frame(0, {}, {}))
            assert said[-1].proofs_held.revision == 0 and await texts() == []
            serving.cancel()


async def test_a_gateway_holds_proofs_from_its_first_document_on() -> None:
    duties, said = GatewayDuties(Settings("one", "eu", advertise=("127.0.0.1",)), 0, b"x" * 32), list[Frame]()
    duties.join(said.append)
    duties.on_state(proofs_frame(7, {"token": "token.thumbprint"}, {}))
    assert not said, "it answers nobody yet"
    with socket.create_server(("127.0.0.1", 0)) as served:
        port = served.getsockname()[1]
        listener = {"name": "web", "bind": f"127.0.0.1:{port}", "protocols": ["h1"]}
        duties.on_sockets({("tcp", "127.0.0.1", port): served.dup()})
        duties.compile(Config(version=1, document=json.dumps({"listeners": [listener]}).encode()))()
        assert said[-1].proofs_held.revision == 7
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(duties.run())
            assert (await asked(port, CHALLENGE + b"token")).endswith(b"token.thumbprint")
            serving.cancel()
        await duties.close(0.0)
        duties.on_sockets({})
