"""await-end: what is a notice, and what its unit makes of one. (A real node that leaves is in scenarios.)"""

import json
import subprocess
from collections.abc import Iterator

import pytest
from tests.deploy.units import FOLDER, read_unit
from tests.local_cluster import MERIDIAN
from tests.metadata import Cloud, metadata
from tests.support import wait_until

from meridian.cli.ending import SPOT, STATE, Metadata, notice


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with metadata() as server:
        yield server


def test_what_is_a_notice_and_what_is_none(cloud: Cloud) -> None:
    asked = Metadata(cloud.address)
    assert notice(asked) == ""
    for state in ("Standby", "Detached", "Warmed:Stopped", "<html>"):
        cloud.said[STATE] = state
        assert notice(asked) == "", state
    del cloud.said[STATE]  # a machine of no group
    assert notice(asked) == ""
    assert cloud.tokens == 1
    cloud.token = "two"  # the first has run out
    cloud.said[SPOT] = '{"action": "terminate", "time": "2026-12-01T12:00:00Z"}'
    assert notice(asked) == "the cloud takes it back"
    assert cloud.tokens == 2
    cloud.said[STATE] = "Terminated"
    assert notice(asked) == "its scaling group ends it"


def test_metadata_that_do_not_answer_are_no_notice(cloud: Cloud) -> None:
    asked = Metadata(cloud.address)
    cloud.shutdown()
    cloud.server_close()
    assert notice(asked) == ""


async def test_the_command_waits_and_then_says_why(cloud: Cloud) -> None:
    command = [str(MERIDIAN), "await-end", "--metadata", cloud.address, "--every-seconds", "0.1", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as waits:
        await wait_until(lambda: cloud.asked > 4, within_seconds=15, what="it asks again and again")
        assert waits.poll() is None
        cloud.said[STATE] = "Terminated"
        said, _ = waits.communicate(timeout=10)
    assert waits.returncode == 0
    assert json.loads(said) == {"ends": True, "why": "its scaling group ends it"}


@pytest.mark.parametrize(
    ("how", "stops"),
    [
        (("success", "exited", "0"), True),
        (("success", "killed", "TERM"), False),  # systemctl stop meridian-notice
        (("exit-code", "exited", "1"), False),
        (("exec-condition", "", ""), False),  # no machine of AWS's
    ],
)
def test_the_unit_stops_the_node_only_for_a_notice(how: tuple[str, str, str], stops: bool) -> None:
    (after,) = read_unit(FOLDER / "meridian-notice.service")["ExecStopPost"]
    script = after.removeprefix("+/bin/sh -c '").removesuffix("'").replace("systemctl", "echo systemctl")
    said = subprocess.run(
        ["/bin/sh", "-c", script], capture_output=True, text=True, timeout=10, check=True,
        env=dict(zip(("SERVICE_RESULT", "EXIT_CODE", "EXIT_STATUS"), how, strict=True)) | {"PATH": "/bin"},
    )  # fmt: skip
    assert said.stdout == ("systemctl stop --no-block meridian.service\n" if stops else "")
