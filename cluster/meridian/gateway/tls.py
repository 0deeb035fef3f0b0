"""Certificates by host name, for TLS over TCP and for QUIC, replaceable while connections live.

Invariant: a listener's `ssl.SSLContext` is made once and never changes; what changes is the table that its
server-name callback looks into (the two tables, while a candidate is tried: gateway/handshakes). A handshake under way
ends with the certificate it began with, an established connection never notices, and session tickets (their keys live
in the listener's context) outlive a replacement.
A host whose certificate is still to be obtained is shown a placeholder of our own, which nobody believes, but only if
no other entry serves it.
Keys are only held in memory: OpenSSL reads them through an anonymous file that has no name and is closed at once.
"""

import datetime
import hashlib
import os
import ssl
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from meridian.core.snapshot import Certificate, ClientAuth, Ordered, Snapshot
from meridian.gateway import openssl
from meridian.gateway.handshakes import HandshakeTrial
from meridian.gateway.tickets import TicketBox

_ALPN = {"h2": "h2", "h1": "http/1.1", "dot": "dot"}  # in the order of preference; h3 is negotiated in QUIC
CIPHERS_TLS12 = "ECDHE+AESGCM:ECDHE+CHACHA20"  # forward secret and authenticated; RFC 9113 appendix A forbids others
_GROUPS = "X25519:P-256:P-384"
_DAY = datetime.timedelta(days=1)
_VERSIONS = {"intermediate": ssl.TLSVersion.TLSv1_2, "modern": ssl.TLSVersion.TLSv1_3}
"""Mozilla's profiles (guidelines 5.7), without the DHE ciphers of the intermediate one: they cost the server ten times
as much, and whoever speaks them speaks ECDHE."""


Pair = tuple[bytes, bytes]  # chain and key, PEM


class CertificateError(Exception):
    """A certificate cannot be used: the message names its hosts and the reason, never the key."""


@dataclass(frozen=True, slots=True)
class QuicCertificate:
    """A parsed chain and key, as aioquic wants them."""

    leaf: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    key: PrivateKeyTypes


@dataclass(frozen=True, slots=True)
class _Kind:
    """What listeners have in common that share a context."""

    alpn: tuple[str, ...] = ()
    profile: str = "intermediate"
    client_auth: ClientAuth | None = None


@dataclass(frozen=True, slots=True)
class _Entry:
    """The certificates of a host, one for each kind of key, in all forms. `contexts` holds one SSLContext for each kind
    of listener that was used. What the client's signature algorithms allow is chosen, ECDSA before RSA."""

    certificates: tuple[Certificate, ...]
    contexts: dict[_Kind, ssl.SSLContext]
    quic: tuple[QuicCertificate, ...]

    def context(self, kind: _Kind) -> ssl.SSLContext:
        """For listeners of this kind; made at the first handshake, so that no change of the document makes many."""
        context = self.contexts.get(kind)
        if context is None:
            context = self.contexts[kind] = _context(self.certificates, kind)
        return context


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

    def serves(self, host: str) -> bool:
        """Whether a certificate is for this host, or for this wildcard."""
        host = host.lower().rstrip(".")
        return host in self.by_host or "*." + host.partition(".")[2] in self.by_host

    def entries(self) -> list[_Entry]:
        """All of them; those of several hosts several times."""
        return list(self.by_host.values())


