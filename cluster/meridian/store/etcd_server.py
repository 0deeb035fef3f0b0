"""How one member of an etcd cluster is started: its command line, and nothing else.

Pure: whoever runs the local cluster or a test starts the process and owns it. Start it with no ETCD_* variable in the
environment: etcd would read those as flags of its own. The flags are those that etcd 3.4 and 3.5 share.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HEARTBEAT_MILLISECONDS = 100
ELECTION_MILLISECONDS = 1000
# etcd stops taking writes here (alarm NOSPACE). Our whole state is some 100 MiB at worst: 50 versions of a document.
QUOTA_BYTES = 2 * 1024**3
# Log entries between two snapshots of Raft: bounds what a restarted member replays.
SNAPSHOT_COUNT = 10_000
HISTORY_KEPT = "1h"


@dataclass(frozen=True, slots=True)
class EtcdFiles:
    """PEM files of one member. Its certificate serves and dials, so it needs both extended key usages."""

    ca: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class EtcdMember:
    name: str
    client_url: str
    peer_url: str
    data_dir: Path
    tls: EtcdFiles | None = None


def etcd_command(
    member: EtcdMember, members: Sequence[EtcdMember], token: str, *, program: str = "etcd", log_level: str = "warn"
) -> list[str]:
    """Returns the command that starts `member` of the cluster `members`, new or again from its data directory.

    `token` keeps two clusters on one machine from joining by mistake. With `tls`, client and peer connections need a
    certificate of the same authority on both sides. Raises ValueError when URLs and certificates do not agree.
    """
    if member not in members:
        raise ValueError(f"{member.name} is not among the cluster's members")
    scheme = "http://" if member.tls is None else "https://"
    if not (member.client_url.startswith(scheme) and member.peer_url.startswith(scheme)):
        raise ValueError(f"{member.name}: with{'out' if member.tls is None else ''} certificates URLs are {scheme}...")
    flags = {
        "name": member.name,
        "data-dir": str(member.data_dir),
        "listen-client-urls": member.client_url,
        "advertise-client-urls": member.client_url,
        "listen-peer-urls": member.peer_url,
        "initial-advertise-peer-urls": member.peer_url,
        "initial-cluster": ",".join(f"{other.name}={other.peer_url}" for other in members),
        "initial-cluster-token": token,
        # Ignored when the data directory holds a member already, so the same command restarts it.
        "initial-cluster-state": "new",
        "heartbeat-interval": str(HEARTBEAT_MILLISECONDS),
        "election-timeout": str(ELECTION_MILLISECONDS),
        "snapshot-count": str(SNAPSHOT_COUNT),
        "quota-backend-bytes": str(QUOTA_BYTES),
        "auto-compaction-mode": "periodic",
        "auto-compaction-retention": HISTORY_KEPT,
        "enable-v2": "false",
        "enable-grpc-gateway": "false",
        "logger": "zap",
        "log-outputs": "stderr",
        "log-level": log_level,
    }
    if member.tls is not None:
        for side in ("", "peer-"):
            flags |= {
                f"{side}cert-file": str(member.tls.certificate),
                f"{side}key-file": str(member.tls.key),
                f"{side}trusted-ca-file": str(member.tls.ca),
                f"{side}client-cert-auth": "true",
            }
    return [program, *(f"--{name}={value}" for name, value in flags.items())]
