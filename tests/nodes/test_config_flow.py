"""A document's way through a node: sockets first, then workers, then the word to the cluster."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from types import MappingProxyType

from tests.nodes.test_checks import issue
from tests.support import wait_until

from meridian.control.bundle import Bundle, seal
from meridian.core.rollout import Part
from meridian.gateway.upstream_tls import UpstreamContexts
from meridian.nodes.config_flow import ConfigFlow, Reading, read
from meridian.nodes.crew import WorkerState
from meridian.nodes.settings import Settings
from meridian.nodes.sockets import Wanted
from meridian_proto.v1.channel_pb2 import ConfigAck, Frame

KEY = b"k" * 32
SETTINGS = Settings("one", "eu", address="127.0.0.1", advertise=("127.0.0.1",))


def payload(*ports: int, files: Mapping[str, bytes] = MappingProxyType({}), **more: object) -> bytes:
    listeners = [{"name": f"web{port}", "bind": f"0.0.0.0:{port}", "protocols": ["h1"]} for port in ports]
    return seal(Bundle(json.dumps({"listeners": listeners, **more}), files), KEY)


class Scene:
    """A flow between a launcher and two workers that do as they are told; `said` is what happened, in order."""

    def __init__(self, settings: Settings = SETTINGS) -> None:
        self.said: list[str] = []
        self.problems: list[str] = []
        self.checked: list[tuple[int, str]] = []  # what was said of candidates
        self.refuse: dict[int, str] = {}
        self.workers: Sequence[WorkerState] = [
            WorkerState("gateway", 0, connected=True),
            WorkerState("dns", 0, connected=True),
        ]
        self.flow = ConfigFlow(
            settings, KEY, self, self.listen, UpstreamContexts(), adopted=self.adopted,
            acknowledge=lambda version, refused: self.said.append(f"acknowledge {version} {refused}".strip()),
            checked=lambda version, refused: self.checked.append((version, refused)),
        )  # fmt: skip

    async def listen(self, wanted: Sequence[Wanted]) -> Sequence[str]:
        self.said.append(f"listen {sorted({one.port for one in wanted})}")
        return self.problems

    def send(self, frame: Frame, kind: str | None = None) -> None:
        if frame.WhichOneof("body") == "candidate":
            self.said.append(" ".join((f"candidate {frame.candidate.version}", *sorted(frame.candidate.files))))
            return
        if frame.WhichOneof("body") == "trial":
            self.said.append(f"trial {frame.trial.version}")
            return
        version = frame.config.version
        self.said.append(" ".join((f"{kind} {version}", *sorted(frame.config.files))))
        for worker in self.workers:
            if worker.kind == kind:
                refused = self.refuse.get(version, "") if kind == "gateway" else ""
                worker.acknowledge(ConfigAck(version=version, refused=refused))
        self.flow.look()

    def send_to(self, kind: str, slot: int, frame: Frame) -> None:
        raise AssertionError("a document goes to all workers")

    def adopted(self, reading: Reading) -> None:
        self.said.append(f"adopted {reading.version}")

    async def heard(self, *said: str) -> None:
        await wait_until(lambda: self.said == list(said), within_seconds=5, what=f"{said}, not {self.said}")
        self.said.clear()


@contextlib.asynccontextmanager
async def scene(settings: Settings = SETTINGS) -> AsyncIterator[Scene]:
    made = Scene(settings)
    task = asyncio.get_running_loop().create_task(made.flow.run())
    try:
        yield made
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_old_sockets_are_kept_until_all_workers_have_the_new_document() -> None:
    async with scene() as s:
        s.flow.arrived(1, payload(81))
        await s.heard("listen [81]", "gateway 1", "dns 1", "adopted 1", "acknowledge 1", "listen [81]")
        s.flow.arrived(2, payload(82))
        await s.heard("listen [81, 82]", "gateway 2", "dns 2", "adopted 2", "acknowledge 2", "listen [82]")


async def test_a_witness_adopts_a_document_and_gives_its_files_to_nobody() -> None:
    witness = Settings("one", "elsewhere", address="127.0.0.1", witness=True, workers=0, dns_port=0)
    chain, key = issue()
    certificates = [{"hosts": ["a.example"], "cert_file": "a.pem", "key_file": "a.key"}]
    async with scene(witness) as s:
        s.flow.arrived(1, payload(81, files={"a.pem": chain, "a.key": key}, certificates=certificates))
        await s.heard("listen []", "adopted 1", "acknowledge 1", "listen []")


def test_a_witness_reads_what_it_needs_to_order_certificates_and_no_more() -> None:
    """It may lead."""
    chain, key = issue()
    said: dict[str, object] = {
        "certificates": [{"hosts": ["a.example"], "cert_file": "a.pem", "key_file": "a.key"}],
        "acme": [{"name": "own", "directory": "https://acme.example/directory", "ca_file": "ca.pem"}],
    }
    witness = Settings("one", "elsewhere", address="127.0.0.1", witness=True, workers=0, dns_port=0)
    files = {"a.pem": chain, "a.key": key, "ca.pem": chain}
    reading = read(1, payload(81, files=files, **said), KEY, witness, UpstreamContexts())
    assert reading.files == {"ca.pem": chain}


async def test_each_kind_of_worker_gets_the_files_that_it_works_with() -> None:
    chain, key = issue()
    files = {"a.pem": chain, "a.key": key, "tsig": b"MDEyMzQ1Njc4OWFiY2RlZg==", "a.zone": b"@ 60 NS ns1\n"}
    said: dict[str, object] = {
        "certificates": [{"hosts": ["a.example"], "cert_file": "a.pem", "key_file": "a.key"}],
        "tsig_keys": [{"name": "k", "secret_file": "tsig"}],
        "zones": [{"name": "a.example", "file": "a.zone"}],
    }
    async with scene() as s:
        s.flow.arrived(1, payload(81, files=files, **said))
        of_gateway, of_dns = "a.key a.pem", "a.zone tsig"
        served = ("adopted 1", "acknowledge 1", "listen [81]")
        await s.heard("listen [81]", f"gateway 1 {of_gateway}", f"dns 1 {of_dns}", *served)
        s.flow.propose(2, payload(81, files=files, **said))
        await s.heard("listen [81]", f"candidate 2 {of_gateway}", f"candidate 2 {of_dns}")


async def test_of_versions_that_come_quickly_the_last_is_taken() -> None:
    async with scene() as s:
        for version in range(1, 50):
            s.flow.arrived(version, payload(81))
        await s.heard("listen [81]", "gateway 49", "dns 49", "adopted 49", "acknowledge 49", "listen [81]")


async def test_a_worker_that_refuses_puts_the_old_document_back_everywhere() -> None:
    async with scene() as s:
        s.flow.arrived(1, payload(81))
        await s.heard("listen [81]", "gateway 1", "dns 1", "adopted 1", "acknowledge 1", "listen [81]")
        s.refuse[2] = "too odd"
        s.flow.arrived(2, payload(82))
        await s.heard(
            "listen [81, 82]", "gateway 2", "dns 2", "adopted 2",
            "gateway 1", "dns 1", "adopted 1", "acknowledge 2 gateway-0: too odd", "listen [81]",
        )  # fmt: skip


async def test_sockets_that_cannot_be_had_refuse_the_document_before_any_worker_sees_it() -> None:
    async with scene() as s:
        s.problems = ["port 81 is taken"]
        s.flow.arrived(1, payload(81))
        await s.heard("listen [81]", "acknowledge 1 port 81 is taken")


async def test_what_cannot_run_here_is_refused_with_the_reason() -> None:
    async with scene() as s:
        s.flow.arrived(1, seal(Bundle("{}", {}), b"another key of the cluster 0123456789")[:-5])
        await wait_until(lambda: s.said, within_seconds=5, what="answer")
        assert "damaged" in s.said[0]
        s.said.clear()
        records = [{"name": "www", "type": "CNAME", "value": "a"}, {"name": "www", "type": "A", "value": "x"}]
        zone = {"name": "gw.example.com", "nameservers": ["ns1.gw.example.com"], "records": records}
        s.flow.arrived(2, payload(81, zones=[zone]))
        await wait_until(lambda: s.said, within_seconds=5, what="answer")
        assert s.said[0].startswith("acknowledge 2 ") and "www" in s.said[0]
        assert s.flow.current is None


async def test_each_kind_of_worker_gets_the_secrets_that_it_works_with() -> None:
    chain, key = issue()
    certificate = {"hosts": ["a.example"], "cert_file": "a.pem", "key_file": "a.key"}
    tsig = {"name": "k", "secret_file": "k.secret"}
    files = {"a.pem": chain, "a.key": key, "k.secret": b"c2VjcmV0IG9mIDMyIGJ5dGVzLCBvZiBubyB3b3J0aCE="}
    files |= {"own.pem": chain, "own.key": key, "ca.pem": chain}
    tls = {"ca_file": "ca.pem", "cert_file": "own.pem", "key_file": "own.key"}
    app = {"name": "app", "endpoints": [{"address": "a.example:443"}], "tls": tls}
    async with scene() as s:
        s.flow.arrived(1, payload(81, files=files, certificates=[certificate], tsig_keys=[tsig], upstreams=[app]))
        await s.heard(
            "listen [81]", "gateway 1 a.key a.pem ca.pem own.key own.pem", "dns 1 k.secret", "adopted 1",
            "acknowledge 1", "listen [81]",
        )  # fmt: skip


async def test_an_upstream_whose_files_cannot_be_used_is_refused() -> None:
    app = {"name": "app", "endpoints": [{"address": "a.example:443"}], "tls": {"ca_file": "ca.pem"}}
    async with scene() as s:
        s.flow.arrived(1, payload(81, files={"ca.pem": b"nonsense"}, upstreams=[app]))
        await s.heard("acknowledge 1 upstream app: ca_file holds no certificate in PEM")


async def test_a_candidate_that_is_dropped_while_it_is_read_leaves_nothing_behind() -> None:
    async with scene() as s:
        s.flow.arrived(1, payload(81))
        await s.heard("listen [81]", "gateway 1", "dns 1", "adopted 1", "acknowledge 1", "listen [81]")
        s.flow.take_part(Part(2, 11))
        s.flow.propose(2, payload(82))
        await asyncio.sleep(0)  # it is being read in a thread
        await asyncio.sleep(0)
        s.flow.take_part(Part())
        await wait_until(lambda: "candidate 0" in s.said, within_seconds=5, what="workers let go of it")
        await wait_until(lambda: s.said[-1] == "listen [81]", within_seconds=5, what="its sockets are closed")


async def test_a_candidate_that_is_refused_is_not_answered_for_by_the_one_before() -> None:
    async with scene() as s:
        s.flow.take_part(Part(2, 11))
        s.flow.propose(2, payload(82))
        await wait_until(lambda: "candidate 2" in s.said, within_seconds=5, what="workers have it")
        for worker in s.workers:
            worker.acknowledge_candidate(ConfigAck(version=2))
        s.flow.look()
        await wait_until(lambda: s.checked == [(2, "")], within_seconds=5, what="the answer")
        s.problems = ["port 83 is taken"]
        s.flow.take_part(Part(3, 16))
        s.flow.propose(3, payload(83))
        await wait_until(lambda: (3, "port 83 is taken") in s.checked, within_seconds=5, what="the refusal")
        s.flow.look()
        await asyncio.sleep(0.05)
        assert s.checked[-1] == (3, "port 83 is taken")


async def test_workers_that_hold_a_candidate_of_an_agent_before_let_go_of_it() -> None:
    async with scene() as s:
        s.flow.take_part(Part())
        await s.heard("trial 0", "candidate 0")
