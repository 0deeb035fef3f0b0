from dataclasses import replace
from pathlib import Path

import pytest

from meridian.store.etcd_server import EtcdFiles, EtcdMember, etcd_command

FILES = EtcdFiles(Path("/c/ca.pem"), Path("/c/m.pem"), Path("/c/m.key"))
MEMBERS = [
    EtcdMember(f"m{i}", f"https://127.0.0.1:{2000 + i}", f"https://127.0.0.1:{3000 + i}", Path(f"/d/m{i}"), FILES)
    for i in range(2)
]


def test_the_command_names_the_whole_cluster_and_demands_certificates_on_both_sides() -> None:
    program, *flags = etcd_command(MEMBERS[1], MEMBERS, "token-7", program="/usr/bin/etcd")
    assert program == "/usr/bin/etcd"
    for flag in (
        "--name=m1",
        "--data-dir=/d/m1",
        "--initial-cluster=m0=https://127.0.0.1:3000,m1=https://127.0.0.1:3001",
        "--initial-cluster-token=token-7",
        "--listen-client-urls=https://127.0.0.1:2001",
        "--client-cert-auth=true",
        "--peer-client-cert-auth=true",
        "--trusted-ca-file=/c/ca.pem",
        "--peer-key-file=/c/m.key",
        "--enable-v2=false",
        "--auto-compaction-retention=1h",
    ):
        assert flag in flags
    assert len({flag.partition("=")[0] for flag in flags}) == len(flags)


def test_urls_and_certificates_must_agree() -> None:
    plain = replace(MEMBERS[0], tls=None)
    with pytest.raises(ValueError, match="without certificates"):
        etcd_command(plain, [plain], "t")
    half = replace(MEMBERS[0], peer_url="http://127.0.0.1:1")
    with pytest.raises(ValueError, match="with certificates"):
        etcd_command(half, [half], "t")
    with pytest.raises(ValueError, match="not among"):
        etcd_command(MEMBERS[0], MEMBERS[1:], "t")
