"""What `plan` and `apply` check beyond the document's own words: zones as the DNS server builds them, certificates as
OpenSSL loads them. The very code that will run, so that what is accepted here is accepted by the workers.
"""

from collections.abc import Iterator, Mapping

from meridian.core.document import Place
from meridian.core.model import Document
from meridian.core.snapshot import Certificate
from meridian.gateway.tls import CertificateError, TlsContexts
from meridian.nodes.dns_state import build_key, build_transfers, build_zones
from meridian_dns.transfer import Transfers
from meridian_dns.zone import ZoneError


def check_zones(document: Document, files: Mapping[str, bytes]) -> Iterator[tuple[Place, str]]:
    """Yields the first problem of each zone, as it is answered and as secondaries get it."""
    for i, zone in enumerate(document.zones):
        alone = document.model_copy(update={"zones": (zone,), "tsig_keys": ()})
        try:
            build_transfers(alone, files, build_zones([zone], version=1), Transfers())
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
    """Yields each certificate that cannot be used with its key. Never shows a key."""
    for i, entry in enumerate(document.certificates):
        certificate = Certificate(entry.hosts, files[entry.cert_file], files[entry.key_file])
        try:
            TlsContexts([certificate]).context_for(["h1"])
        except CertificateError as error:
            yield ("certificates", i), f"{error}; {entry.key_file} must be the key of the first certificate in its file"


CHECKS = (check_zones, check_keys, check_certificates)
