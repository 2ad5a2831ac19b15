"""Outgoing connections: the ways out of services."""
