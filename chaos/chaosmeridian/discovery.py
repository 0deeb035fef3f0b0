"""What Chaos Toolkit finds when it is asked for our activities (`chaos discover chaostoolkit-meridian`)."""

from typing import Any

EXTENSION = "chaostoolkit-meridian"


def discover(discover_system: bool = True) -> dict[str, Any]:
    """The list of actions and probes, in the form that chaoslib's discovery returns. `discover_system` is its word
    for looking at the live system; there is nothing to look for."""
    from chaoslib.discovery.discover import discover_activities, initialize_discovery_result

    import chaosmeridian

    found: dict[str, Any] = initialize_discovery_result(EXTENSION, chaosmeridian.VERSION, "meridian")
    for module, kind in (("chaosmeridian.actions", "action"), ("chaosmeridian.probes", "probe")):
        found["activities"].extend(discover_activities(module, kind))
    return found
