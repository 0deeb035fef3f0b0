"""Keys and certificates of the local cluster: made once, kept, private, and of two authorities."""

import datetime
import ssl
import stat
from pathlib import Path

import trustme
from cryptography import x509

from meridian.cli.local_ca import demo_certificates, prepare_secrets
from meridian.cli.local_state import LocalPaths, plan_cluster
from meridian.core.document import load
from meridian.core.model import Document

NOW = datetime.datetime.now(datetime.UTC)


def document(*hosts: str) -> Document:
    names = ", ".join(f'"{host}"' for host in hosts)
    return load(
        'listeners: [{name: web, bind: "0.0.0.0:443", protocols: [h2]}]\n'
        f"certificates: [{{hosts: [{names}], cert_file: tls/a.pem, key_file: tls/a.key}}]\n"
    )


def contents(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def issued_by(chain: Path, authority: Path) -> bool:
    try:
        x509.load_pem_x509_certificate(chain.read_bytes()).verify_directly_issued_by(
            x509.load_pem_x509_certificate(authority.read_bytes())
        )
    except Exception:  # the library has no one class for "not by this one"
        return False
    return True


def test_secrets_are_private_and_kept(tmp_path: Path) -> None:
    paths = LocalPaths(tmp_path / "state")
    cluster = plan_cluster(document("shop.example.com"), tmp_path / "d.yaml", None, 2)
    prepare_secrets(paths, cluster)
    first = contents(paths.root)
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in first)
    assert len(paths.cluster_key.read_bytes()) == 32
    prepare_secrets(paths, cluster)
    assert contents(paths.root) == first
    for name in ("etcd-1", "eu-west-1"):
        assert issued_by(paths.certificate(name), paths.cluster_ca)


def lay(folder: Path, files: dict[str, bytes]) -> tuple[Path, Path]:
    (folder / "tls").mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder / "tls/a.pem", folder / "tls/a.key"


def test_the_demo_s_certificate_opens_no_door_of_the_cluster(tmp_path: Path) -> None:
    paths = LocalPaths(tmp_path / "state")
    prepare_secrets(paths, plan_cluster(document("shop.example.com"), tmp_path / "d.yaml", None, 2))
    made = demo_certificates(paths, document("shop.example.com", "*.shop.example.com"), tmp_path, NOW)
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in contents(paths.root))
    assert not (tmp_path / "tls").exists()
    chain, key = lay(tmp_path, made)
    assert issued_by(chain, paths.ca)
    assert not issued_by(chain, paths.cluster_ca)
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(chain, key)
    names = x509.load_pem_x509_certificate(chain.read_bytes()).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert "*.shop.example.com" in names.value.get_values_for_type(x509.DNSName)
    assert "127.0.0.13" in map(str, names.value.get_values_for_type(x509.IPAddress))


def test_a_demo_certificate_is_of_the_state_folder_s_authority(tmp_path: Path) -> None:
    shop = document("shop.example.com")
    old, new = LocalPaths(tmp_path / "old"), LocalPaths(tmp_path / "new")
    first = demo_certificates(old, shop, tmp_path, NOW)
    assert demo_certificates(old, shop, tmp_path, NOW) == first
    chain, _ = lay(tmp_path, first)  # as `meridian serve` does
    assert demo_certificates(old, shop, tmp_path, NOW) == first
    second = demo_certificates(new, shop, tmp_path, NOW)
    assert chain.read_bytes() == first["tls/a.pem"]
    chain, _ = lay(tmp_path, second)
    assert issued_by(chain, new.ca)
    assert demo_certificates(new, shop, tmp_path, NOW.replace(year=3001)) != second


def test_somebody_else_s_names_and_certificates_are_left_alone(tmp_path: Path) -> None:
    paths = LocalPaths(tmp_path / "state")
    assert demo_certificates(paths, document("shop.mine.net"), tmp_path, NOW) == {}
    assert demo_certificates(paths, document("shop.example.com", "myexample.com"), tmp_path, NOW) == {}
    assert not paths.root.exists()
    (tmp_path / "tls").mkdir()
    theirs = trustme.CA().issue_cert("shop.example.com")
    theirs.cert_chain_pems[0].write_to_path(str(tmp_path / "tls/a.pem"))
    theirs.private_key_pem.write_to_path(str(tmp_path / "tls/a.key"))
    assert demo_certificates(paths, document("shop.example.com"), tmp_path, NOW) == {}
    (tmp_path / "tls/a.pem").unlink()
    assert demo_certificates(paths, document("shop.example.com"), tmp_path, NOW) == {}  # half a pair is theirs
