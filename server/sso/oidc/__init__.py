"""OpenID Connect: logging in to other applications."""
