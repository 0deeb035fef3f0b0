"""How a command fails: one clear message with the place and the next step, an exit code, and never a traceback."""

from typing import ClassVar


class CommandError(Exception):
    """Base. `remedy` says what to do next; `details` are further lines, such as a document's problems."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, remedy: str = "", details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.details = details


class Mistake(CommandError):
    """The operator's: a bad document, a bad command, a missing file. Exit code 2, as for a wrong option."""

    exit_code = 2


class Failed(CommandError):
    """The operation was understood and did not succeed. Exit code 1."""
