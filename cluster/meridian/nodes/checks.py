"""What `plan` and `apply` check beyond the document's own words: zones as the DNS server builds them, certificates as
OpenSSL loads them. The very code that will run, so that what is accepted here is accepted by the workers.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from meridian.control.acme.jws import from_base64url
from meridian.core.acme_words import is_in_zone
from meridian.core.document import Place
from meridian.core.model import Document
from meridian.core.snapshot import Certificate, compile_client_auth, compile_upstream_tls
from meridian.gateway.tls import CertificateError, TlsContexts, check_client_auth
from meridian.gateway.upstream_tls import UpstreamContexts, UpstreamTlsError
from meridian.nodes.dns_state import build_key, build_transfers, build_zones
from meridian_dns.transfer import Transfers
from meridian_dns.zone import ZoneError


def check_zones(document: Document, files: Mapping[str, bytes]) -> Iterator[tuple[Place, str]]:
    """Yields the first problem of each zone, as it is answered and as secondaries get it."""
    for i, zone in enumerate(document.zones):
        alone = document.model_copy(update={"zones": (zone,), "tsig_keys": ()})
        try:
            build_transfers(alone, files, build_zones([zone], 1, files), Transfers())
        except ZoneError as error:
            yield ("zones", i), str(error)


def check_keys(document: Document, files: Mapping[str, bytes]) -> Iterator[tuple[Place, str]]:
    """Yields each TSIG key that is none. Never shows a secret."""
    for i, key in enumerate(document.tsig_keys):
        try:
            build_key(key, files)
        except ZoneError as error:
            yield ("tsig_keys", i), str(error)


def check_certificates(document: Document, files: Mapping[str, bytes]) -> Iterator[tuple[Place, str]]:
    """Yields each certificate that cannot be used with its key, or whose chain a client could not follow: a client that
    verifies is not seen by a canary. Never shows a key."""
    for i, entry in enumerate(document.certificates):
        if entry.cert_file is None or entry.key_file is None:  # what is obtained is checked when it comes
            continue
        certificate = Certificate(entry.hosts, files[entry.cert_file], files[entry.key_file])
        try:
            contexts = TlsContexts([certificate])
            contexts.context_for(["h1"])
        except CertificateError as error:
            yield ("certificates", i), f"{error}; {entry.key_file} must be the key of the first certificate in its file"
            continue
        (found,) = contexts.quic_certificates(None)
        stranger = _stranger([found.leaf, *found.chain])
        if stranger is not None:
            yield (
                ("certificates", i),
                f"{entry.cert_file}: the certificate {stranger} in it did not issue the one before it;"
                " put that of the host first, and after each the one that issued it",
            )


def check_challenges(document: Document, files: Mapping[str, bytes]) -> Iterator[tuple[Place, str]]:
    """Yields each certificate whose hosts are to be proven in zones that are not there. Here and not in the document:
    workers that need no zones read it without them."""
    challenges = {authority.name: authority.challenge for authority in document.acme}
    for i, certificate in enumerate(document.certificates):
        for host in certificate.hosts if challenges.get(certificate.acme or "") == "dns-01" else ():
            if not any(is_in_zone(host, zone.name) for zone in document.zones):
                problem = f"{host!r} is in none of zones, where dns-01 proves it; add its zone, or use http-01"
                yield ("certificates", i, "hosts"), problem


def check_authorities(document: Document, files: Mapping[str, bytes]) -> Iterator[tuple[Place, str]]:
    """Yields each authority that cannot be spoken to with its files. Never shows a key."""
    for i, authority in enumerate(document.acme):
        try:
            if authority.ca_file is not None:
                x509.load_pem_x509_certificates(files[authority.ca_file])
        except ValueError:
            yield ("acme", i, "ca_file"), f"{authority.ca_file} holds no certificate in PEM"
        external = authority.external_account
        try:
            if external is not None:
                from_base64url(files[external.key_file].decode("ascii").strip())
        except ValueError:
            yield ("acme", i, "external_account", "key_file"), "it holds no key in base64url, as the authority gives it"


def check_client_certificates(document: Document, files: Mapping[str, bytes]) -> Iterator[tuple[Place, str]]:
    """Yields each listener whose authorities of clients, or their lists, cannot be used."""
    for i, listener in enumerate(document.listeners):
        try:
            if (auth := compile_client_auth(listener, files)) is not None:
                check_client_auth(auth)
        except CertificateError as error:
            yield ("listeners", i), str(error)


def check_upstream_tls(document: Document, files: Mapping[str, bytes]) -> Iterator[tuple[Place, str]]:
    """Yields each upstream whose authorities or certificate cannot be used. Never shows a key."""
    contexts = UpstreamContexts()
    for i, upstream in enumerate(document.upstreams):
        try:
            if (words := compile_upstream_tls(upstream, files)) is not None:
                contexts.of(words)
        except UpstreamTlsError as error:
            yield ("upstreams", i, "tls"), str(error)


def _stranger(chain: Sequence[x509.Certificate]) -> str | None:
    """The subject of the first certificate that did not issue the one before it (RFC 5246 section 7.4.2; RFC 8446,
    section 4.4.2, forgives that, but not all clients do)."""
    for one, issuer in pairwise(chain):
        try:
            one.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature):
            return issuer.subject.rfc4514_string()
    return None


CHECKS = (
    check_zones,
    check_keys,
    check_certificates,
    check_challenges,
    check_authorities,
    check_client_certificates,
    check_upstream_tls,
)
