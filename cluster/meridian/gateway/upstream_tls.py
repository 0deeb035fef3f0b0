"""TLS towards endpoints: contexts by what they are made of, sessions that are resumed, and what a failure means.

Invariant: no context is made on the loop of a worker. Reading the system's authorities takes tens of milliseconds, so
`prepare` is called where documents are compiled, and what several upstreams and versions of the document have in
common is made once. A context that lives through a change of the document keeps its sessions resumable.
"""

import ssl
from collections.abc import Iterable
from contextvars import ContextVar

from meridian.core.snapshot import Upstream, UpstreamTls
from meridian.gateway.answers import Failure
from meridian.gateway.tls import CIPHERS_TLS12, load_authorities, load_pair

_ALPN = {"h1": ["http/1.1"], "h2": ["h2"]}
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class UpstreamTlsError(Exception):
    """What an upstream's `tls` names cannot be used: the message says why, and never shows a key."""


class Sessions:
    """The session that the last connection to one endpoint under one name has left, for the next to resume."""

    __slots__ = ("_last", "_session")

    def __init__(self) -> None:
        """Knows none yet."""
        self._last: ssl.SSLObject | None = None
        self._session: ssl.SSLSession | None = None

    def resumable(self) -> ssl.SSLSession | None:
        """The newest session with a ticket or an id. Tickets of TLS 1.3 come after the handshake, so that one is asked
        for when the next connection needs it. Only one connection's is kept."""
        last, self._last = self._last, None
        if last is not None and last.version() is not None:  # else its handshake was never over
            session = last.session
            if session is not None and (session.has_ticket or session.id):
                self._session = session
        return self._session

    def opened(self, connection: ssl.SSLObject) -> None:
        """A new connection will leave its session here."""
        self._last = connection


RESUMING: ContextVar[Sessions | None] = ContextVar("RESUMING", default=None)
"""What a task that connects sets for itself: the loop has no word for it on the way to `wrap_bio`."""


class _Context(ssl.SSLContext):
    """One that resumes the sessions of whoever connects."""

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, server_side: bool = False,
        server_hostname: str | bytes | None = None, session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:  # fmt: skip
        """See ssl.SSLContext."""
        sessions = RESUMING.get()
        if sessions is not None:
            session = sessions.resumable()
        connection = super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)
        if sessions is not None:
            sessions.opened(connection)
        return connection


class UpstreamContexts:
    """The contexts of one process. `prepare` may be called from one thread beside the loop's."""

    def __init__(self) -> None:
        """Empty."""
        self._made: dict[tuple[UpstreamTls, str], ssl.SSLContext] = {}

    def prepare(self, upstreams: Iterable[Upstream]) -> None:
        """Makes what these upstreams need and is not there yet. Raises UpstreamTlsError."""
        for upstream in upstreams:
            if upstream.tls is not None:
                try:
                    self.of(upstream.tls, upstream.protocol)
                except UpstreamTlsError as error:
                    raise UpstreamTlsError(f"upstream {upstream.name}: {error}") from None

    def of(self, words: UpstreamTls, protocol: str = "h1") -> ssl.SSLContext:
        """The context for these words and this protocol; the same object each time. Raises UpstreamTlsError."""
        context = self._made.get((words, protocol))
        if context is None:
            context = self._made[words, protocol] = _context(words, protocol)
        return context

    def keep(self, upstreams: Iterable[Upstream]) -> None:
        """Forgets all that none of these needs, keys too."""
        needed = {(upstream.tls, upstream.protocol) for upstream in upstreams}
        self._made = {made: context for made, context in self._made.items() if made in needed}


def _context(words: UpstreamTls, protocol: str) -> ssl.SSLContext:
    context = _Context(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = _VERSIONS[words.min_version]
    context.set_ciphers(CIPHERS_TLS12)
    context.set_alpn_protocols(_ALPN[protocol])
    if not words.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif words.ca_pem is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        try:
            load_authorities(context, words.ca_pem)
        except ssl.SSLError:
            raise UpstreamTlsError("ca_file holds no certificate in PEM") from None
    if words.chain_pem is not None and words.key_pem is not None:
        try:
            load_pair(context, words.chain_pem, words.key_pem)
        except (ssl.SSLError, OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise UpstreamTlsError(
                f"cert_file and key_file: {reason}; the key must be that of the first certificate"
            ) from None
    return context


_UNSAFE = b"The service cannot be reached safely."
# OpenSSL's X509_V_ERR_*, and what we call them.
_FAULTS = {
    **dict.fromkeys((18, 19, 20, 21), ("authority", "it is of no authority that is trusted here")),
    9: ("not_yet_valid", "it is not valid yet"),
    10: ("expired", "it has expired"),
    23: ("revoked", "it is revoked"),
    **dict.fromkeys((62, 64), ("name", "it is for another name")),
}
# Built once: a failure is compared, counted and logged by its `why`.
_CERTIFICATE_FAILURES = {
    code: Failure(502, f"tls_{what}", _UNSAFE, None, b'tls_certificate_error; details="%b"' % details.encode())
    for code, (what, details) in _FAULTS.items()
}
_CERTIFICATE = Failure(502, "tls_certificate", _UNSAFE, None, b"tls_certificate_error")


def tls_failure(error: ssl.SSLError) -> Failure:
    """What to answer where TLS with an endpoint has failed; `why` names the reason."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _CERTIFICATE_FAILURES.get(error.verify_code, _CERTIFICATE)
    reason = (error.reason or "unknown").lower()  # OpenSSL's word, such as wrong_version_number
    _, alert, said = reason.partition("_alert_")
    kind, details = ("alert", said) if alert else ("protocol", reason)
    field = b'tls_%b; details="%b"' % (b"alert_received" if alert else b"protocol_error", details.encode())
    return Failure(502, f"tls_{kind}", _UNSAFE, None, field)
