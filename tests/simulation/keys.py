"""Where the cluster of a simulated world keeps its state."""

from meridian.store.keys import Keys

KEYS = Keys("sim")
