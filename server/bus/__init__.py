"""News of configuration changes."""
