"""Which software a process runs."""

from importlib.metadata import PackageNotFoundError, version


def software() -> str:
    """Returns the installed version, "0" for a checkout that is not installed."""
    try:
        return version("meridian-gateway")
    except PackageNotFoundError:
        return "0"
