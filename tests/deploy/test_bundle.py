"""The bundle that machines are installed from: the same bytes each time, and a wheel that serves without a checkout."""

import asyncio
import hashlib
import http.client
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.support import ROOT, child_process, free_port, wait_until

HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpacked."""
    folder = tmp_path_factory.mktemp("bundle")
    make(folder)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    (unpacked,) = (path for path in folder.iterdir() if path.is_dir())
    return unpacked


def make(folder: Path) -> str:
    command = [ROOT / "scripts/bundle", folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_bundle_is_the_same_each_time(bundle: Path, tmp_path: Path) -> None:
    (first,) = bundle.parent.glob("*.tar.gz")
    digest, name = make(tmp_path).split()
    assert name == first.name
    assert digest == hashlib.sha256(first.read_bytes()).hexdigest()


def test_the_bundle_holds_what_install_sh_reads(bundle: Path) -> None:
    held = {str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file()}
    units = {f"systemd/{path.name}" for path in (ROOT / "deploy/systemd").iterdir()}
    assert {"install.sh", "VERSION", "requirements.txt", "docs/deploy.md", *units} <= held
    assert os.access(bundle / "install.sh", os.X_OK)
    assert "--hash=sha256:" in (bundle / "requirements.txt").read_text()


async def test_a_node_serves_from_the_installed_wheel(bundle: Path, tmp_path: Path) -> None:
    """In a virtual environment of its own, with nothing of the checkout in reach; libraries are those of the tests."""
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True, timeout=60)
    python = environment / "bin/python"
    (wheel,) = bundle.glob("*.whl")
    install: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "--quiet",
        "--python",
        python,
        "install",
        "--no-deps",
        "--no-index",
        wheel,
    ]
    subprocess.run(install, check=True, timeout=60)
    where = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True, text=True, check=True, timeout=20,
    ).stdout.strip()  # fmt: skip
    # Of a folder that a .pth names, its own .pth files are not read: so not the checkout that the tests run from.
    (Path(where) / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    web, app = free_port(), free_port()
    document = tmp_path / "minimal.yaml"
    text = (ROOT / "examples/minimal.yaml").read_text()
    document.write_text(text.replace("127.0.0.1:8080", f"{HOST}:{web}").replace("127.0.0.1:8000", f"{HOST}:{app}"))
    (tmp_path / "page.html").write_text("from the wheel")
    serve = [environment / "bin/meridian", "serve", document, "--dns-port=0", f"--admin-port={free_port()}"]
    shown = subprocess.run(
        [python, "-c", "import meridian; print(meridian.__file__)"], cwd=tmp_path, capture_output=True, text=True,
        timeout=20, check=True,
    ).stdout  # fmt: skip
    assert str(environment) in shown
    upstream = [sys.executable, "-m", "http.server", "--bind", HOST, str(app)]
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"HOME": str(tmp_path)}

    def answer() -> bytes:
        connection = http.client.HTTPConnection(HOST, web, timeout=2)
        try:
            connection.request("GET", "/page.html")
            return connection.getresponse().read()
        finally:
            connection.close()

    with (
        (tmp_path / "log").open("wb") as log,
        child_process(*upstream, cwd=tmp_path, stderr=log, stdout=log),
        child_process(*map(str, serve), cwd=tmp_path, env=own, stderr=log),
    ):

        async def serves() -> bool:
            return await asyncio.to_thread(answer) == b"from the wheel"

        condition: Callable[[], bool | Awaitable[bool]] = serves
        await wait_until(condition, within_seconds=40, what="the wheel serves", every_seconds=0.1)


def test_install_sh_refuses_what_it_does_not_know() -> None:
    for words, message in ((["gateway"], "unknown word gateway"), ([], "what shall it install?")):
        done = subprocess.run(
            ["bash", ROOT / "deploy/install.sh", *words], capture_output=True, text=True, timeout=20, check=False
        )
        assert done.returncode == 2 and message in done.stderr


@pytest.mark.parametrize("script", ["deploy/install.sh", "scripts/bundle"])
def test_shellcheck_finds_nothing(script: str) -> None:
    program = shutil.which("shellcheck")
    assert program is not None, "next: apt-get install shellcheck"
    command: list[str | Path] = [program, "--external-sources", "--source-path=SCRIPTDIR", ROOT / script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


def test_hadolint_finds_nothing() -> None:
    command: list[str | Path] = [Path(sys.executable).parent / "hadolint", "deploy/docker/Dockerfile"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
