"""User-data: what cloud-init's schema says, its unknown words (which the schema passes), and the script within."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.deploy.terraform import rendered
from tests.support import ROOT

TEMPLATE = ROOT / "deploy/cloud-init/machine.yaml.tftpl"
SCHEMA = Path("/usr/lib/python3/dist-packages/cloudinit/config/schemas/schema-cloud-config-v1.json")
USER_DATA_BYTES_MAX = 16 * 1024  # what the meanest cloud takes
SECRET = "mrd1.a-secret.b"
VALUES = """{
  roles = %s, name = "eu-1", address_flag = "--address", address = "hostname -I | cut -d' ' -f1",
  public_address = "echo 198.51.100.7",
  bundle_url = "https://files.example.com/meridian.tar.gz", bundle_sha256 = "0123", authority = "%s",
  join_token = "mrd1.a-secret.b", node_args = "--region=eu-west --workers=2", etcd_cluster = "a=https://10.0.0.1:2380",
  etcd_token = "shop"
}"""


@pytest.fixture(scope="module", params=['["node"]', '["etcd", "pki"]', '["node", "etcd", "pki"]'])
def user_data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    values = VALUES % (request.param, "https://10.0.0.4:9902")
    return rendered(tmp_path_factory.mktemp("rendered"), TEMPLATE, values)


def script_of(user_data: str) -> str:
    files = {file["path"]: file for file in yaml.safe_load(user_data)["write_files"]}
    found: str = files["/usr/local/sbin/meridian-first-boot"]["content"]
    return found


def test_cloud_init_accepts_it(user_data: str, tmp_path: Path) -> None:
    file = tmp_path / "user-data"
    file.write_text(user_data)
    done = subprocess.run(
        ["cloud-init", "schema", "--config-file", file], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0 and "Valid cloud-config" in done.stdout, done.stdout + done.stderr
    assert user_data.startswith("#cloud-config\n") and len(user_data.encode()) < USER_DATA_BYTES_MAX


def test_it_has_no_unknown_word(user_data: str) -> None:
    assert list(unknown(yaml.safe_load(user_data))) == []


def test_an_unknown_word_is_seen() -> None:
    text = "packges: [curl]\nwrite_files: [{path: /a, permission: '0600'}]\n"
    assert list(unknown(yaml.safe_load(text))) == ["packges", "write_files.permission"]


def test_the_script_is_sound(user_data: str, tmp_path: Path) -> None:
    file = tmp_path / "first-boot"
    file.write_text(script_of(user_data))
    # 2317: a function that some roles do not call; 2116: the expression that prints an address is the caller's.
    command: list[str | Path] = ["shellcheck", "--exclude=SC2317,SC2116,SC2329", file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


def test_the_token_is_in_one_private_file_only(user_data: str) -> None:
    found = [file for file in yaml.safe_load(user_data)["write_files"] if SECRET in file["content"]]
    assert [(file["path"], file["permissions"]) for file in found] == [("/run/meridian/join.token", "0600")]
    assert user_data.count(SECRET) == 1
    assert ["rm", "-f", "/run/meridian/join.token"] in yaml.safe_load(user_data)["runcmd"]


def test_the_script_writes_what_the_units_read(tmp_path: Path) -> None:
    """Run with stand-ins for what changes the machine: the configuration files come out whole."""
    text = script_of(rendered(tmp_path, TEMPLATE, VALUES % ('["node", "etcd", "pki"]', "https://10.0.0.4:9902")))
    tools = tmp_path / "tools"
    tools.mkdir()
    log = tmp_path / "log"
    for name, body in {
        "curl": 'touch "${@: -1}"; :', "sha256sum": "cat >/dev/null", "tar": 'cp install.sh "${@: -3:1}"',
        "hostname": "echo 10.0.0.5 198.51.100.7", "systemctl": f'echo "systemctl $*" >>{log}',
        "runuser": f'echo "runuser $* token=$(cat)" >>{log}',
    }.items():  # fmt: skip
        (tools / name).write_text(f"#!/bin/bash\n{body}\n")
        (tools / name).chmod(0o755)
    (tmp_path / "install.sh").write_text(f"#!/bin/bash\necho install.sh $* >>{log}\n")
    (tmp_path / "install.sh").chmod(0o755)
    text = text.replace("/etc/meridian", str(tmp_path / "etc")).replace("/run/meridian", str(tmp_path))
    (tmp_path / "etc").mkdir()
    (tmp_path / "join.token").write_text("mrd1.x.y\n")
    (tmp_path / "first-boot").write_text(text)
    done = subprocess.run(
        ["bash", "first-boot"], cwd=tmp_path, env={"PATH": f"{tools}:/usr/bin:/bin"}, capture_output=True, text=True,
        timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = log.read_text()
    assert said.startswith("install.sh node etcd pki\n")
    assert said.count("token=mrd1.x.y") == 2 and "--name eu-1 --address 10.0.0.5" in said
    etcd = dict(line.split("=", 1) for line in (tmp_path / "etc/etcd.conf").read_text().splitlines())
    assert etcd["ETCD_LISTEN_PEER_URLS"] == "https://10.0.0.5:2380" and etcd["ETCD_NAME"] == "eu-1"
    assert (tmp_path / "etc/node.conf").read_text() == (
        'MERIDIAN_NODE_ARGS="--name=eu-1 --address=10.0.0.5 --advertise=198.51.100.7 --region=eu-west --workers=2"\n'
    )


def unknown(config: dict[str, Any]) -> Iterator[str]:
    """Words that no module of cloud-init reads, as paths: a misspelt one is passed by its own schema."""
    definitions: dict[str, dict[str, Any]] = json.loads(SCHEMA.read_text())["$defs"]
    known = {word: part for module in definitions.values() for word, part in module.get("properties", {}).items()}
    for word, value in config.items():
        if word not in known:
            yield word
        else:
            yield from _unknown_within(word, value, known[word])


def _unknown_within(place: str, value: Any, schema: dict[str, Any]) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _unknown_within(place, item, schema.get("items", {}))
    elif isinstance(value, dict) and "properties" in schema:
        for word, part in value.items():
            if word not in schema["properties"]:
                yield f"{place}.{word}"
            else:
                yield from _unknown_within(f"{place}.{word}", part, schema["properties"][word])
