"""The DNS worker's duties on a real socket: what it answers before it has all that it needs."""

import asyncio
import socket

import dns.message
import dns.rdatatype
from tests.control.test_zone_keys import TIMES

from meridian.control.zone_keys import Keyring
from meridian.core import dns_words, keyrolls, model
from meridian.core.keyrolls import Role
from meridian.nodes.dns_worker import DnsDuties
from meridian.nodes.settings import Settings
from meridian.nodes.zone_keys import zone_keys_frame
from meridian_dns.signing import generate_der
from meridian_proto.v1.channel_pb2 import Config, Frame, SignedZone, ZoneKey, ZoneKeys

DOCUMENT = model.Document(
    listeners=(model.Listener(name="web", bind="127.0.0.1:1", protocols=("h1",)),),
    zones=(dns_words.Zone(name="gw.example.com", nameservers=("ns.example.net",), dnssec=dns_words.Dnssec()),),
)
QUERY = dns.message.make_query("gw.example.com.", "SOA", want_dnssec=True).to_wire()
RING = Keyring("gw.example.com.", 13, keyrolls.begin({Role.CSK: "one"}, TIMES, 0.0), {"one": generate_der(13)})


async def test_nothing_is_answered_unsigned_while_keys_are_on_their_way() -> None:
    loop = asyncio.get_running_loop()
    duties = DnsDuties(Settings(name="one", region="eu"))
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as served,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        served.bind(("127.0.0.1", 0))
        client.setblocking(False)
        client.connect(served.getsockname())
        duties.on_sockets({("udp", *served.getsockname()): served})
        duties.compile(Config(version=1, document=DOCUMENT.model_dump_json(exclude_unset=True).encode()))()
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(duties.run())
            client.send(QUERY)
            first = tasks.create_task(loop.sock_recv(client, 4096))
            await asyncio.wait([first], timeout=0.2)  # long enough for an answer, if one were given
            duties.on_state(zone_keys_frame([RING]))
            answer = dns.message.from_wire(await asyncio.wait_for(first, 5))
            assert [rrset.rdtype for rrset in answer.answer] == [dns.rdatatype.SOA, dns.rdatatype.RRSIG]
            nonsense = SignedZone(zone="gw.example.com.", keys=[ZoneKey(algorithm=13, private_key=b"none")])
            duties.on_state(Frame(zone_keys=ZoneKeys(zones=[nonsense])))
            client.send(QUERY)
            again = dns.message.from_wire(await asyncio.wait_for(loop.sock_recv(client, 4096), 5))
            assert again.answer == answer.answer, "by the keys before"
            names = {series.name: series.value for series in duties.series()}
            assert names["meridian_dns_signatures_total"] == 1
            serving.cancel()
