"""The units: known words only, little exposure, the flags that programs know, and a node that lives with what they
forbid."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.deploy.units import FOLDER, command, environment, read_unit
from tests.nodes.node import Node
from tests.support import ROOT, free_port, wait_until

from meridian.nodes.notify import Notifier
from meridian.nodes.settings import parse_settings
from meridian.store.etcd_server import EtcdFiles, EtcdMember, etcd_command

UNITS = sorted(path.name for path in FOLDER.iterdir() if path.suffix in (".service", ".timer", ".path"))
SERVICES = [name for name in UNITS if name.endswith(".service")]
EXPOSURE_MAX = 3.0


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units with programs that this machine has, since systemd-analyze looks for them."""
    for name in UNITS:
        text = (FOLDER / name).read_text()
        (tmp_path / name).write_text(re.sub(r"/opt/meridian/\S+/(meridian|etcd)\b", "/usr/bin/true", text))
    return tmp_path


def analyze(*arguments: str, units: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ) if units is None else os.environ | {"SYSTEMD_UNIT_PATH": f"{units}:"}
    command = ["systemd-analyze", "--no-pager", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=environment)


def test_every_word_of_the_units_is_known(units: Path) -> None:
    found = analyze("verify", "--man=no", *(str(units / name) for name in UNITS), units=units)
    # It ends with 0 whatever it finds.
    assert (found.returncode, found.stderr) == (0, "")


def test_an_unknown_word_is_seen(units: Path) -> None:
    unit = units / "meridian.service"
    unit.write_text(unit.read_text().replace("[Service]", "[Service]\nProtectEverything=yes"))
    found = analyze("verify", "--man=no", str(unit), units=units)
    assert "ProtectEverything" in found.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_a_unit_is_little_exposed(name: str) -> None:
    found = analyze("security", "--offline=true", str(FOLDER / name))
    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", found.stdout)
    assert level is not None, found.stderr
    assert float(level[1]) <= EXPOSURE_MAX, found.stdout


def test_the_node_s_unit_names_flags_that_exist(tmp_path: Path) -> None:
    words = command(read_unit(FOLDER / "meridian.service"))
    assert words[:2] == ["/opt/meridian/current/bin/meridian", "node"] and words[-1] == "$MERIDIAN_NODE_ARGS"
    flags = []
    for word in words[2:-1]:
        name, _, value = word.partition("=")
        if "." in value or name == "--python":  # a file: it must be there
            value = str(tmp_path / Path(value).name)
            Path(value).touch()
        flags.append(f"{name}={value}")
    settings = parse_settings([*flags, "--name=one", "--region=here", "--advertise=198.51.100.7"])
    assert settings.state == "/var/lib/meridian"
    assert settings.peer_cert == settings.etcd_cert == str(tmp_path / "certificate.pem")


def test_etcd_s_unit_says_what_the_local_cluster_says() -> None:
    """All but what is of one machine: names, addresses, and where its files lie."""
    files = EtcdFiles(Path("ca"), Path("pem"), Path("key"))
    member = EtcdMember("m", "https://127.0.0.1:1", "https://127.0.0.1:2", Path("data"), files)
    flags = dict(word.removeprefix("--").split("=", 1) for word in etcd_command(member, [member], "t")[1:])
    wanted = {"ETCD_" + name.upper().replace("-", "_"): value for name, value in flags.items()}
    of_the_machine = {"ETCD_NAME"} | {name for name in wanted if "_URLS" in name or name.startswith("ETCD_INITIAL_")}
    of_the_machine |= {name for name in wanted if name.endswith(("_FILE", "_DIR"))}
    said = environment(read_unit(FOLDER / "meridian-etcd.service"))
    assert {name: said.get(name) for name in wanted.keys() - of_the_machine} == {
        name: wanted[name] for name in wanted.keys() - of_the_machine
    }
    assert said.keys() <= wanted.keys()
    assert {name for name in wanted if name.endswith(("_FILE", "_DIR"))} <= said.keys()


