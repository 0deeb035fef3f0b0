"""Breaks a Meridian cluster on purpose and judges what its users felt: Chaos Toolkit extension and load generator.

experiment: a Chaos Toolkit document, `chaos/experiments/NAME.yaml`, with the SLO it is judged by.
lab: the local cluster as `meridian local status --json` describes it.
action: breaks or mends one thing (`actions`). probe: looks (`probes`).
offer: requests at scheduled times, whatever the answers do (`load`). tally: what became of them.
"""

from chaosmeridian.discovery import discover

VERSION = "0.1.0"

__all__ = ["VERSION", "discover"]
