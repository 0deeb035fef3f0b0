"""Whether a client's certificate is good, for QUIC, whose TLS (aioquic's) asks for one but judges it by nothing.

It is OpenSSL that judges, as it does for TLS over TCP, by the same authorities and lists: the one must not take what
the other refuses.
"""

from collections.abc import Sequence

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import crypto


class ChainError(Exception):
    """It is not good. `code` is OpenSSL's X509_V_ERR_*, 0 where it has none for it."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class ClientChains:
    """The authorities of one listener."""

    def __init__(self, ca_pem: bytes, crl_pem: bytes | None) -> None:
        """Raises ValueError for what is no PEM."""
        self._store = crypto.X509Store()
        for authority in x509.load_pem_x509_certificates(ca_pem):
            self._store.add_cert(crypto.X509.from_cryptography(authority))
        if crl_pem is not None:
            for one in _split(crl_pem):
                self._store.add_crl(x509.load_pem_x509_crl(one))
            self._store.set_flags(crypto.X509StoreFlags.CRL_CHECK)

    def check(self, leaf: x509.Certificate, chain: Sequence[x509.Certificate]) -> None:
        """Raises ChainError."""
        between = [crypto.X509.from_cryptography(one) for one in chain]
        context = crypto.X509StoreContext(self._store, crypto.X509.from_cryptography(leaf), between)
        try:
            context.verify_certificate()
        except crypto.X509StoreContextError as error:
            code = error.errors[0] if error.errors else 0
            raise ChainError(code, str(error)) from None
        if not _is_for_clients(leaf):
            raise ChainError(0, "it is not for clients")


def _is_for_clients(leaf: x509.Certificate) -> bool:
    """RFC 5280 section 4.2.1.12; without the extension it is for all."""
    try:
        usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return ExtendedKeyUsageOID.CLIENT_AUTH in usages or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usages


def _split(pem: bytes) -> list[bytes]:
    end = b"-----END X509 CRL-----"
    return [part[part.index(b"-----BEGIN") :] + end for part in pem.split(end) if b"-----BEGIN" in part]
