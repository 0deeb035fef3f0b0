"""Certificates by host name, for TLS over TCP and for QUIC, replaceable while connections live.

Invariant: a listener's `ssl.SSLContext` is made once and never changes; what changes is the table that its
server-name callback looks into (the two tables, while a candidate is tried: gateway/handshakes). A handshake under way
ends with the certificate it began with, an established connection never notices, and session tickets (their keys live
in the listener's context) outlive a replacement.
Keys are only held in memory: OpenSSL reads them through an anonymous file that has no name and is closed at once.
"""

import os
import ssl
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from meridian.core.snapshot import Certificate
from meridian.gateway.handshakes import HandshakeTrial

_ALPN = {"h2": "h2", "h1": "http/1.1", "dot": "dot"}  # in the order of preference; h3 is negotiated in QUIC
CIPHERS_TLS12 = "ECDHE+AESGCM:ECDHE+CHACHA20"  # forward secret and authenticated; RFC 9113 appendix A forbids others


class CertificateError(Exception):
    """A certificate cannot be used: the message names its hosts and the reason, never the key."""


@dataclass(frozen=True, slots=True)
class QuicCertificate:
    """A parsed chain and key, as aioquic wants them."""

    leaf: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    key: PrivateKeyTypes


@dataclass(frozen=True, slots=True)
class _Entry:
    """One certificate in all forms. `contexts` holds one SSLContext for each set of protocols in use."""

    certificate: Certificate
    contexts: dict[tuple[str, ...], ssl.SSLContext]
    quic: QuicCertificate


@dataclass(frozen=True, slots=True)
class _Table:
    """One version of all certificates, replaced whole."""

    by_host: Mapping[str, _Entry]
    default: _Entry | None

    def find(self, host: str | None) -> _Entry | None:
        """Exact name, else a wildcard for its first label (RFC 6125 section 6.4.3), else the first certificate."""
        if host:
            host = host.lower().rstrip(".")
            entry = self.by_host.get(host) or self.by_host.get("*." + host.partition(".")[2])
            if entry is not None:
                return entry
        return self.default

    def entries(self) -> list[_Entry]:
        """All of them; those of several hosts several times."""
        return [*self.by_host.values(), *([self.default] if self.default else [])]


class TlsContexts:
    """The certificates of one worker. Not thread-safe; all calls on the worker's loop."""

    def __init__(self, certificates: Sequence[Certificate]) -> None:
        """Raises CertificateError."""
        self.trial: HandshakeTrial | None = None
        self._listeners: dict[tuple[str, ...], ssl.SSLContext] = {}
        self._table = _build(certificates, ())
        self._tried = _Table({}, None)  # of the candidate

    def replace(self, certificates: Sequence[Certificate]) -> None:
        """Puts these certificates in the place of all others. Raises CertificateError and changes nothing."""
        self._table = _build(certificates, tuple(self._listeners), self._table, self._tried)
        self.end_trial()

    def try_out(self, certificates: Sequence[Certificate], trial: HandshakeTrial) -> None:
        """Shows some handshakes these certificates, as `trial` draws, until `end_trial` or `replace`. Raises
        CertificateError and changes nothing."""
        self._tried = _build(certificates, tuple(self._listeners), self._table, self._tried)
        self.trial = trial

    def end_trial(self) -> None:
        """All handshakes from now on are shown what is in force."""
        self.trial, self._tried = None, _Table({}, None)

    def context_for(self, protocols: Sequence[str]) -> ssl.SSLContext:
        """The context of a listener with these protocols ("h1", "h2", "h3", "dot"); the same object each time."""
        alpn = tuple(name for protocol, name in _ALPN.items() if protocol in protocols)
        context = self._listeners.get(alpn)
        if context is None:
            for entry in {id(entry): entry for entry in self._entries()}.values():
                entry.contexts[alpn] = _context(entry.certificate, alpn)
            context = _bare_context(alpn)
            context.sni_callback = lambda connection, host, _: self._choose(connection, host, alpn)
            self._listeners[alpn] = context
        return context

    def quic_certificate(self, host: str | None, handshake: Hashable = None) -> QuicCertificate | None:
        """The certificate for a QUIC handshake that names `host`; None if there is none at all. `handshake` is who it
        is for; without, no candidate is tried on it."""
        entry = self._table.find(host) if handshake is None else self._find(host, handshake)
        return entry.quic if entry else None

    def _entries(self) -> list[_Entry]:
        return [*self._table.entries(), *self._tried.entries()]

    def _find(self, host: str | None, handshake: Hashable) -> _Entry | None:
        entry = self._table.find(host)
        return entry if self.trial is None else self.trial.take(handshake, entry, self._tried.find(host))

    def _choose(self, connection: ssl.SSLObject, host: str | None, alpn: tuple[str, ...]) -> int | None:
        entry = self._find(host, connection)
        if entry is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        connection.context = entry.contexts[alpn]
        return None


def _build(certificates: Sequence[Certificate], alpns: Sequence[tuple[str, ...]], *others: _Table) -> _Table:
    """Builds a table; entries whose certificate is in one of the others are taken over, from the first."""
    known = {entry.certificate: entry for table in reversed(others) for entry in table.entries()}
    by_host: dict[str, _Entry] = {}
    default: _Entry | None = None
    for certificate in certificates:
        entry = known.get(certificate)
        if entry is None:
            contexts = {alpn: _context(certificate, alpn) for alpn in alpns or ((),)}
            entry = _Entry(certificate, contexts, _parse(certificate))
        default = default or entry
        for host in certificate.hosts:
            by_host.setdefault(host.lower().rstrip("."), entry)
    return _Table(by_host, default)


def _bare_context(alpn: tuple[str, ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS_TLS12)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def _context(certificate: Certificate, alpn: tuple[str, ...]) -> ssl.SSLContext:
    """A context that holds the certificate. Raises CertificateError."""
    context = _bare_context(alpn)
    try:
        load_pair(context, certificate.chain_pem, certificate.key_pem)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise CertificateError(f"{_name(certificate)}: {getattr(error, 'reason', None) or error}") from None
    return context


def load_pair(context: ssl.SSLContext, chain_pem: bytes, key_pem: bytes) -> None:
    """Puts a chain and its key into a context. Raises ssl.SSLError, OSError or ValueError."""
    with _as_file(chain_pem.rstrip() + b"\n" + key_pem) as path:
        # An encrypted key asks for a password: an empty one fails, none at all would ask on the terminal.
        context.load_cert_chain(path, password=b"")


def load_authorities(context: ssl.SSLContext, pem: bytes) -> None:
    """Makes a context trust these. Raises ssl.SSLError. As a file, because `cadata` keeps the interpreter to itself
    while it reads, for some hundred milliseconds if there are many."""
    with _as_file(pem) as path:
        context.load_verify_locations(path)


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    file = os.memfd_create("certificate")
    try:
        with os.fdopen(os.dup(file), "wb") as writer:
            writer.write(content)
        yield f"/proc/self/fd/{file}"
    finally:
        os.close(file)


def _parse(certificate: Certificate) -> QuicCertificate:
    try:
        leaf, *chain = x509.load_pem_x509_certificates(certificate.chain_pem)
        key = serialization.load_pem_private_key(certificate.key_pem, password=None)
    except (ValueError, TypeError) as error:
        raise CertificateError(f"{_name(certificate)}: {error}") from None
    return QuicCertificate(leaf, tuple(chain), key)


def _name(certificate: Certificate) -> str:
    return f"certificate for {', '.join(certificate.hosts) or 'no host'}"
