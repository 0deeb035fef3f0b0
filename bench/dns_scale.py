"""What many zones cost: 100,000 records in 1,000 zones beside 10 records in one, each in a process of its own.

    .venv/bin/python -m bench.dns_scale [--zones 1000] [--records 100]

`start` is the CPU time until the first answer, imports and building from zone files included. A `first` query asks for
a name that was not asked for before, an `again` query for one of those, in a random order; both are CPU per query
inside the server, without the kernel's part. Memory is the largest that the process ever had.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import time

from meridian_dns.message import HEADER
from meridian_dns.names import name_from_text
from meridian_dns.server import DnsServer
from meridian_dns.view import RegionView
from meridian_dns.zone import Zone, ZoneSet
from meridian_dns.zonefile import zone_from_file

QUERIES = 100_000
CLIENT = "192.0.2.1"
HEAD = """$ORIGIN z{zone}.example.
$TTL 300
@ SOA ns1.example.net. hostmaster.example.net. 1 3600 600 604800 60
@ NS ns1.example.net.
@ NS ns2.example.net.
"""


def zone_of(zone: int, records: int) -> Zone:
    """A zone with so many addresses."""
    lines = (f"h{record} A 10.{zone % 256}.{record % 256}.{record // 256 + 1}\n" for record in range(records))
    return zone_from_file(HEAD.format(zone=zone) + "".join(lines), f"z{zone}.example")


def query_for(zone: int, record: int) -> bytes:
    """A question for one of them."""
    return HEADER.pack(record, 0x100, 1, 0, 0, 0) + name_from_text(f"h{record}.z{zone}.example") + b"\0\1\0\1"


def measure(zones: int, records: int) -> dict[str, float]:
    """Builds, asks, and says what it cost."""
    server = DnsServer(ZoneSet(zone_of(zone, records) for zone in range(zones)), RegionView(1, {}), None)
    assert server.respond(query_for(0, 0), CLIENT)
    start = time.process_time()
    built_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    asked = [query_for(zone, record) for zone in range(zones) for record in range(records)][:QUERIES]
    chance = random.Random(7)
    chance.shuffle(asked)
    first = _cost(server, asked)
    again = _cost(server, chance.choices(asked, k=QUERIES))
    return {
        "records": zones * records,
        "start_cpu_seconds": round(start, 2),
        "megabytes_built": round(built_bytes / 2**20),
        "megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10),
        "us_per_first_query": round(first, 2),
        "us_per_query_again": round(again, 2),
    }


def _cost(server: DnsServer, asked: list[bytes]) -> float:
    """CPU microseconds of a query."""
    began = time.process_time()
    for query in asked:
        server.respond(query, CLIENT)
    return (time.process_time() - began) / len(asked) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zones", type=int, default=1000)
    parser.add_argument("--records", type=int, default=100, help="of each zone")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        print(json.dumps(measure(options.zones, options.records)))
        return
    for zones, records in ((1, 10), (options.zones, options.records)):
        command = [sys.executable, "-m", "bench.dns_scale", "--alone", "--zones", str(zones), "--records", str(records)]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
