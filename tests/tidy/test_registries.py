"""No host of a package registry stands in any file, and nothing that is committed says where packages come from.

Which registries a machine uses is its owner's business: they are read from its configuration. The well-known ones
are put together here from parts, so that this file does not contain what it forbids.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import ROOT

WELL_KNOWN = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("pypi", "python", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
        ("deb", "debian", "org"),
        ("security", "debian", "org"),
        ("snapshot", "debian", "org"),
        ("archive", "ubuntu", "com"),
        ("security", "ubuntu", "com"),
        ("crates", "io"),
        ("proxy", "golang", "org"),
        ("sum", "golang", "org"),
        ("rubygems", "org"),
        ("anaconda", "org"),
        ("repo", "maven", "apache", "org"),
    )
)
LOCK_FILES = ("uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "package-lock.json", "yarn.lock", "pylock.toml")
_ADDRESS = re.compile(r"https?://(?:[^/@\s\"']*@)?([^/\s\"':]+)")


def committed_files() -> list[Path]:
    """What is committed or would be: tracked files, and others that are not ignored."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, capture_output=True, check=True, timeout=30).stdout.decode().split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def configured_hosts() -> Iterator[str]:
    """Hosts that this machine's pip, npm and apt are told to use."""
    texts = [path.read_text(errors="replace") for path in Path("/etc/apt").glob("sources.list*") if path.is_file()]
    texts += [path.read_text(errors="replace") for path in Path("/etc/apt/sources.list.d").glob("*")]
    for command in (["pip", "config", "list"], ["npm", "config", "get", "registry"]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        except FileNotFoundError:
            continue
        texts.append(done.stdout)
    for text in texts:
        yield from _ADDRESS.findall(text)


@pytest.fixture(scope="module")
def files() -> list[Path]:
    found = committed_files()
    assert len(found) > 50
    return found


def test_no_file_names_a_registry(files: list[Path]) -> None:
    forbidden = {host for host in (*WELL_KNOWN, *configured_hosts()) if "." in host}
    pattern = re.compile(b"|".join(re.escape(host.encode()) for host in sorted(forbidden)))
    wrong = []
    for path in files:
        for match in pattern.finditer(path.read_bytes()):
            wrong.append(f"{path.relative_to(ROOT)}: {match[0].decode()}")
    assert not wrong, "\n".join(wrong)


def test_no_lock_file_with_addresses(files: list[Path]) -> None:
    wrong = [str(path.relative_to(ROOT)) for path in files if path.name in LOCK_FILES]
    assert not wrong, f"{wrong} hold download addresses: commit requirements with hashes instead"


def test_requirements_name_no_address_and_have_hashes(files: list[Path]) -> None:
    requirements = [path for path in files if path.parent == ROOT / "requirements"]
    assert requirements
    for path in requirements:
        text = path.read_text()
        assert not re.search(r"https?://|--(extra-)?index-url|--find-links|\bfile:", text), path
        pins = re.findall(r"^[a-zA-Z0-9][^\s]*==\S+.*$", text, re.MULTILINE)
        assert pins, path
        assert all(pin.endswith("\\") for pin in pins), f"{path}: a pin without a hash"


def test_the_pattern_finds_hosts_behind_credentials_and_before_ports() -> None:
    text = "deb [x] https://user:secret@mirror.example:8443/debian stable\nhttp://other.example/simple"
    assert _ADDRESS.findall(text) == ["mirror.example", "other.example"]
