"""WebSockets: the protocol, the messages, the clients that are connected."""
