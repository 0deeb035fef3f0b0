"""slowhttptest, which is not ours, against the guards: its four attacks at once; a client that behaves asks on."""

import asyncio
import json
import statistics

from tests.hardening.test_attacks import MEDIAN_SECONDS_MAX, TIGHT, child, service, serving

CONNECTIONS = 10
LASTS_SECONDS = 30
"""If nobody cuts it off, which takes three seconds."""

ATTACKS = {
    "slow heads": ("-H", "/", "slow_header"),
    "slow bodies": ("-B", "/take", "body_timeout"),
    "slow reads": ("-X", "/big", "slow_read"),
    "ranges": ("-R", "/", ""),
}
"""Its option, where to, and what is counted for each connection; `ranges` are answered, and idle from then on."""


async def is_cut_off(port: int, option: str, path: str) -> bool:
    """Whether slowhttptest says so."""
    process = await asyncio.create_subprocess_exec(
        "slowhttptest", option, "-c", str(CONNECTIONS), "-r", str(CONNECTIONS), "-i", "1", "-l", str(LASTS_SECONDS),
        "-x", "10", "-w", "256", "-y", "1024", "-n", "1", "-z", "8192", "-v", "1", "-u", f"https://localhost:{port}{path}",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    return b"No open connections left" in said


async def test_it_is_cut_off() -> None:
    async with serving(service) as app, child("bystander") as bystander:
        fine = (await bystander.hear()).strip()
        async with child("victim", str(app), fine, json.dumps({**TIGHT, "connections_per_client_max": 1000})) as victim:
            said = await victim.hear()
            port = int(said.split()[0])
            await bystander.tell(said.strip())
            await bystander.hear()
            ends = await asyncio.gather(*(is_cut_off(port, option, path) for option, path, _ in ATTACKS.values()))
            took, seen = await bystander.seconds(), await victim.ask()
    counted = seen["refused"] | seen["whys"]
    cut = [
        name
        for (name, (_, _, why)), end in zip(ATTACKS.items(), ends, strict=True)
        if end and (not why or counted.get(why, 0) >= CONNECTIONS)
    ]
    median = statistics.median(took)
    print(f"\nslowhttptest: {len(cut)} of {len(ATTACKS)} cut off; others: {median * 1000:.1f} ms")  # noqa: T201 # the score
    assert cut == list(ATTACKS), (ends, seen)
    assert median < MEDIAN_SECONDS_MAX
