"""Codecs, sans-I/O: bytes to events and back. No socket, no clock, no loop; nothing of the gateway is known here."""
