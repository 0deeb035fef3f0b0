"""Keys and the certificates for them: made, asked for, and looked at when they come. Pure but for chance."""

from collections.abc import Sequence
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import PublicKeyAlgorithmOID

from meridian.control.acme import jws
from meridian.control.acme.errors import AcmeError

Extension = TypeVar("Extension", bound=x509.ExtensionType)
_EC_PUBLIC_KEY = PublicKeyAlgorithmOID.EC_PUBLIC_KEY


def new_key() -> ec.EllipticCurvePrivateKey:
    """On P-256, which every client and every authority takes."""
    return ec.generate_private_key(ec.SECP256R1())


def pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS #8."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def key_of(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """See pem_of."""
    key = serialization.load_pem_private_key(pem, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey), "no other is ever sealed here"
    return key


def request_for(key_pem: bytes, hosts: Sequence[str]) -> bytes:
    """A PKCS #10 request, DER."""
    names = x509.SubjectAlternativeName([x509.DNSName(host.lower().rstrip(".")) for host in hosts])
    builder = x509.CertificateSigningRequestBuilder(x509.Name([])).add_extension(names, critical=True)
    return builder.sign(key_of(key_pem), SHA256()).public_bytes(serialization.Encoding.DER)


def leaf_of(chain: str) -> x509.Certificate:
    """The certificate itself. Raises AcmeError."""
    try:
        return x509.load_pem_x509_certificates(chain.encode())[0]
    except ValueError:
        raise AcmeError("the authority gave a certificate that cannot be read", final=True) from None


def checked(chain: str, key_pem: bytes, hosts: Sequence[str]) -> x509.Certificate:
    """The certificate, if it is the one that was asked for. Raises AcmeError."""
    leaf = leaf_of(chain)
    if leaf.public_key_algorithm_oid != _EC_PUBLIC_KEY or leaf.public_key() != key_of(key_pem).public_key():
        raise AcmeError("the authority gave a certificate for another key", final=True)
    names = extension_of(leaf, x509.SubjectAlternativeName)
    missing = {host.lower().rstrip(".") for host in hosts} - set(names.get_values_for_type(x509.DNSName))
    if missing:
        raise AcmeError(f"the authority gave a certificate without {', '.join(sorted(missing))}", final=True)
    return leaf


def name_of(certificate: x509.Certificate) -> str:
    """What a certificate is called when it is asked for its renewal (RFC 9773 section 4.1). Raises AcmeError."""
    issuer = extension_of(certificate, x509.AuthorityKeyIdentifier).key_identifier or b""
    number = certificate.serial_number
    serial = number.to_bytes(number.bit_length() // 8 + 1, "big")  # DER: a leading zero where it would be negative
    return f"{jws.to_base64url(issuer)}.{jws.to_base64url(serial)}"


def extension_of(certificate: x509.Certificate, kind: type[Extension]) -> Extension:
    """Raises AcmeError if the certificate has no such extension, or none that can be read."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError) as error:
        raise AcmeError(f"the authority gave a certificate that cannot be used: {error}", final=True) from None
