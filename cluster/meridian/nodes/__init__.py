"""Composition roots and what holds a node together: launcher, agent, workers, the line and the channel between them."""
