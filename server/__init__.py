"""The server: a running worker."""
