"""A real etcd cluster for tests: members as processes on free loopback ports, to be killed, paused and restarted."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import trustme
from tests.support import free_port

from meridian.store.etcd import EtcdStore
from meridian.store.etcd_members import EtcdTls, EtcdUser
from meridian.store.etcd_server import EtcdFiles, EtcdMember, etcd_command

HOST = "127.0.0.1"


class EtcdCluster:
    """`size` members; with `mtls`, both sides of every connection need a certificate of the cluster's authority."""

    def __init__(self, folder: Path, size: int = 3, *, mtls: bool = True, quota_bytes: int = 0) -> None:
        self._folder = folder
        self.token = folder.name
        # Of two flags of one name etcd takes the last.
        self._more = [f"--quota-backend-bytes={quota_bytes}"] if quota_bytes else []
        self.tls: EtcdTls | None = None
        files: EtcdFiles | None = None
        if mtls:
            self.authority = trustme.CA()
            files = self._issue(folder)
            self.files = files
            self.tls = EtcdTls(files.ca.read_bytes(), files.certificate.read_bytes(), files.key.read_bytes())
        scheme = "https" if mtls else "http"
        self.members = [
            EtcdMember(
                f"m{i}", f"{scheme}://{HOST}:{free_port()}", f"{scheme}://{HOST}:{free_port()}", folder / f"m{i}", files
            )
            for i in range(size)
        ]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def endpoints(self) -> list[str]:
        return [member.client_url for member in self.members]

    def store(self, only: Sequence[int] | None = None, *, user: EtcdUser | None = None, **seconds: float) -> EtcdStore:
        """Returns a client of all members, or of those numbered in `only`, in that order. The caller closes it."""
        chosen = range(len(self.members)) if only is None else only
        return EtcdStore([self.members[i].client_url for i in chosen], tls=self.tls, user=user, **seconds)

    def start(self, *numbers: int) -> None:
        """Starts the members numbered, or all of them, and does not wait."""
        for i in numbers or range(len(self.members)):
            environment = {name: value for name, value in os.environ.items() if not name.startswith("ETCD")}
            with (self._folder / f"m{i}.log").open("ab") as log:
                self._processes[i] = subprocess.Popen(
                    [*etcd_command(self.members[i], self.members, self.token), *self._more],
                    stderr=log,
                    stdout=log,
                    env=environment,
                    start_new_session=True,
                )

    def send(self, number: int, signal_number: signal.Signals) -> None:
        self._processes[number].send_signal(signal_number)

    def kill(self, *numbers: int) -> None:
        """Kills the members (SIGKILL) and waits for their end, so that their ports are free."""
        for i in numbers:
            process = self._processes.pop(i)
            process.kill()
            process.wait(timeout=10)

    def stop(self) -> None:
        self.kill(*tuple(self._processes))

    def wait_healthy(self, within_seconds: float = 20.0) -> None:
        """Blocks until every member answers and all see one leader; raises AssertionError at the deadline."""
        deadline = time.monotonic() + within_seconds
        while len({leader for _, leader in self._status()} - {0}) != 1 or len(self._status()) < len(self.members):
            assert time.monotonic() < deadline, f"etcd did not come up: {self.logs()}"

    def leader(self) -> int:
        """Returns the number of the member that leads."""
        return next(number for number, (me, leader) in enumerate(self._status()) if me == leader)

    def _status(self) -> list[tuple[int, int]]:
        """Returns (own id, leader's id or 0) of each member that answers, in order."""
        told = self._run("endpoint", "status", "--write-out=json").stdout
        statuses = [entry["Status"] for entry in json.loads(told or "[]") or []]
        return [(status["header"]["member_id"], status.get("leader", 0)) for status in statuses]

    def etcdctl(self, *arguments: str) -> str:
        """Runs etcdctl against all members and returns what it prints; raises CalledProcessError."""
        done = self._run(*arguments)
        done.check_returncode()
        return done.stdout

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["etcdctl", f"--endpoints={','.join(self.endpoints)}", "--command-timeout=2s", *arguments]
        if self.tls is not None:
            command += [f"--cacert={self.files.ca}", f"--cert={self.files.certificate}", f"--key={self.files.key}"]
        environment = {**os.environ, "ETCDCTL_API": "3"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20)

    def logs(self) -> str:
        return "\n".join(path.read_text()[-2000:] for path in sorted(self._folder.glob("*.log")))

    def _issue(self, folder: Path) -> EtcdFiles:
        """Writes the authority and one certificate, which members and clients share: all of them are this machine."""
        issued = self.authority.issue_cert(HOST, "localhost")
        files = EtcdFiles(folder / "ca.pem", folder / "etcd.pem", folder / "etcd.key")
        self.authority.cert_pem.write_to_path(str(files.ca))
        issued.cert_chain_pems[0].write_to_path(str(files.certificate))
        issued.private_key_pem.write_to_path(str(files.key))
        return files