class TlsContexts:
    """The certificates of one worker. Not thread-safe; all calls on the worker's loop."""

    def __init__(self, certificates: Sequence[Certificate | Ordered]) -> None:
        """Raises CertificateError."""
        self.trial: HandshakeTrial | None = None
        self._listeners: dict[_Kind, ssl.SSLContext] = {}
        self._obtained: Mapping[str, Pair] = {}
        self._placeholders: dict[tuple[str, ...], Certificate] = {}
        self._wanted, self._wanted_by_candidate = tuple(certificates), tuple[Certificate | Ordered, ...]()
        self._table = self._tried = _Table({}, None)  # of what is in force, and of the candidate
        self._table = self._build(certificates)
        self._secrets: Sequence[bytes] = ()  # of tickets
        self.tickets: TicketBox | None = None  # of QUIC

    def replace(self, certificates: Sequence[Certificate | Ordered]) -> None:
        """Puts these certificates in the place of all others. Raises CertificateError and changes nothing."""
        self._table = self._build(certificates)
        self._wanted = tuple(certificates)
        self.end_trial()

    def obtain(self, obtained: Mapping[str, Pair]) -> None:
        """What has been obtained so far, by what it is kept under; handshakes from now on see it. Raises
        CertificateError and changes nothing."""
        before, self._obtained = self._obtained, obtained
        try:
            table = self._build(self._wanted)
            tried = self._build(self._wanted_by_candidate, table)
        except CertificateError:
            self._obtained = before
            raise
        self._table, self._tried = table, tried

    def try_out(self, certificates: Sequence[Certificate | Ordered], trial: HandshakeTrial) -> None:
        """Shows some handshakes these certificates, as `trial` draws, until `end_trial` or `replace`. Raises
        CertificateError and changes nothing."""
        self._tried = self._build(certificates)
        self._wanted_by_candidate = tuple(certificates)
        self.trial = trial

    def end_trial(self) -> None:
        """All handshakes from now on are shown what is in force."""
        self.trial, self._tried, self._wanted_by_candidate = None, _Table({}, None), ()

    def _build(self, wanted: Sequence[Certificate | Ordered], *others: _Table) -> _Table:
        """A table of what there is, and placeholders for hosts that nothing of it serves. Raises CertificateError."""
        there, missing = list[Certificate](), list[Ordered]()
        for one in wanted:
            if isinstance(one, Certificate):
                there.append(one)
            elif (pair := self._obtained.get(one.id)) is not None:
                there.append(Certificate(one.hosts, *pair))
            else:
                missing.append(one)
        known = (*others, self._table, self._tried)
        table = _build(there, *known)
        bare = [hosts for one in missing if (hosts := tuple(host for host in one.hosts if not table.serves(host)))]
        return _build([*there, *map(self._placeholder, bare)], table, *known) if bare else table

    def _placeholder(self, hosts: tuple[str, ...]) -> Certificate:
        return self._placeholders.setdefault(hosts, self._placeholders.get(hosts) or make_placeholder(hosts))

    def context_for(
        self, protocols: Sequence[str], profile: str = "intermediate", client_auth: ClientAuth | None = None
    ) -> ssl.SSLContext:
        """The context of a listener with these protocols ("h1", "h2", "h3", "dot"); the same object each time.

        Raises CertificateError for authorities that cannot be used."""
        alpn = tuple(name for protocol, name in _ALPN.items() if protocol in protocols)
        kind = _Kind(alpn, profile, client_auth)
        context = self._listeners.get(kind)
        if context is None:
            context = _bare_context(kind)
            if client_auth is not None:
                context.sslobject_class = _Outspoken
            self._share(kind, context)
            context.sni_callback = lambda connection, host, _: self._choose(connection, host, kind)
            self._listeners[kind] = context
        return context

    def share_tickets(self, secrets: Sequence[bytes]) -> str:
        """Makes and takes session tickets by these secrets, which all workers of the cluster have; the first makes
        them. Returns why tickets over TCP stay this worker's own, if they do."""
        self._secrets = tuple(secrets)
        self.tickets = TicketBox(secrets)
        for kind, context in self._listeners.items():
            self._share(kind, context)
        return openssl.fault()

    def _share(self, kind: _Kind, context: ssl.SSLContext) -> None:
        """Only among listeners that ask the same of clients: a session says who its client was found to be."""
        if self._secrets and not openssl.fault():
            scope = hashlib.sha256(repr(kind.client_auth).encode()).digest()
            openssl.set_ticket_keys(context, [openssl.TicketKey.of(secret, scope) for secret in self._secrets])

    def quic_certificates(self, host: str | None, handshake: Hashable = None) -> tuple[QuicCertificate, ...]:
        """The certificates for a QUIC handshake that names `host`, the best first; none if there is none at all.
        `handshake` is who it is for; without, no candidate is tried on it."""
        entry = self._table.find(host) if handshake is None else self._find(host, handshake)
        return entry.quic if entry else ()

    def quic_certificate(self, host: str | None) -> QuicCertificate | None:
        """The best of them, for a server (of DNS) that does not ask what the client can verify."""
        return next(iter(self.quic_certificates(host)), None)

    def _find(self, host: str | None, handshake: Hashable) -> _Entry | None:
        entry = self._table.find(host)
        return entry if self.trial is None else self.trial.take(handshake, entry, self._tried.find(host))

    def _choose(self, connection: ssl.SSLObject, host: str | None, kind: _Kind) -> int | None:
        entry = self._find(host, connection)
        if entry is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        connection.context = entry.context(kind)
        return None


_NO_CERTIFICATE = "PEER_DID_NOT_RETURN_A_CERTIFICATE"


