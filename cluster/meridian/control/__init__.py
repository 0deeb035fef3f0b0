"""The agent's parts: what a node knows of the others, what it tells them, and what they agree on."""
