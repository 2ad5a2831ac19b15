"""The web-admin."""