class _Outspoken(ssl.SSLObject):
    """Lets a client hear what is wrong with its certificate. The loop ends a connection whose handshake fails without
    sending the alert that OpenSSL has written; so it is told to wait, which makes it send, and hears of the failure
    when the client closes. Who does not, is cut when the time for its handshake is over."""

    _failure: ssl.SSLError | None = None

    def do_handshake(self) -> None:
        """See ssl.SSLObject."""
        if self._failure is not None:
            raise self._failure
        try:
            super().do_handshake()
        except ssl.SSLError as error:
            if not isinstance(error, ssl.SSLCertVerificationError) and error.reason != _NO_CERTIFICATE:
                raise
            self._failure = error
            raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "the alert goes first") from None


def check_tls(snapshot: Snapshot) -> None:
    """Raises CertificateError for certificates of the gateway's and authorities of clients that cannot be used."""
    TlsContexts(snapshot.certificates)
    for auth in {listener.client_auth for listener in snapshot.listeners}:
        if auth is not None:
            check_client_auth(auth)


def check_client_auth(auth: ClientAuth) -> None:
    """Raises CertificateError for what cannot be used, as `context_for` would."""
    _bare_context(_Kind(client_auth=auth))


def _build(certificates: Sequence[Certificate], *others: _Table) -> _Table:
    """Builds a table; entries whose certificates are in one of the others are taken over, from the first."""
    known = {entry.certificates: entry for table in reversed(others) for entry in table.entries()}
    parsed = {one: quic for entry in known.values() for one, quic in zip(entry.certificates, entry.quic, strict=True)}
    by_host: dict[str, dict[type, Certificate]] = {}
    for certificate in certificates:
        quic = parsed.get(certificate) or parsed.setdefault(certificate, _parse(certificate))
        for host in certificate.hosts:
            by_host.setdefault(host.lower().rstrip("."), {}).setdefault(type(quic.key), certificate)
    entries: dict[str, _Entry] = {}
    for host, group in by_host.items():
        pairs = tuple(sorted(group.values(), key=lambda one: isinstance(parsed[one].key, rsa.RSAPrivateKey)))
        entry = known.get(pairs)
        if entry is None:
            _context(pairs, _Kind())  # whether OpenSSL takes them
            entry = known[pairs] = _Entry(pairs, {}, tuple(parsed[one] for one in pairs))
        entries[host] = entry
    return _Table(entries, next(iter(entries.values()), None))


def _bare_context(kind: _Kind) -> ssl.SSLContext:
    """Raises CertificateError for authorities or lists that cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[kind.profile]
    context.set_ciphers(CIPHERS_TLS12)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE  # all of them are good, and the client knows its hardware
    if not openssl.fault():
        openssl.set_groups(context, _GROUPS)
    if kind.alpn:
        context.set_alpn_protocols(list(kind.alpn))
    if (auth := kind.client_auth) is not None:
        _ask_clients(context, auth)
    return context


def _ask_clients(context: ssl.SSLContext, auth: ClientAuth) -> None:
    context.verify_mode = ssl.CERT_REQUIRED if auth.required else ssl.CERT_OPTIONAL
    try:
        load_authorities(context, auth.ca_pem)
    except ssl.SSLError:
        raise CertificateError("client_certificates: ca_file holds no certificate in PEM") from None
    if auth.crl_pem is not None:
        try:
            load_authorities(context, auth.crl_pem)
        except ssl.SSLError:
            raise CertificateError("client_certificates: crl_file holds no revocation list in PEM") from None
        if not context.cert_store_stats()["crl"]:
            raise CertificateError("client_certificates: crl_file holds no revocation list in PEM")
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def _context(certificates: Sequence[Certificate], kind: _Kind) -> ssl.SSLContext:
    """A context that holds the certificates. Raises CertificateError."""
    context = _bare_context(kind)
    for certificate in certificates:
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


def make_placeholder(hosts: Sequence[str]) -> Certificate:
    """What a host shows whose certificate is still to be obtained: signed by itself, so that a handshake with it says
    what is missing and not that nobody is there."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Meridian placeholder")])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY).not_valid_after(now + 365 * _DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False)
    )  # fmt: skip
    chain = builder.sign(key, SHA256()).public_bytes(serialization.Encoding.PEM)
    pem, pkcs8, bare = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return Certificate(tuple(hosts), chain, key.private_bytes(pem, pkcs8, bare))


def _name(certificate: Certificate) -> str:
    return f"certificate for {', '.join(certificate.hosts) or 'no host'}"
