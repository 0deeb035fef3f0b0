"""A real secondary: Debian's Knot DNS, told where its primary is, without a service or anything outside its folder."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dns.exception
import dns.message
import dns.name
import dns.query
import dns.tsig
import dns.xfr
import dns.zone
from tests.support import child_process, free_port

HOST = "127.0.0.1"
SECRET = b"c2VjcmV0IG9mIDMyIGJ5dGVzLCBvZiBubyB3b3J0aCE="
KEY_NAME = "meridian-knot.example.net"

_CONFIGURATION = """
server:
    rundir: {folder}
    pidfile: {folder}/pid
    listen: {host}@{port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: {folder}
control:
    listen: {folder}/sock
log:
  - target: stdout
    any: info
key:
  - id: {key}
    algorithm: {algorithm}
    secret: {secret}
remote:
  - id: primary
    address: {host}@{primary}
    key: {key}
acl:
  - id: notify
    address: {host}
    key: {key}
    action: notify
  - id: all
    address: {host}
    action: transfer
template:
  - id: default
    storage: {folder}
    zonefile-sync: -1
zone:
  - domain: {zone}
    master: primary
    acl: [notify, all]
"""


@dataclass(frozen=True, slots=True)
class Knot:
    """A running secondary for one zone."""

    port: int
    zone: str
    output: Path

    def answers(self, name: str, type_: str) -> list[str]:
        """What it answers, as text; nothing while it does not have the zone, or does not run yet."""
        query = dns.message.make_query(name, type_)
        try:
            answer = dns.query.udp(query, HOST, port=self.port, timeout=1)
        except dns.exception.Timeout:
            return []
        return [str(record) for rrset in answer.answer for record in rrset]

    def serial(self) -> int | None:
        """The serial of the zone that it has; None while it has none."""
        found = self.answers(self.zone, "SOA")
        return int(found[0].split()[2]) if found else None

    def content(self) -> dns.zone.Zone:
        """The whole zone as it has it."""
        return whole(self.zone, self.port)

    def log(self) -> str:
        """What it said so far."""
        return self.output.read_text()


def whole(name: str, port: int, *, host: str = HOST, signed: str | None = None) -> dns.zone.Zone:
    """A zone by AXFR, taken by dnspython. `signed`: under our key, with this algorithm."""
    zone = dns.zone.Zone(name, relativize=False)
    key = dns.tsig.Key(KEY_NAME, SECRET.decode(), signed) if signed is not None else None
    query, _ = dns.xfr.make_query(zone, keyring=key)
    dns.query.inbound_xfr(host, zone, query, port=port, timeout=5)
    return zone


@contextlib.contextmanager
def knot(folder: Path, zone: str, primary: int, *, port: int | None = None, algorithm: str) -> Iterator[Knot]:
    """Runs the secondary of a primary at a port of 127.0.0.1."""
    port = free_port() if port is None else port
    values = {"folder": folder, "host": HOST, "port": port, "primary": primary, "zone": zone, "algorithm": algorithm}
    (folder / "knot.conf").write_text(_CONFIGURATION.format(**values, key=KEY_NAME, secret=SECRET.decode()))
    output = folder / "knot.log"
    with (
        output.open("w") as log,
        child_process("/usr/sbin/knotd", "-c", str(folder / "knot.conf"), stdout=log, stderr=log),
    ):
        yield Knot(port, zone, output)
