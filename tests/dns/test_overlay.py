"""Texts that stand in a zone for a while: they are answered, and nothing else is answered otherwise."""

import itertools

import dns.message
import dns.rdatatype
import pytest
from tests.dns.signed_world import Validator, make_signed_zone, make_signer
from tests.dns.test_securing import NAMES, ask, server_of
from tests.dns.world import ORIGIN

from meridian_dns.names import name_from_text
from meridian_dns.overlay import with_texts
from meridian_dns.server import DnsServer
from meridian_dns.signing import Denial

HOSTS = ("shop", "x.wild", "y.x.wild", "x.wildgeo", "x.wildcname", "new", "a.new", "note")


def owner(host: str) -> bytes:
    return name_from_text(f"_acme-challenge.{host}.{ORIGIN}.")


def answered(server: DnsServer, name: str, type_: str) -> tuple[int, set[tuple[str, str]]]:
    message = dns.message.from_wire(ask(server, name, type_, do=False))
    return message.rcode(), {(str(rrset.name), str(rdata)) for rrset in message.answer for rdata in rrset}


@pytest.mark.parametrize("denial", Denial)
def test_texts_are_answered_and_validators_believe_them_and_all_else(denial: Denial) -> None:
    zone = make_signed_zone(make_signer(denial=denial))
    proving = with_texts(zone, {owner(host): ("proof", "another") for host in HOSTS})
    server, validator = server_of(proving), Validator(proving)
    for host in HOSTS:
        name = f"_acme-challenge.{host}.{ORIGIN}."
        assert answered(server, name, "TXT")[1] == {(name, '"proof"'), (name, '"another"')}
        assert validator.check(ask(server, name, "TXT"), name, "TXT") == "secure"
    near = ("", "missing.", "note.", "wild.", "a.x.wild.", "a.wildcname.", *(f"{host}." for host in HOSTS))
    for name, type_ in itertools.product(near, ("A", "TXT", "MX", "DS")):
        validator.check(ask(server, f"{name}{ORIGIN}.", type_), f"{name}{ORIGIN}.", type_)
    assert server.counters.errors == 0


def test_no_other_name_is_answered_with_other_records() -> None:
    zone = make_signed_zone()
    proving = with_texts(zone, {owner(host): ("proof",) for host in HOSTS})
    servers = [server_of(one) for one in (zone, proving)]
    names = (*NAMES, *(f"{host}." for host in HOSTS), "a.x.wild.", "a.b.x.wild.", "a.x.wildcname.", "b.a.new.")
    for name, type_ in itertools.product(names, ("A", "AAAA", "TXT", "CNAME", "MX")):
        before, after = (answered(server, f"{name}{ORIGIN}.", type_) for server in servers)
        assert before[1] == after[1], (name, type_)
    assert with_texts(zone, {}) is zone


def test_what_a_zone_cannot_hold_is_left_out() -> None:
    zone = make_signed_zone()
    elsewhere = {name_from_text(name): ("proof",) for name in (f"x.sub.{ORIGIN}.", f"www.{ORIGIN}.", "other.example.")}
    assert with_texts(zone, elsewhere) is zone


def test_a_text_of_the_document_stays_beside() -> None:
    proving = with_texts(make_signed_zone(), {name_from_text(f"note.{ORIGIN}."): ("proof",)})
    _, found = answered(server_of(proving), f"note.{ORIGIN}.", "TXT")
    assert {text for _, text in found} == {'"v=spf1 -all" "second"', '"another"', '"proof"'}
