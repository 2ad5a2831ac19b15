"""Publish/subscribe: messages are stored before a publisher has its answer, and delivered until they are acknowledged."""
