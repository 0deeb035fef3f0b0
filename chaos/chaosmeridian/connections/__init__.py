"""Clients for load: HTTP/1.1, HTTP/2 and HTTP/3 behind one small interface (`shot.Pool`), built on callbacks."""
