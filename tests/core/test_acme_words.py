"""What a document may say of certificates that are obtained."""

import re

import pytest
from tests.support import ROOT

from meridian.core.document import DocumentError, load, warnings
from meridian.nodes.checks import check_challenges

TEXT = """\
listeners:
  - {name: web, bind: "0.0.0.0:80", protocols: [h1]}
  - {name: secure, bind: "0.0.0.0:443", protocols: [h1, h2]}
acme:
  - {name: by-http, directory: "https://acme.example/directory"}
  - {name: by-dns, directory: "https://acme.example/directory", challenge: dns-01}
certificates:
  - {hosts: [shop.gw.example.com], acme: by-http}
  - {hosts: ["*.gw.example.com", gw.example.com], acme: by-dns}
zones:
  - {name: gw.example.com, nameservers: [ns1.gw.example.com]}
"""


def test_it_can_run() -> None:
    document = load(TEXT)
    assert warnings(TEXT, document) == () and list(check_challenges(document, {})) == []
    assert list(document.certificate_files()) == []


def test_the_example_of_the_docs_can_run() -> None:
    page = (ROOT / "docs" / "tls.md").read_text()
    (block,) = re.findall(r"```yaml\n(acme:.*?)```", page, re.DOTALL)
    document = load(TEXT.partition("acme:")[0] + block)
    assert list(check_challenges(document, {})) == []


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("acme: by-http}", "acme: by-htp}", 8, "there is no authority 'by-htp' (known: by-http, by-dns)"),
        ("acme: by-http}", "acme: by-http, key_file: a.key}", 8, "give cert_file and key_file, or acme"),
        (", acme: by-http}", "}", 8, "give cert_file and key_file, or acme"),
        (
            "[shop.gw.example.com]",
            '["*.shop.gw.example.com"]',
            8,
            "cannot be proven over HTTP; use an authority with challenge: dns-01",
        ),
        ("[shop.gw.example.com]", '["192.0.2.1"]', 8, "is no host that ACME can prove"),
        ("[shop.gw.example.com]", "[localhost]", 8, "is no host that ACME can prove"),
        ('https://acme.example/directory"}', 'http://acme.example/directory"}', 5, "https"),
        ("by-dns, directory", "by-http, directory", 6, "used twice in acme"),
    ],
)
def test_what_cannot_be_obtained_is_refused(old: str, new: str, line: int, message: str) -> None:
    text = TEXT.replace(old, new, 1)
    with pytest.raises(DocumentError) as refused:
        load(text)
    assert message in str(refused.value) and f"line {line}," in str(refused.value)


def test_too_many_hosts_are_refused() -> None:
    hosts = ", ".join(f"h{i}.example.com" for i in range(101))
    with pytest.raises(DocumentError, match="at most 100 hosts"):
        load(TEXT.replace("[shop.gw.example.com]", f"[{hosts}]"))


def test_hosts_that_are_proven_in_dns_need_their_zone() -> None:
    document = load(TEXT.replace("*.gw.example.com", "*.example.com"))
    ((place, message),) = check_challenges(document, {})
    assert place == ("certificates", 1, "hosts") and "'*.example.com' is in none of zones" in message


def test_proofs_that_nobody_finds_are_warned_of() -> None:
    text = TEXT.replace(
        '{name: web, bind: "0.0.0.0:80", protocols: [h1]}', '{name: web, bind: "0.0.0.0:80", protocols: [h2]}'
    )
    (found,) = warnings(text, load(text))
    assert found.place == "certificates[0].acme" and "no listener has h1 without TLS" in found.message
    copied = TEXT.replace("[ns1.gw.example.com]}", "[ns1.gw.example.com], secondaries: [{address: 192.0.2.53}]}")
    (found,) = warnings(copied, load(copied))
    assert found.place == "certificates[1].acme" and "secondaries" in found.message