def sandboxed(unit: Path, *arguments: str) -> list[str]:
    """A command with the unit's capabilities and restrictions, as the user that runs the tests."""
    capabilities = "-all,+net_bind_service"
    return ["setpriv", f"--bounding-set={capabilities}", f"--inh-caps={capabilities}",
            f"--ambient-caps={capabilities}", "--no-new-privs", "--",
            sys.executable, str(ROOT / "tests/deploy/sandbox.py"), str(unit), *arguments]  # fmt: skip


async def test_a_node_lives_with_what_its_unit_forbids(tmp_path: Path) -> None:
    """With the ports that need the capability, and the words of systemd's protocol on its socket."""
    told = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(told))
        systemd.setblocking(False)
        heard: list[str] = []

        def hear(word: str) -> bool:
            while True:
                try:
                    heard.extend(systemd.recv(4096).decode().splitlines())
                except BlockingIOError:
                    return word in heard

        launcher = [sys.executable, "-m", "meridian.nodes.launcher", "--name=one", "--region=here", "--workers=1"]
        launcher += ["--address=127.0.0.1", "--dns-port=53", f"--admin-port={free_port()}"]
        launcher += [f"--peer-port={free_port()}", f"--state={tmp_path / 'state'}"]
        environment = {**os.environ, "NOTIFY_SOCKET": str(told), "WATCHDOG_USEC": "1000000"}
        process = await asyncio.create_subprocess_exec(
            *sandboxed(FOLDER / "meridian.service", *launcher),
            stderr=asyncio.subprocess.PIPE, limit=2**20, env=environment, start_new_session=True,
        )  # fmt: skip
        node = Node(process)
        reader = asyncio.get_running_loop().create_task(node.read())
        try:
            await wait_until(lambda: hear("READY=1"), within_seconds=40, what="systemd is told that the node is ready")
            for worker in ("agent", "gateway-0", "dns-0"):
                await node.logged("child ready", worker=worker)
            heard.clear()
            await wait_until(lambda: hear("WATCHDOG=1"), within_seconds=3, what="the watchdog is fed")
            assert not node.entries("child ended"), node.log
            process.terminate()
            assert await node.ended(30) == 0, node.log
            assert hear("STOPPING=1")
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
            await reader


def test_the_sandbox_of_the_test_forbids(tmp_path: Path) -> None:
    """So that the test above means something: another family of sockets, and a call of the kernel's administration."""
    code = "import socket, ctypes\ntry: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\n"
    code += "except PermissionError: print('no packets')\n"
    code += "print(ctypes.CDLL(None).swapoff(b'/nothing'), ctypes.get_errno())\n"
    code += "import mmap\ntry: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)\n"
    code += "except PermissionError: print('no write and execute')"
    done = subprocess.run(
        sandboxed(FOLDER / "meridian.service", sys.executable, "-c", code),
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "no packets" in done.stdout and "no write and execute" in done.stdout and "-1" in done.stdout


def test_a_node_without_systemd_says_nothing_and_hears_no_variable() -> None:
    environment = {"PATH": "/bin", "WATCHDOG_USEC": "no number"}
    notifier = Notifier(environment)
    notifier.tell("READY=1")
    notifier.turn(0.0)
    assert environment == {"PATH": "/bin"}


def test_what_systemd_has_no_room_for_is_said_later(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(5)
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "2000000"})
        for second in range(2000):  # more beats than any queue holds
            notifier.turn(float(second))
        notifier.tell("READY=1", "STATUS=one runs")
        heard = [systemd.recv(100) for _ in range(5)]
        assert heard == [b"WATCHDOG=1"] * 5
        notifier.turn(2000.0)
        notifier.close()
        systemd.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                heard.append(systemd.recv(100))
        assert b"READY=1\nSTATUS=one runs" in heard
