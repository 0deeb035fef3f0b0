"""Between a document, the keeper of certificates, status and metrics."""

from tests.core.test_acme_words import TEXT
from tests.nodes.test_checks import issue

from meridian.control.acme import keeper
from meridian.control.acme.records import External
from meridian.core.document import load
from meridian.core.snapshot import Ordered, compile_certificates
from meridian.nodes.certificates import certificate_series, certificate_wishes, certificates_status
from meridian.nodes.checks import check_authorities

EXTERNAL = "external_account: {key_id: k7, key_file: k7.txt}, ca_file: ca.pem"
BOUND = TEXT.replace('directory"}', f'directory", {EXTERNAL}}}', 1)


def test_wishes_are_kept_under_what_workers_look_for() -> None:
    document, files = load(BOUND), {"ca.pem": b"pem", "k7.txt": b"c2VjcmV0"}
    one, other = certificate_wishes(document, files)
    assert one.authority.external == External("k7", b"c2VjcmV0") and one.authority.ca_pem == b"pem"
    assert other.authority.challenge == "dns-01" and other.authority.external is None
    assert [Ordered(wish.hosts, wish.id) for wish in (one, other)] == list(compile_certificates(document, files))
    assert {name for _, name in document.files()} == {"ca.pem", "k7.txt"}


def test_files_of_an_authority_are_tried_at_apply_and_never_shown() -> None:
    chain, _ = issue()
    assert list(check_authorities(load(BOUND), {"ca.pem": chain, "k7.txt": b"c2VjcmV0\n"})) == []
    (ca, key) = check_authorities(load(BOUND), {"ca.pem": b"?", "k7.txt": b"a secret!"})
    assert ca == (("acme", 0, "ca_file"), "ca.pem holds no certificate in PEM")
    assert key[0] == ("acme", 0, "external_account", "key_file") and "secret" not in key[1]


def test_status_and_metrics_say_until_when_and_why_not() -> None:
    late = keeper.CertificateStatus(("a.example.com",), "own", reason="no proof [x]", try_at=3600.0)
    valid = keeper.CertificateStatus(("b.example.com", "c.example.com"), "own", 7200.0, 5400.0)
    found = certificates_status([late, valid], 1800.0)
    assert [(one.state, one.try_at, one.not_after) for one in found] == [
        ("missing", "1970-01-01T01:00:00+00:00", ""), ("valid", "", "1970-01-01T02:00:00+00:00"),
    ]  # fmt: skip
    assert certificates_status([valid], 7200.0)[0].state == "expired"
    series = {(one.name, one.labels["certificate"]): one.value for one in certificate_series([late, valid])}
    assert series == {
        ("meridian_certificate_expires_seconds", "a.example.com"): 0.0,
        ("meridian_certificate_late", "a.example.com"): 1.0,
        ("meridian_certificate_expires_seconds", "b.example.com"): 7200.0,
        ("meridian_certificate_late", "b.example.com"): 0.0,
    }
