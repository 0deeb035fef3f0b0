"""await-end: waits until the cloud says that this machine will end, for what then lets the node leave.

AWS tells by the machine's metadata: a scaling group that this machine is to leave (target-lifecycle-state is Terminated
while the group's hook holds it), or a spot machine that is taken back (spot/instance-action, two minutes before).
Google and Hetzner need none of this: their machines are shut down, and the shutdown stops the unit.

Metadata that do not answer, or not as they should, are no reason to end: they are asked again.
"""

import http.client
from dataclasses import dataclass, field
from typing import Annotated

import typer

from meridian.cli.output import Json, say, show_json
from meridian.cli.processes import pause

AWS = "169.254.169.254"  # link-local, the same on every machine
TOKEN_SECONDS = 21600  # the longest that AWS gives
TIMEOUT_SECONDS = 2.0
POLL_SECONDS = 5.0  # as AWS advises; a notice comes 60 s (the hook's) to 120 s (spot's) before the end
ANSWER_BYTES_MAX = 4096
STATE = "/latest/meta-data/autoscaling/target-lifecycle-state"
SPOT = "/latest/meta-data/spot/instance-action"
TOKEN = "/latest/api/token"  # noqa: S105  # where to ask for one


@dataclass(slots=True)
class Metadata:
    """A machine's metadata, asked by version 2: with a token, which is renewed when it is refused."""

    address: str
    token: str = field(default="", repr=False)

    def get(self, path: str) -> str:
        """What stands there, empty for nothing. Raises OSError and HTTPException when nobody answers."""
        status, said = self._ask("GET", path, {"X-aws-ec2-metadata-token": self.token})
        if status == 401:
            status, said = self._ask("PUT", TOKEN, {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)})
            self.token = said if status == 200 else ""
            status, said = self._ask("GET", path, {"X-aws-ec2-metadata-token": self.token})
        return said.strip() if status == 200 else ""

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        connection = http.client.HTTPConnection(self.address, timeout=TIMEOUT_SECONDS)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read(ANSWER_BYTES_MAX).decode("ascii", "replace")
        finally:
            connection.close()


def notice(metadata: Metadata) -> str:
    """Why the machine will end, as far as its metadata say; empty if they say nothing of it."""
    try:
        if metadata.get(STATE) == "Terminated":
            return "its scaling group ends it"
        if metadata.get(SPOT):
            return "the cloud takes it back"
    except (OSError, http.client.HTTPException):
        pass  # asked again
    return ""


def await_end(
    metadata: Annotated[str, typer.Option("--metadata", metavar="HOST", help="Who tells: AWS's metadata.")] = AWS,
    every_seconds: Annotated[float, typer.Option(min=0.1, max=60, help="How often it is asked.")] = POLL_SECONDS,
    as_json: Json = False,
) -> None:
    """Wait until AWS says that this machine will end. meridian-notice.service then lets the node leave."""
    asked = Metadata(metadata)
    while not (why := notice(asked)):
        pause(every_seconds)
    if as_json:
        show_json({"ends": True, "why": why})
    else:
        say(f"this machine will end: {why}")
