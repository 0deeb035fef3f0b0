"""Makes the authority, and certificates of it. Time is an argument; keys are the only thing drawn by chance.

A folder of the authority holds ca.pem, ca.key, cluster.key (what configuration is sealed with) and the tokens. A folder
of a machine holds ca.pem, certificate.pem, private.key and, on nodes, cluster.key. Everything has mode 0600.

A certificate is good for both sides of a connection, since agents and etcd members dial each other. It lasts a week: a
stolen one is worth little, nothing needs to be revoked, and an authority that is away for days harms nobody.
"""

import datetime
import ipaddress
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFETIME = datetime.timedelta(days=3650)
LIFETIME = datetime.timedelta(days=7)
SKEW = datetime.timedelta(minutes=5)  # clocks of machines that just booted
NAMES_MAX = 16  # names and addresses of one certificate
CLUSTER_KEY_BYTES = 32

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class PkiError(Exception):
    """The message says what is wrong, `remedy` what to do."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a certificate is for: its name (also the common name), and where it is reached."""

    name: str
    addresses: tuple[Address, ...] = ()
    hosts: tuple[str, ...] = ()

    @property
    def alternative_names(self) -> list[x509.GeneralName]:
        hosts = [x509.DNSName(host) for host in dict.fromkeys((self.name, *self.hosts))]
        return [*hosts, *(x509.IPAddress(address) for address in self.addresses)]


@dataclass(frozen=True, slots=True)
class Authority:
    """The certificate and the key that sign all others."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self, identity: Identity, key: ec.EllipticCurvePublicKey, now: datetime.datetime,
        lifetime: datetime.timedelta = LIFETIME,
    ) -> bytes:  # fmt: skip
        """Returns a certificate for `key` as PEM, valid from `now` on; it never outlives the authority."""
        until = min(now + lifetime, self.certificate.not_valid_after_utc)
        issuer = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        builder = (
            _builder(_subject(identity.name), self.certificate.subject, key, now, until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(identity.alternative_names), critical=False)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False)
        )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def make_authority(name: str, now: datetime.datetime) -> Authority:
    """A new authority for ten years; it may sign machines, and no other authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        _builder(_subject(name), _subject(name), key.public_key(), now, now + AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
    )
    return Authority(builder.sign(key, hashes.SHA256()), key)


def create(folder: Path, name: str, now: datetime.datetime) -> Authority:
    """Makes the authority's folder. Raises PkiError if there is one, or the folder cannot be written."""
    if (folder / "ca.key").exists():
        raise PkiError(f"{folder} holds an authority already", "name another folder; every machine trusts this one")
    made = make_authority(name, now)
    write_private(folder / "cluster.key", secrets.token_bytes(CLUSTER_KEY_BYTES))
    write_private(folder / "ca.pem", made.pem)
    write_private(folder / "ca.key", key_pem(made.key))
    return made


def load(folder: Path) -> Authority:
    """Reads the authority of this folder. Raises PkiError."""
    certificate = x509.load_pem_x509_certificate(read(folder / "ca.pem"))
    key = serialization.load_pem_private_key(read(folder / "ca.key"), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise PkiError(f"{folder}: ca.key is not the key of ca.pem", "restore both from one backup")
    return Authority(certificate, key)


def requested(pem: bytes) -> tuple[Identity, ec.EllipticCurvePublicKey]:
    """What a signing request (PKCS #10) asks for. Raises PkiError for one that nobody should sign."""
    try:
        request = x509.load_pem_x509_csr(pem)
        key = request.public_key()
        if not request.is_signature_valid:
            raise PkiError("the request is not signed by its own key")
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
            raise PkiError("the request's key is not of P-256", "make the request with: meridian pki join")
        return _identity(request.subject, request.extensions), key
    except (ValueError, x509.ExtensionNotFound, InvalidSignature) as error:
        raise PkiError(f"the signing request cannot be read: {error}") from None


def identity_of(certificate: x509.Certificate) -> Identity:
    """Whom a certificate is for. Raises PkiError if it names nobody."""
    try:
        return _identity(certificate.subject, certificate.extensions)
    except (ValueError, x509.ExtensionNotFound) as error:
        raise PkiError(f"the certificate names nobody: {error}") from None


def request(identity: Identity, key: ec.EllipticCurvePrivateKey) -> bytes:
    """A signing request (PKCS #10) as PEM."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_subject(identity.name))
    builder = builder.add_extension(x509.SubjectAlternativeName(identity.alternative_names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def due(certificate: x509.Certificate, now: datetime.datetime) -> bool:
    """Whether to renew: a third of its time is over, so that several failures in a row are no harm."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return now >= begin + (end - begin) / 3


def new_key() -> ec.EllipticCurvePrivateKey:
    """A private key for a machine."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as PEM (PKCS #8), not encrypted: the file's mode protects it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def read(path: Path) -> bytes:
    """Raises PkiError that names the file."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise PkiError(f"cannot read {path}: {error.strerror}", "check the folder's name and owner") from None


def write_private(path: Path, content: bytes) -> None:
    """Replaces a file at once, readable by its owner only. Raises PkiError."""
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise PkiError(f"cannot write {path}: {error.strerror}", "name a folder that may be written") from None


def _identity(subject: x509.Name, extensions: x509.Extensions) -> Identity:
    """Raises ValueError for names that are missing or too many."""
    names = [str(entry.value) for entry in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    found = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    hosts, addresses = found.get_values_for_type(x509.DNSName), found.get_values_for_type(x509.IPAddress)
    if len(names) != 1 or len(found) > NAMES_MAX or len(hosts) + len(addresses) != len(found):
        raise ValueError(f"one common name and at most {NAMES_MAX} host names and addresses are wanted")
    for host in hosts:
        if "*" in host:
            raise ValueError(f"{host}: no wildcards")
    # An address's own type is narrowed: a network cannot come from a request that was parsed.
    plain = tuple(
        address for address in addresses if isinstance(address, ipaddress.IPv4Address | ipaddress.IPv6Address)
    )
    return Identity(names[0], plain, tuple(host for host in hosts if host != names[0]))


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Meridian"),
                      x509.NameAttribute(NameOID.COMMON_NAME, name)])  # fmt: skip


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey,
    now: datetime.datetime, until: datetime.datetime,
) -> x509.CertificateBuilder:  # fmt: skip
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def addresses_of(texts: Sequence[str]) -> tuple[Address, ...]:
    """Raises PkiError for what is no address of one machine."""
    found = []
    for text in texts:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            raise PkiError(f"{text!r} is not an IP address") from None
        if address.is_unspecified:
            raise PkiError(f"{text}: name an address of the machine, not the wildcard")
        found.append(address)
    return tuple(found)
