"""When a child is started again. (Starting itself is tested with real processes in test_launcher.)"""

import os
import signal
import sys

from meridian.nodes.settings import Settings
from meridian.nodes.supervision import Child, restart_delay
from meridian.nodes.zygotes import Zygote


def test_the_delay_doubles_up_to_a_bound_and_a_long_life_resets_it() -> None:
    delays, delay = [], 0.0
    for _ in range(8):
        delay = restart_delay(delay, lived_seconds=0.01)
        delays.append(delay)
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert restart_delay(delay, lived_seconds=10.0) == 0.1


def test_who_was_asked_of_a_zygote_that_dies_counts_as_ended() -> None:
    zygote, child = Zygote(python=sys.executable), Child("gateway", 0)
    settings = Settings("one", "here")
    zygote.open(settings, 0.0)
    assert zygote.process is not None
    try:
        os.kill(zygote.process.pid, signal.SIGSTOP)
        child.start(settings, "", zygote.fork, 0.0)
        assert child.process is not None
        assert child.process.poll() is None
    finally:
        zygote.process.kill()
        zygote.process.wait()
    zygote.bury()
    assert child.process.poll() == -signal.SIGKILL
    child.bury()
    child.forget()
