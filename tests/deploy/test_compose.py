"""The compose file, as far as it can be judged without an engine: its schema, its safety, and that its parts agree."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import compose_spec
import pytest
import yaml
from tests.support import ROOT

from meridian.core.document import load
from meridian.nodes.settings import SettingsError, parse_settings

FILE = ROOT / "deploy/compose/compose.yaml"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return found


def test_the_schema_knows_every_word(compose: dict[str, Any]) -> None:
    plain = yaml.safe_dump(compose)  # with the anchors and merges resolved, which it does not know
    compose_spec.PyCompose.from_yaml(plain).validate()
    with pytest.raises(ValueError, match="read_onli"):
        compose_spec.PyCompose.from_yaml(plain.replace("read_only", "read_onli"))


def test_the_linter_finds_nothing_grave() -> None:
    program = Path(sys.executable).parent / "compose-lint"
    done = subprocess.run([program, FILE], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


def test_nodes_know_their_flags_and_their_etcd(compose: dict[str, Any]) -> None:
    services = compose["services"]
    etcd = [name for name in services if name.startswith("etcd-")]
    urls = ",".join(services[name]["environment"]["ETCD_ADVERTISE_CLIENT_URLS"] for name in etcd)
    nodes = [name for name, service in services.items() if service.get("command", [""])[0] == "node"]
    assert len(nodes) == len(etcd) == 3
    for name in nodes:
        flags = services[name]["command"][1:]
        with pytest.raises(SettingsError, match="there is no such file"):
            parse_settings(flags)
        settings = parse_settings([flag for flag in flags if "/keys/" not in flag])
        (address,) = services[name]["networks"]["cluster"].values()
        assert (settings.name, settings.advertise, ",".join(settings.etcd)) == (name, (address,), urls)
        assert all(f"/keys/{name}/" in flag for flag in flags if "/keys/" in flag and "token" not in flag)


def test_every_machine_has_a_certificate_for_its_address(compose: dict[str, Any]) -> None:
    services = compose["services"]
    made = dict(re.findall(r"([a-z]+-\d)=([\d.]+)", services["keys"]["command"][0]))
    wanted = {name: service["networks"]["cluster"]["ipv4_address"]
              for name, service in services.items() if name not in ("keys", "apply")}  # fmt: skip
    assert made == wanted
    for name, service in services.items():
        if name.startswith("etcd-"):
            said = service["environment"]
            assert said["ETCD_NAME"] == name and wanted[name] in said["ETCD_INITIAL_ADVERTISE_PEER_URLS"]
            assert f"{name}=https://{wanted[name]}:2380" in said["ETCD_INITIAL_CLUSTER"]
            assert all(f"/keys/{name}/" in value for word, value in said.items() if word.endswith("_FILE"))


def test_the_document_is_one() -> None:
    load((FILE.parent / "document.yaml").read_text())
