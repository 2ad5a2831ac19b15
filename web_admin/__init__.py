"""The web-admin (comes with the web-admin issue)."""
