"""Validators that are not ours: delv (BIND) asks the running server with a trust anchor, ldns-verify-zone reads a whole
signed zone."""

import base64
import itertools
import subprocess
import time
from pathlib import Path

import pytest
from tests.dns.running import running
from tests.dns.signed_world import make_signed_zone, make_signer
from tests.dns.world import ORIGIN, make_view

from meridian_dns.server import DnsServer
from meridian_dns.signing import ECDSA_P256, ED25519, Denial, Signer
from meridian_dns.zone import ZoneSet
from meridian_dns.zonefile import zone_from_file, zone_to_file

ALL = list(itertools.product(Denial, (ECDSA_P256, ED25519)))
QUESTIONS = [
    *(("shop", "A"), ("www", "AAAA"), ("x.wild", "A"), ("x.wildcname", "A"), ("secure", "DS"), ("svc", "HTTPS")),
    *(("_sip._tcp", "SRV"), ("flat", "A"), ("note", "TXT")),
]
ABSENT = [("missing", "A"), ("a.b.missing", "MX"), ("shop", "TXT"), ("empty", "A"), ("sub", "DS"), ("x.wild", "MX")]


def real_signer(denial: Denial, algorithm: int) -> Signer:
    """By the machine's clock, as the validators go by it."""
    return make_signer(denial=denial, algorithm=algorithm, clock=time.time)  # type: ignore[arg-type]  # noqa: TID251


def delv(port: int, anchors: Path, name: str, type_: str) -> str:
    command = ["delv", "@127.0.0.1", "-p", str(port), "-a", str(anchors), f"+root={ORIGIN}", f"{name}.{ORIGIN}.", type_]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return f"{done.stdout}{done.stderr}"


@pytest.mark.parametrize(("denial", "algorithm"), ALL)
def test_delv_believes_the_running_server(denial: Denial, algorithm: int, tmp_path: Path) -> None:
    signer = real_signer(denial, algorithm)
    key = signer.keys.uses[0].key
    public = base64.b64encode(key.public).decode()
    anchors = tmp_path / "anchors"
    anchors.write_text(f'trust-anchors {{ {ORIGIN}. static-key 257 3 {algorithm} "{public}"; }};\n')
    with running(DnsServer(ZoneSet([make_signed_zone(signer)]), make_view(), None)) as server:
        for name, type_ in QUESTIONS:
            told = delv(server.port, anchors, name, type_)
            assert "; fully validated" in told, told
        for name, type_ in ABSENT:
            told = delv(server.port, anchors, name, type_)
            assert "; negative response, fully validated" in told, told
        other = "A" if public[40] != "A" else "B"
        anchors.write_text(
            f'trust-anchors {{ {ORIGIN}. static-key 257 3 {algorithm} "{public[:40]}{other}{public[41:]}"; }};\n'
        )
        assert "fully validated" not in delv(server.port, anchors, "shop", "A")


@pytest.mark.parametrize(("denial", "algorithm"), ALL)
def test_ldns_believes_a_whole_zone(denial: Denial, algorithm: int, tmp_path: Path) -> None:
    zone = make_signed_zone(real_signer(denial, algorithm))
    text = zone_to_file(zone, signed=True)
    assert verify(text, tmp_path) == (0, "")
    for old, new in (("192.0.2.99", "192.0.2.98"), (f"note.{ORIGIN}. 60 IN NSEC", f"mote.{ORIGIN}. 60 IN NSEC")):
        assert old in text and verify(text.replace(old, new), tmp_path)[0] != 0
    plain = zone_to_file(zone)
    assert "DNSKEY" not in plain and zone_from_file(plain, ORIGIN).signer is None


def verify(text: str, folder: Path) -> tuple[int, str]:
    (folder / "zone").write_text(text)
    command = ["ldns-verify-zone", "-V", "1", str(folder / "zone")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return done.returncode, done.stdout + done.stderr
