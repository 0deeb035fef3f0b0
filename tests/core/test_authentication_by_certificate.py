"""Consumers that are known by their certificates."""

import pytest
from pydantic import ValidationError

from meridian.core.authentication import Authenticator, Consumer, Gate, Identified
from meridian.core.document import DocumentError, load

FINGERPRINT = "ab" * 32


def gate(**consumers: list[str]) -> Gate:
    known = tuple(Consumer(name=name, certificates=tuple(names)) for name, names in consumers.items())
    return Gate.of(Authenticator(name="certs", consumers=known))


@pytest.mark.parametrize(
    ("names", "consumer"),
    [
        (["sha256:" + FINGERPRINT, "dns:a.example.com"], "print"),
        (["sha256:00", "dns:a.example.com"], "exact"),
        (["sha256:00", "dns:b.example.com"], "label"),
        (["sha256:00", "dns:b.c.example.com"], "any"),
        (["uri:spiffe://corp/ns/shop/sa/web"], "path"),
        (["uri:spiffe://corp/other"], "any"),
        (["dns:b.example.com", "dns:a.example.com"], "exact"),
        (["cn:Shop"], "common"),
    ],
)
def test_the_most_exact_name_says_who_it_is(names: list[str], consumer: str) -> None:
    made = gate(
        any=["*"], label=["dns:*.example.com"], exact=["dns:a.example.com"], print=["sha256:" + FINGERPRINT.upper()],
        path=["uri:spiffe://corp/ns/*"], common=["cn:Shop"],
    )  # fmt: skip
    assert made.identify([], names) == Identified(consumer)


def test_without_a_name_that_is_known_nobody_asks() -> None:
    made = gate(one=["dns:a.example.com"])
    assert made.identify([], ["dns:b.example.com"]) is None and made.identify([]) is None
    assert made.challenge == b"", "no secret would help"


def test_a_secret_says_more_than_a_connection() -> None:
    digest = "sha256:" + "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"  # of "test"
    known = (Consumer(name="key", secrets=(digest,)), Consumer(name="cert", certificates=("dns:a.example.com",)))
    made = Gate.of(Authenticator(name="both", header="x-api-key", consumers=known))
    names = ["dns:a.example.com"]
    assert made.identify([(b"x-api-key", b"test")], names) == Identified("key", b"x-api-key")
    assert made.identify([], names) == Identified("cert")
    assert made.identify([(b"x-api-key", b"wrong")], names) is None, "what is shown must be right"


@pytest.mark.parametrize("name", ["a.example.com", "dns:", "dns:a b", "sha256:12", "uri:a*b", "cn:", ""])
def test_what_names_no_certificate_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="names no certificate"):
        Consumer(name="one", certificates=(name,))


def test_two_consumers_by_one_name_are_refused() -> None:
    with pytest.raises(ValidationError, match="give each its own"):
        gate(one=["dns:a.example.com"], two=["dns:A.example.com."])


def test_somebody_must_ask_for_the_certificate() -> None:
    listener = "listeners: [{name: web, bind: '0.0.0.0:80', protocols: [h1]}]\n"
    with pytest.raises(DocumentError, match="no listener asks for a certificate"):
        load(listener + "authenticators: [{name: a, consumers: [{name: b, certificates: ['*']}]}]\n")
    with pytest.raises(DocumentError, match="client_certificates need TLS"):
        load(listener.replace("[h1]", "[h1], client_certificates: {ca_file: ca.pem}"))
