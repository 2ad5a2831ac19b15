"""The administrative services."""
