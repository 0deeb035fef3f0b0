"""Speaks to the admin API: the one of --admin and --token-file, else of the environment, else the local cluster's."""

import getpass
import http.client
import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote, urlsplit

import typer

from meridian.cli.errors import CommandError, Failed, Mistake

if TYPE_CHECKING:
    from meridian.admin.status import Status

Admin = Annotated[
    str, typer.Option("--admin", envvar="MERIDIAN_ADMIN", help="Address of an admin API, host:port.", metavar="ADDRESS")
]
TokenFile = Annotated[
    str, typer.Option("--token-file", envvar="MERIDIAN_TOKEN_FILE", help="File that holds its token.", metavar="FILE")
]

TIMEOUT_SECONDS = 15.0  # the store's own deadline (5 s) and a validation of the largest document lie well below
STATUS_SECONDS = 3.0  # answered from memory: an agent that takes longer hangs, and the next one is asked
ANSWER_BYTES_MAX = 256 * 1024 * 1024  # the largest backup; a document, escaped as JSON, has less
_CHANGE_NOTHING = frozenset({"/v1/config/plan"})  # though it is a POST
# Statuses that mean the operator asked for something that cannot be: a mistake, not a failure.
_MISTAKES = frozenset({400, 401, 404, 413, 421, 422})


@dataclass(frozen=True, slots=True)
class Target:
    """An admin API: one or more addresses (host:port) of the same cluster, tried in order, and the token for it."""

    addresses: tuple[str, ...]
    token: str


class Unreachable(Failed):
    """No address answered at all."""


class Answered(CommandError):
    """The API answered with an error; `status` is of HTTP."""

    def __init__(self, status: int, message: str, remedy: str, details: tuple[str, ...]) -> None:
        super().__init__(message, remedy, details)
        self.status = status
        self.exit_code = 2 if status in _MISTAKES else 1  # type: ignore[misc]  # of this one error, not of the class


def find_target(admin: str, token_file: str) -> Target:
    """Returns where to ask. Raises Mistake when nothing says where, or the token file cannot be read."""
    from meridian.cli.local_state import LocalPaths, load_cluster

    if admin:
        if not token_file:
            raise Mistake("an admin address needs a token", "add --token-file FILE, or set MERIDIAN_TOKEN_FILE")
        return Target((_host_port(admin),), _read_token(Path(token_file)))
    paths = LocalPaths.from_environment(os.environ)
    cluster = load_cluster(paths)
    if cluster is None:
        raise Mistake(
            "no cluster to speak to",
            "start the local one with: meridian local up, or name one with --admin HOST:PORT --token-file FILE",
        )
    token = _read_token(Path(token_file) if token_file else paths.token)
    return Target(tuple(node.admin for node in cluster.nodes), token)


def _host_port(admin: str) -> str:
    netloc = urlsplit(admin).netloc if "://" in admin else admin
    try:
        parts = urlsplit(f"//{netloc}")
        if parts.hostname and parts.port:
            return netloc
    except ValueError:
        pass
    raise Mistake(f"{admin!r} is not an admin address", "write host:port, for example 127.0.0.11:9900")


def _read_token(path: Path) -> str:
    try:
        token = path.read_text().strip()
    except OSError as error:
        raise Mistake(f"cannot read the token file {path}: {error.strerror}", "name it with --token-file") from None
    if not token:
        raise Mistake(f"the token file {path} is empty", "name another with --token-file")
    return token


class AdminClient:
    """One call, one connection: commands are short, and a node may leave between two calls."""

    def __init__(self, target: Target, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._target = target
        self._timeout_seconds = timeout_seconds

    def get(self, path: str) -> Any:
        """Returns the decoded answer. Raises Unreachable, or Answered for an error answer."""
        return self._call("GET", path, None)

    def status(self) -> "Status":
        """Returns what a node knows of its cluster; raises as `get`."""
        from meridian.admin.status import Status

        return Status.model_validate(AdminClient(self._target, STATUS_SECONDS).get("/v1/status"))

    def send(self, method: str, path: str, content: dict[str, object] | None = None) -> Any:
        """Sends JSON and returns the decoded answer (None for an empty one); raises as `get`."""
        return self._call(method, path, content)

    def get_bytes(self, path: str) -> bytes:
        """Returns an answer as it is; raises as `get`."""
        found = self._call("GET", path, None, raw=True)
        assert isinstance(found, bytes)
        return found

    def send_bytes(self, method: str, path: str, body: bytes) -> Any:
        """Sends a file and returns the decoded answer; raises as `get`."""
        return self._call(method, path, body)

    def _call(self, method: str, path: str, content: dict[str, object] | bytes | None, *, raw: bool = False) -> Any:
        body = json.dumps(content).encode() if isinstance(content, dict) else content
        refused = []
        for address in self._target.addresses:
            connection = http.client.HTTPConnection(address, timeout=self._timeout_seconds)
            try:
                connection.connect()
            except OSError as error:
                refused.append(f"{address}: {error.strerror or error}")
                continue
            try:
                kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
                answer = self._exchange(connection, method, path, body, kind)
                return answer if raw else json.loads(answer) if answer else None
            except (OSError, http.client.HTTPException) as error:
                # It may have been done: a call that was sent and changes something is not repeated at another node.
                if method != "GET" and path not in _CHANGE_NOTHING:
                    raise Failed(
                        f"{address} did not answer {method} {path}: {error or type(error).__name__}",
                        "it may have been done all the same: look at meridian status and meridian history",
                    ) from None
                refused.append(f"{address}: {error or type(error).__name__}")
            finally:
                connection.close()
        raise Unreachable(
            "no admin API answers", "see whether a node runs: meridian local status", details=tuple(refused)
        )

    def _exchange(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None, kind: str
    ) -> bytes:
        fields = {"Authorization": f"Bearer {self._target.token}", "Accept": "application/json"}
        if body is not None:
            fields["Content-Type"] = kind
        connection.request(method, path, body, fields)
        response = connection.getresponse()
        raw = response.read(ANSWER_BYTES_MAX)
        if response.status < 400:
            return raw
        try:
            answer = json.loads(raw) if raw else None
        except ValueError:
            answer = None
        raise _answered(response.status, answer)


def _answered(status: int, answer: Any) -> Answered:
    error = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(error, dict):
        return Answered(status, f"the admin API answered {status} and no reason", "see the node's log", ())
    details = tuple(_problem(problem) for problem in error.get("problems", ()))
    return Answered(status, str(error.get("message", "")), str(error.get("remedy", "")), details)


def _problem(problem: dict[str, Any]) -> str:
    """One problem as a line: where it is, and what."""
    where = f"line {problem['line']}, column {problem['column']}: " if problem.get("line") else ""
    return f"{where}{problem.get('place', '') and problem['place'] + ': '}{problem.get('message', '')}"


def segment(name: str) -> str:
    """A name as one segment of a path."""
    return quote(name, safe="")


def author() -> str:
    """Who does it, for the history."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):  # a user without a name
        return socket.gethostname()
