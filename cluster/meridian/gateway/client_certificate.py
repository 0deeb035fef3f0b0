"""Who a client's certificate is for: its names as authenticators know them, and the field that upstreams read it in.

Whether it is good was decided in the handshake; nothing here judges.
"""

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509
from cryptography.x509.oid import NameOID

NAMES_MAX = 100
"""Of one certificate. Names are looked up for each request; those beyond are not known."""


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """One that was taken. `names` as in core/authentication; `line` is Client-Cert (RFC 9440 section 2.2)."""

    names: tuple[str, ...]
    line: bytes


@lru_cache(maxsize=4096)  # clients come again, and reading one takes 50 us
def client_certificate(der: bytes) -> ClientCertificate:
    """Reads one. What cannot be read of it is no name."""
    names = [f"sha256:{hashlib.sha256(der).hexdigest()}"]
    try:
        names += _names(x509.load_der_x509_certificate(der))
    except ValueError:  # OpenSSL reads more than cryptography does
        pass
    return ClientCertificate(tuple(dict.fromkeys(names[:NAMES_MAX])), b"client-cert: :%b:\r\n" % base64.b64encode(der))


def _names(certificate: x509.Certificate) -> Iterator[str]:
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        alternatives = x509.SubjectAlternativeName([])
    yield from (f"uri:{name}" for name in alternatives.get_values_for_type(x509.UniformResourceIdentifier))
    yield from (f"dns:{name.lower().rstrip('.')}" for name in alternatives.get_values_for_type(x509.DNSName))
    yield from (f"email:{name}" for name in alternatives.get_values_for_type(x509.RFC822Name))
    yield from (f"ip:{name}" for name in alternatives.get_values_for_type(x509.IPAddress))
    subject = certificate.subject
    yield from (f"cn:{name.value!s}" for name in subject.get_attributes_for_oid(NameOID.COMMON_NAME))
    if subject.rdns:
        yield f"subject:{subject.rfc4514_string()}"
