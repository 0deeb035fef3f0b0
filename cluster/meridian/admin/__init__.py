"""The admin API: whatever the command line does, a program can do by the same HTTP calls."""
