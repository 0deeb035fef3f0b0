"""Why there is no certificate (yet), and who goes on."""


class AcmeError(Exception):
    """Why there is no certificate yet, for an operator. `kind` is the authority's own word for it (RFC 8555 section
    6.7), empty if it was not heard; before `wait_seconds` it does not want to be asked again. `final`: the order is
    lost, another one has to be made."""

    def __init__(self, message: str, kind: str = "", wait_seconds: float = 0.0, *, final: bool = False) -> None:
        super().__init__(message)
        self.kind, self.wait_seconds, self.final = kind, wait_seconds, final


class TermOver(Exception):
    """This node leads no more, or another wrote meanwhile: whoever leads goes on."""
