"""Keys and certificates of the local cluster, made once and kept: mode 0600, below the state folder.

Two authorities. The cluster's signs etcd members and agents, and etcd and agents trust it alone. The demo's signs the
certificate that gateway workers show to browsers: a worker holds that key, and must hold nothing that etcd would let
in (workers have no etcd credentials, and trustme's certificates are good for clients too).
"""

import datetime
import hashlib
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from meridian.cli.local_state import LocalCluster, LocalPaths, write_whole

if TYPE_CHECKING:
    import trustme
    from cryptography import x509

    from meridian.core.model import Document

ORGANISATION = "Meridian local cluster"
CLUSTER_KEY_BYTES = 32
# Names that RFC 2606 and RFC 6761 give to nobody: a certificate for them can only be a demo's.
_RESERVED = ("example.com", "example.net", "example.org", "example", "test", "invalid", "localhost")
DEMO_ADDRESSES = ("127.0.0.1", "127.0.0.11", "127.0.0.12", "127.0.0.13")
_RENEWED_AFTER = datetime.timedelta(days=365)  # trustme's last for many years; browsers take none that is so old


def prepare_secrets(paths: LocalPaths, cluster: LocalCluster) -> None:
    """Makes what is missing: token, cluster key, both authorities, a certificate for each member and each node."""
    if not paths.token.exists():
        write_whole(paths.token, secrets.token_urlsafe(32).encode())
    if not paths.cluster_key.exists():
        write_whole(paths.cluster_key, secrets.token_bytes(CLUSTER_KEY_BYTES))
    _authority(paths.ca)
    # etcd compares a peer's certificate with the address it comes from, which on loopback is 127.0.0.1 whatever the
    # peer listens on; and a name in the certificate would be looked up in DNS each time.
    identities = {member.name: (member.address, "127.0.0.1") for member in cluster.etcd}
    identities |= {node.name: (node.name, node.address) for node in cluster.agents}
    missing = [name for name in identities if not paths.key(name).exists()]
    if not missing:
        return
    authority = _authority(paths.cluster_ca)
    for name in missing:
        _issue(authority, paths.certificate(name), paths.key(name), name, *identities[name])


def demo_certificates(
    paths: LocalPaths, document: "Document", folder: Path, now: datetime.datetime
) -> dict[str, bytes]:
    """Certificates and keys that only a demo can have, by the names the document uses for them; makes what is missing.

    They are of this state folder's authority, and stand in for files that are not there, or that were written for
    `meridian serve` under whatever authority. Only for hosts under names reserved for examples, and never instead of a
    certificate that we did not make.
    """
    found: dict[str, bytes] = {}
    for certificate in document.certificates:
        if certificate.cert_file is None or certificate.key_file is None:  # it is obtained
            continue
        stranger = not _is_demo(folder / certificate.cert_file, folder / certificate.key_file)
        if stranger or not all(_reserved(host) for host in certificate.hosts):
            continue
        name = "demo-" + hashlib.sha256(",".join(certificate.hosts).encode()).hexdigest()[:12]
        chain, key = paths.certificate(name), paths.key(name)
        if not key.exists() or not _lasts(chain, paths.ca, now):
            identities = dict.fromkeys((*certificate.hosts, "localhost", *DEMO_ADDRESSES))
            _issue(_authority(paths.ca), chain, key, certificate.hosts[0], *identities)
        found |= {certificate.cert_file: chain.read_bytes(), certificate.key_file: key.read_bytes()}
    return found


def _reserved(host: str) -> bool:
    return any(host == name or host.endswith(f".{name}") for name in _RESERVED)


def _is_demo(chain: Path, key: Path) -> bool:
    """Whether this pair is not there at all, or was made by us."""
    if not chain.exists():
        return not key.exists()
    from cryptography import x509

    try:
        return _made_here(x509.load_pem_x509_certificate(chain.read_bytes()))
    except (OSError, ValueError):
        return False


def _lasts(chain: Path, ca: Path, now: datetime.datetime) -> bool:
    """Whether our certificate is of our present authority and not old. By their files' times: each `apply` asks, and
    to read certificates takes longer than all the rest that it does for them."""
    try:
        made, authority = chain.stat().st_mtime, ca.stat().st_mtime
    except OSError:
        return False
    return made >= authority and now.timestamp() - made < _RENEWED_AFTER.total_seconds()


def _made_here(certificate: "x509.Certificate") -> bool:
    from cryptography.x509.oid import NameOID

    names = certificate.issuer.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return any(name.value == ORGANISATION for name in names)


def _authority(certificate: Path) -> "trustme.CA":
    """Reads the authority whose certificate this is, or makes it."""
    import trustme

    key = certificate.with_suffix(".key")
    if certificate.exists() and key.exists():
        return trustme.CA.from_pem(certificate.read_bytes(), key.read_bytes())
    made = trustme.CA(organization_name=ORGANISATION, organization_unit_name=certificate.stem)
    write_whole(key, made.private_key_pem.bytes())
    write_whole(certificate, made.cert_pem.bytes())
    return made


def _issue(authority: "trustme.CA", chain: Path, key: Path, common_name: str, *identities: str) -> None:
    """Issues a certificate; the key is written last, so that a key that exists has its certificate."""
    leaf = authority.issue_cert(
        *identities, common_name=common_name, organization_name=ORGANISATION, organization_unit_name=chain.stem
    )
    write_whole(chain, b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
    write_whole(key, leaf.private_key_pem.bytes())
