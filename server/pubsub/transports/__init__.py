"""The ways to whoever is notified of messages."""
