"""TLS of WebSockets: at the listener of a channel, and towards a remote end."""

from __future__ import annotations

import os
from typing import Any

from gevent import socket, ssl

from junctor.sql.errors import InvalidInput


class _Socket(ssl.SSLSocket):  # type: ignore[misc]  # gevent has no types for it
    """A socket that goes on decrypting when its other direction is shut down, as a plain one goes on receiving."""

    def shutdown(self, how: int) -> None:
        """Shuts the connection itself; gevent's own method gives up TLS first, under whoever is reading."""
        socket.socket.shutdown(self, how)


def client_context(*, verify: bool) -> ssl.SSLContext:
    """What speaks TLS to a remote end, whose certificate must be valid if ``verify`` says so."""
    made = ssl.SSLContext(
        ssl.PROTOCOL_TLS_CLIENT
    )  # gevent's own, which the default context of ``ssl`` is only after patching
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.sslsocket_class = _Socket
    if verify:
        made.load_default_certs()
    else:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made


def server_context(certificate: str, key: str) -> ssl.SSLContext:
    """What serves TLS 1.2 and later with a certificate and its chain, and its private key, all in PEM.

    Raises ``InvalidInput`` when they are none, or do not belong together.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.sslsocket_class = _Socket
    # OpenSSL reads files only: these are in memory, and gone with their descriptors.
    with _memory_file(certificate) as chain, _memory_file(key) as private:
        try:
            made.load_cert_chain(_path(chain), _path(private), password=_no_password)
        except (ssl.SSLError, OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or str(error)
            raise InvalidInput.one(
                "tls_certificate", f"and tls_key must be a certificate in PEM and its private key: {reason}."
            ) from None
    return made


def _memory_file(text: str) -> Any:
    opened = os.fdopen(os.memfd_create("junctor-tls", os.MFD_CLOEXEC), "wb")
    opened.write(text.encode())
    opened.flush()
    return opened


def _path(opened: Any) -> str:
    return f"/proc/self/fd/{opened.fileno()}"


def _no_password() -> str:
    raise ValueError("the private key is encrypted with a password")
