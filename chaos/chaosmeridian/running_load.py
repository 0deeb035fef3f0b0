"""The load of one experiment: a process (chaosmeridian.load) that offers from one step of the method to a later one.

A step must not guess when the load is under way: the generator says on stderr when it began, and how long it then
ran undisturbed is measured from there. There is one at a time; Chaos Toolkit's steps share nothing but this module.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from chaosmeridian.lab import LabError
from chaosmeridian.tally import Tally

BEGIN_SECONDS = 30.0  # for the generator to import its libraries on a busy machine
LAST_WORDS_SECONDS = 5.0  # to end by itself after it said that it will not begin
END_SECONDS = 30.0  # for what is under way, beyond its own timeout

_running: "RunningLoad | None" = None


class RunningLoad:
    """A generator's process."""

    def __init__(self, arguments: Sequence[str], timeout_seconds: float) -> None:
        """Starts it and waits until it offers; raises LabError with its reason if it does not."""
        self._timeout_seconds = timeout_seconds
        self._process = subprocess.Popen(
            (sys.executable, "-m", "chaosmeridian.load", "--json", "--announce", *arguments),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            line = self._words(BEGIN_SECONDS, whole=False)
            self.began_at = float(json.loads(line)["began_at"])
        except (ValueError, KeyError, TypeError):
            reason = (line + self._words(LAST_WORDS_SECONDS, whole=True)).strip().splitlines()[-1:]
            self._process.communicate()
            raise LabError(f"the load generator failed: {''.join(reason)}") from None

    def _words(self, seconds: float, *, whole: bool) -> str:
        """A line of its stderr, or all up to its end; it is killed if they take longer. Read through the one stream,
        because `communicate` does not see what that has buffered."""
        assert self._process.stderr is not None
        watchdog = threading.Timer(seconds, self._process.kill)
        watchdog.start()
        try:
            return self._process.stderr.read() if whole else self._process.stderr.readline()
        finally:
            watchdog.cancel()

    def wait_until(self, seconds: float) -> None:
        """Waits until it has offered for so long; raises LabError if it ended before."""
        try:
            self._process.wait(max(0.0, self.began_at + seconds - time.monotonic()))
        except subprocess.TimeoutExpired:
            return
        raise LabError("the load ended before it was stopped: give it more seconds")

    def stop(self) -> Tally:
        """Ends the offer, waits for what is under way, and returns the tally; raises LabError if there is none."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            output, errors = self._process.communicate(timeout=self._timeout_seconds + END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise LabError("the load generator did not end") from None
        if self._process.returncode not in (0, 1):
            raise LabError(f"the load generator failed: {errors[-500:]}")
        return Tally.from_json(output)


def begin(arguments: Sequence[str], timeout_seconds: float) -> RunningLoad:
    """Begins the load; raises LabError if one runs already, or as RunningLoad does."""
    global _running
    if _running is not None:
        raise LabError("a load runs already; stop it first (stop_load)")
    _running = RunningLoad(arguments, timeout_seconds)
    return _running


def end() -> Tally | None:
    """Ends the load and returns its tally; None if none runs. Raises as RunningLoad.stop does."""
    global _running
    load, _running = _running, None
    return load.stop() if load is not None else None
