"""Decisions, pure: no I/O, no clock, no chance, no logging. Everything here is a function of its arguments."""
