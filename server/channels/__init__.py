"""Channels: the ways into services."""
