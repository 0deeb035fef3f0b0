"""Keys and signatures: against dnspython, and that they are functions."""

import dns.dnssec
import dns.name
import dns.rdata
import dns.rdatatype
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.dns.signed_world import NOW, Clock, make_key, make_signer

from meridian_dns.names import name_from_text
from meridian_dns.records import TXT, RRset
from meridian_dns.signing import (
    EARLY_SECONDS,
    ECDSA_P256,
    ED25519,
    LATE_SECONDS,
    REFRESH_SECONDS,
    ZONE_KEY,
    KeySet,
    KeyUnfit,
    KeyUse,
    Signatures,
    Signer,
    SigningKey,
    generate_der,
)

ORIGIN = name_from_text("example.com")


def text_at(label: str, ttl_seconds: int = 60) -> RRset:
    return RRset(name_from_text(f"{label}.example.com"), TXT, ttl_seconds, (b"\1b", b"\1a"))


@pytest.mark.parametrize("algorithm", [ECDSA_P256, ED25519])
def test_tag_and_digest_are_those_of_dnspython(algorithm: int) -> None:
    key = make_key(algorithm)
    theirs = dns.rdata.from_wire("IN", "DNSKEY", key.rdata, 0, len(key.rdata))
    assert key.tag == dns.dnssec.key_id(theirs)  # type: ignore[arg-type]
    digest = dns.dnssec.make_ds("example.com.", theirs, "SHA256")
    assert key.ds_rdata(ORIGIN) == digest.to_wire()


@pytest.mark.parametrize("algorithm", [ECDSA_P256, ED25519])
def test_all_servers_with_one_key_give_the_same_bytes(algorithm: int) -> None:
    der = generate_der(algorithm)
    made = []
    for clock in (Clock(), Clock(NOW + 60)):
        key = SigningKey.from_der(algorithm, 257, der)
        signer = Signer(ORIGIN, KeySet((KeyUse(key, True, True),)), signatures=Signatures(clock))
        made.append(signer.sign(text_at("same")))
    assert made[0] == made[1]


def test_a_signature_is_valid_around_its_use() -> None:
    clock = Clock()
    signer = make_signer("example.com", clock=clock)
    records = text_at("time")
    until = signer.fresh_until([records])
    assert NOW < until <= NOW + REFRESH_SECONDS
    rdata = signer.sign(records).rdatas[0]
    expires, valid_from = int.from_bytes(rdata[8:12], "big"), int.from_bytes(rdata[12:16], "big")
    assert expires == until + LATE_SECONDS and valid_from == until - REFRESH_SECONDS - EARLY_SECONDS
    clock.now = until - 1
    assert signer.sign(records).rdatas[0] == rdata
    clock.now = until
    assert signer.sign(records).rdatas[0] != rdata
    turns = {signer.fresh_until([text_at(f"name{index}")]) for index in range(50)}
    assert len(turns) > 45, "not all at once"


def test_each_key_signs_its_part() -> None:
    ksk, zsk = make_key(), make_key(flags=ZONE_KEY)
    keys = KeySet((KeyUse(ksk, True, False), KeyUse(zsk, False, True)), (ksk,))
    signer = Signer(ORIGIN, keys, signatures=Signatures(Clock()))
    apex = signer.apex_sets()
    assert [records.type for records in apex] == [48, 59, 60]
    tag = slice(16, 18)
    for records in apex:
        assert [rdata[tag] for rdata in signer.sign(records).rdatas] == [ksk.tag.to_bytes(2, "big")]
    assert [rdata[tag] for rdata in signer.sign(text_at("x")).rdatas] == [zsk.tag.to_bytes(2, "big")]
    assert apex[1].rdatas == (ksk.ds_rdata(ORIGIN),) and apex[2].rdatas == (ksk.rdata,)


def test_leaving_asks_the_parent_for_nothing() -> None:
    key = make_key()
    keys = KeySet((KeyUse(key, True, True),), (key,), is_leaving=True)
    apex = Signer(ORIGIN, keys, signatures=Signatures(Clock())).apex_sets()
    assert dns.rdata.from_wire("IN", "CDS", apex[1].rdatas[0], 0, 5).to_text() == "0 0 0 00"
    assert apex[2].rdatas == (b"\0\0\3\0\0",)


def test_what_is_kept_is_bounded_and_passing_names_push_out_nothing() -> None:
    key = make_key(ED25519)
    signatures = Signatures(Clock(), signatures_max=10, passing_max=5)
    signer = Signer(ORIGIN, KeySet((KeyUse(key, True, True),)), signatures=signatures)
    signer.sign(text_at("kept"))
    for index in range(100):
        signer.sign(text_at(f"random{index}"), is_passing=True)
        assert len(signatures) <= 6
    made = signatures.made
    signer.sign(text_at("kept"))
    assert signatures.made == made
    for index in range(100):
        signer.sign(text_at(f"name{index}"))
    assert len(signatures) <= 15


def test_keys_that_do_not_fit_are_refused_and_never_shown() -> None:
    key = make_key()
    with pytest.raises(KeyUnfit, match="cannot be read"):
        SigningKey.from_der(ECDSA_P256, 257, b"secret")
    with pytest.raises(KeyUnfit, match="not of algorithm 15"):
        SigningKey.from_der(ED25519, 257, generate_der(ECDSA_P256))
    other = generate_private_key(SECP384R1()).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(KeyUnfit, match="secp384r1"):
        SigningKey.from_der(ECDSA_P256, 257, other)
    with pytest.raises(KeyUnfit, match="algorithm 8"):
        generate_der(8)
    with pytest.raises(KeyUnfit, match="needs a key"):
        KeySet((KeyUse(key, True, False),))
    assert "private" not in repr(key)
