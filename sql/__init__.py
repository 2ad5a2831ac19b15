"""The object database: what exists."""
