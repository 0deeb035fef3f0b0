"""What apply refuses because the DNS server or OpenSSL would."""

import trustme

from meridian.core.document import load
from meridian.nodes.checks import check_certificates, check_zones

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


def test_a_record_that_the_dns_server_would_refuse_is_found_at_apply() -> None:
    beside = DOCUMENT.replace("value: 192.0.2.1}", "value: 192.0.2.1}, {name: www, type: CNAME, value: x.example.}")
    for document in (DOCUMENT.replace("192.0.2.1", "192.0.2.300"), beside):
        ((place, message),) = check_zones(load(document), {})
        assert place == ("zones", 0)
        assert "www" in message
