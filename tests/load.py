"""Open-loop load in a process of its own, so that the test's own work never delays it."""

import contextlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO

from tests.support import ROOT

from chaosmeridian.tally import Tally

GRACE_SECONDS = 15.0  # for the generator to start, and to await what is under way at the end


class Load:
    """A run of `chaosmeridian.load`; its tally is there after the context ends."""

    def __init__(self, process: "subprocess.Popen[str]", errors: IO[str], seconds: float) -> None:
        self._process = process
        self._errors = errors
        self._seconds = seconds
        self._tally: Tally | None = None

    @property
    def errors(self) -> str:
        """What it has written to stderr until now."""
        self._errors.seek(0)
        return self._errors.read()

    @property
    def has_begun(self) -> bool:
        """The first request is on its way."""
        return "began_at" in self.errors

    @property
    def tally(self) -> Tally:
        """The result; waits for the end of the run."""
        if self._tally is None:
            output, _ = self._process.communicate(timeout=self._seconds + GRACE_SECONDS)
            assert self._process.returncode in (0, 1), self.errors
            self._tally = Tally.from_json(output)
        return self._tally

    def stop(self) -> Tally:
        """Ends the offer now and returns the tally."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        return self.tally


@contextlib.contextmanager
def offered_load(
    targets: Iterable[str], *, seconds: float, rate: int = 500, ca_file: str | None = None,
    host: str = "shop.example.com", paths: Iterable[str] = ("/api/products",), contains: str | None = None,
    mix: str | None = None, follow: str | None = None, dns: Iterable[str] = (),
) -> Iterator[Load]:  # fmt: skip
    """Offers `rate` requests a second to `targets` (such as h2=127.0.0.11:8443) while the block runs.

    With `follow` only those are asked whose addresses the DNS servers answer for that name. At the end of the block the
    run goes on to its `seconds`, unless it was stopped.
    """
    command = [sys.executable, "-m", "chaosmeridian.load", "--json", "--announce", "--host", host, "--rate", str(rate)]
    command += ["--seconds", str(seconds)]
    for target in targets:
        command += ["--target", target]
    for path in paths:
        command += ["--path", path]
    command += ["--ca-file", ca_file] if ca_file else []
    command += ["--expect-contains", contains] if contains else []
    command += ["--mix", mix] if mix else []
    command += ["--follow", follow] if follow else []
    for server in dns:
        command += ["--dns", server]
    # A file and no pipe, which would hold the generator up when it is full of what TLS says of lost connections. In a
    # session of its own the generator has a share of the processor of its own, too (sched(7), autogroup).
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
        load = Load(process, errors, seconds)
        try:
            yield load
            assert load.tally
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate(timeout=10)


def shown(tally: Tally) -> str:
    """What a failed assertion should say."""
    examples = "\n".join(map(str, tally.examples[:8]))
    return f"{tally.failed} of {tally.offered} failed: {tally.reasons}\n{examples}"
