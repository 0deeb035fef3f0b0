"""What apply refuses because the DNS server or OpenSSL would."""

import pytest
import trustme

from meridian.core.document import load
from meridian.nodes.checks import (
    check_certificates,
    check_client_certificates,
    check_keys,
    check_upstream_tls,
    check_zones,
)

DOCUMENT = """\
listeners: [{name: secure, bind: "0.0.0.0:443", protocols: [h2]}]
certificates: [{hosts: [a.example], cert_file: a.pem, key_file: a.key}]
zones:
  - name: gw.example.com
    nameservers: [ns1.gw.example.com]
    records: [{name: www, type: A, value: 192.0.2.1}]
"""


def issue() -> tuple[bytes, bytes]:
    certificate = trustme.CA().issue_cert("a.example")
    return certificate.cert_chain_pems[0].bytes(), certificate.private_key_pem.bytes()


def test_what_can_run_is_not_objected_to() -> None:
    chain, key = issue()
    assert list(check_zones(load(DOCUMENT), {})) == []
    assert list(check_certificates(load(DOCUMENT), {"a.pem": chain, "a.key": key})) == []


def test_a_key_of_another_certificate_is_named_and_never_shown() -> None:
    chain, _ = issue()
    _, key = issue()
    ((place, message),) = check_certificates(load(DOCUMENT), {"a.pem": chain, "a.key": key})
    assert place == ("certificates", 0)
    assert "a.key must be the key" in message
    assert "PRIVATE" not in message


def test_authorities_of_clients_are_tried_at_apply() -> None:
    chain, key = issue()
    text = DOCUMENT.replace(
        "protocols: [h2]", "protocols: [h2], client_certificates: {ca_file: ca.pem, crl_file: crl.pem}"
    )
    files = {"ca.pem": chain, "crl.pem": chain}
    ((place, message),) = check_client_certificates(load(text), files)
    assert place == ("listeners", 0) and "crl_file holds no revocation list" in message
    ((place, message),) = check_client_certificates(load(text), files | {"ca.pem": key})
    assert "ca_file holds no certificate" in message and "PRIVATE" not in message


def test_files_of_an_upstream_are_tried_at_apply() -> None:
    chain, key = issue()
    tls = "tls: {ca_file: ca.pem, cert_file: a.pem, key_file: a.key}"
    text = f"{DOCUMENT}upstreams: [{{name: app, endpoints: [{{address: 'a.example:443'}}], {tls}}}]\n"
    files = {"a.pem": chain, "a.key": key, "ca.pem": chain}
    assert list(check_upstream_tls(load(text), files)) == []
    for wrong, said in (
        (files | {"ca.pem": key}, "ca_file holds no"),
        (files | {"a.key": issue()[1]}, "the key must be"),
    ):
        ((place, message),) = check_upstream_tls(load(text), wrong)
        assert place == ("upstreams", 0, "tls") and said in message and "PRIVATE" not in message


@pytest.mark.parametrize("fault", ["", "wrong order", "an issuer of others", "one missing between"])
def test_a_chain_that_clients_cannot_follow_is_found_at_apply(fault: str) -> None:
    root = trustme.CA()
    between = root.create_child_ca()
    issued = between.create_child_ca().issue_cert("a.example")
    leaf, issuer, above = (blob.bytes() for blob in issued.cert_chain_pems)
    chain = {
        "": [leaf, issuer, above, root.cert_pem.bytes()],
        "wrong order": [leaf, above, issuer],
        "an issuer of others": [leaf, trustme.CA().cert_pem.bytes()],
        "one missing between": [leaf, issuer, root.cert_pem.bytes()],
    }[fault]
    files = {"a.pem": b"".join(chain), "a.key": issued.private_key_pem.bytes()}
    problems = list(check_certificates(load(DOCUMENT), files))
    if not fault:
        assert problems == []
        return
    ((place, message),) = problems
    assert place == ("certificates", 0)
    assert message.startswith("a.pem: the certificate OU=") and "put that of the host first" in message


def test_a_record_that_the_dns_server_would_refuse_is_found_at_apply() -> None:
    beside = DOCUMENT.replace("value: 192.0.2.1}", "value: 192.0.2.1}, {name: www, type: CNAME, value: x.example.}")
    for document in (DOCUMENT.replace("192.0.2.1", "192.0.2.300"), beside):
        ((place, message),) = check_zones(load(document), {})
        assert place == ("zones", 0)
        assert "www" in message


TRANSFERS = """\
listeners: [{name: web, bind: "0.0.0.0:80", protocols: [h1]}]
regions: [{name: eu, addresses: [192.0.2.1]}, {name: us}]
tsig_keys: [{name: key.example, secret_file: ns2.key}]
zones:
  - name: gw.example.com
    nameservers: [ns.example.net]
    secondaries: [{address: 192.0.2.53, tsig_key: key.example}]
    records: [{name: www, type: A, steer: {regions: [eu]}}]
"""


def test_what_a_secondary_could_not_be_given_is_found_at_apply() -> None:
    assert list(check_zones(load(TRANSFERS), {})) == []
    ((place, message),) = check_zones(load(TRANSFERS.replace("regions: [eu]", "regions: [us]")), {})
    assert place == ("zones", 0)
    assert "www.gw.example.com" in message and "give those regions addresses, or remove secondaries" in message


def test_a_secret_that_is_none_is_named_and_never_shown() -> None:
    document = load(TRANSFERS)
    assert list(check_keys(document, {"ns2.key": b"c2VjcmV0IG9mIDMyIGJ5dGVzLCBvZiBubyB3b3J0aCE=\n"})) == []
    for content, said in ((b"dG9wc2VjcmV0", "9 bytes"), (b"topsecret!", "not base64")):
        ((place, message),) = check_keys(document, {"ns2.key": content})
        assert place == ("tsig_keys", 0)
        assert "key.example" in message and "ns2.key" in message and said in message
        assert "topsecret" not in message and "dG9w" not in message
