"""Certificates as openssl judges them, and requests that nobody should sign."""

import datetime
import ipaddress
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from meridian.pki.authority import (
    AUTHORITY_LIFETIME,
    LIFETIME,
    Identity,
    PkiError,
    addresses_of,
    create,
    due,
    identity_of,
    load,
    make_authority,
    new_key,
    request,
    requested,
)

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
NODE = Identity("eu-1", addresses_of(["10.1.0.7", "fd00::7"]), ("eu-1.example.com",))


def test_openssl_accepts_a_machine_s_certificate_for_both_sides(tmp_path: Path) -> None:
    authority = create(tmp_path / "authority", "shop", NOW)
    leaf = tmp_path / "leaf.pem"
    leaf.write_bytes(authority.issue(NODE, new_key().public_key(), NOW))
    for purpose in ("sslserver", "sslclient"):
        command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile"]
        done = subprocess.run(
            [*command, tmp_path / "authority/ca.pem", leaf], capture_output=True, text=True, timeout=20
        )
        assert done.returncode == 0, done.stdout + done.stderr
    text = subprocess.run(
        ["openssl", "x509", "-noout", "-text", "-in", leaf], capture_output=True, text=True, timeout=20
    )
    for part in ("DNS:eu-1, DNS:eu-1.example.com, IP Address:10.1.0.7, IP Address:FD00:0:0:0:0:0:0:7", "CA:FALSE"):
        assert part in text.stdout


def test_a_machine_cannot_play_the_authority(tmp_path: Path) -> None:
    authority, key = make_authority("shop", NOW), new_key()
    certificate = x509.load_pem_x509_certificate(authority.issue(NODE, key.public_key(), NOW))
    false = type(authority)(certificate, key).issue(Identity("eu-2"), new_key().public_key(), NOW)
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    (tmp_path / "between.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "leaf.pem").write_bytes(false)
    command = ["openssl", "verify", "-CAfile", "ca.pem", "-untrusted", "between.pem", "leaf.pem"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode != 0 and "CA" in done.stderr


def test_the_folder_is_private_and_made_once(tmp_path: Path) -> None:
    folder = tmp_path / "authority"
    made = create(folder, "shop", NOW)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    assert len((folder / "cluster.key").read_bytes()) == 32
    assert load(folder).pem == made.pem
    with pytest.raises(PkiError, match="holds an authority already"):
        create(folder, "shop", NOW)
    create(tmp_path / "other", "shop", NOW)
    (folder / "ca.key").write_bytes((tmp_path / "other/ca.key").read_bytes())
    with pytest.raises(PkiError, match="not the key of"):
        load(folder)


def test_no_certificate_outlives_its_authority() -> None:
    authority = make_authority("shop", NOW)
    late = NOW + AUTHORITY_LIFETIME - datetime.timedelta(days=1)
    certificate = x509.load_pem_x509_certificate(authority.issue(NODE, new_key().public_key(), late))
    assert certificate.not_valid_after_utc == authority.certificate.not_valid_after_utc


@pytest.mark.parametrize(("passed", "wanted"), [(0.0, False), (0.32, False), (0.34, True), (1.5, True)])
def test_a_certificate_is_due_when_a_third_of_its_time_is_over(passed: float, wanted: bool) -> None:
    authority = make_authority("shop", NOW)
    certificate = x509.load_pem_x509_certificate(authority.issue(NODE, new_key().public_key(), NOW))
    assert due(certificate, NOW + LIFETIME * passed) is wanted


def test_a_request_says_what_its_certificate_will(tmp_path: Path) -> None:
    key = new_key()
    identity, public = requested(request(NODE, key))
    assert identity == NODE and public == key.public_key()
    certificate = x509.load_pem_x509_certificate(make_authority("shop", NOW).issue(identity, public, NOW))
    assert identity_of(certificate) == NODE


def _request(names: list[x509.GeneralName] | None, common: list[str], *, key: rsa.RSAPrivateKey | None = None) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in common])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key or new_key(), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


NAME = x509.DNSName("eu-1")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (b"nothing", "cannot be read"),
        (_request(None, ["eu-1"]), "cannot be read"),
        (_request([NAME], ["eu-1", "eu-2"]), "one common name"),
        (_request([x509.DNSName("*.example.com")], ["eu-1"]), "no wildcards"),
        (_request([NAME, x509.RFC822Name("a@example.com")], ["eu-1"]), "host names and addresses"),
        (_request([x509.DNSName(f"n{i}") for i in range(17)], ["eu-1"]), "at most 16"),
        (_request([NAME], ["eu-1"], key=rsa.generate_private_key(65537, 2048)), "not of P-256"),
    ],
)
def test_what_nobody_should_sign_is_refused(asked: bytes, message: str) -> None:
    with pytest.raises(PkiError, match=message):
        requested(asked)


def test_a_request_that_was_changed_is_refused() -> None:
    pem = _request([NAME], ["eu-1"])
    der = bytearray(x509.load_pem_x509_csr(pem).public_bytes(serialization.Encoding.DER))
    at = der.rindex(b"eu-1")
    der[at : at + 4] = b"eu-9"
    changed = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)
    with pytest.raises(PkiError, match="not signed by its own key"):
        requested(changed)


@pytest.mark.parametrize("text", ["0.0.0.0", "::", "host", "10.0.0.0/8"])
def test_an_address_is_of_one_machine(text: str) -> None:
    with pytest.raises(PkiError):
        addresses_of([text])
    assert addresses_of(["10.0.0.1"]) == (ipaddress.ip_address("10.0.0.1"),)
