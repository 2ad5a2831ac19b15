"""Logging in for a JSON Web Token, and logging it out: for anybody, over ``/zato/jwt/log-in`` and ``/zato/jwt/log-out``."""

from __future__ import annotations

from junctor.server.admin.service import AdminService
from junctor.sql.errors import BadRequest

MAX_BODY = 16_384  # bytes


class LogIn(AdminService):
    """Issues a token to who knows the password of a JWT definition."""

    name = "zato.security.jwt.log-in"

    def handle(self) -> None:
        """``username`` and ``password``; the answer has the ``token``, and so does its header Authorization."""
        fields = self.fields
        token = self.context.tokens.log_in(self.text(fields, "username"), self.text(fields, "password"))
        self.response.headers["Authorization"] = token
        self.response.headers["Cache-Control"] = "no-store"
        self.response.payload = {"token": token}


class LogOut(AdminService):
    """Makes a token invalid that has not expired yet."""

    name = "zato.security.jwt.log-out"

    def handle(self) -> None:
        """The token, in the header Authorization or as ``token``; within two seconds, no server lets anybody in with it."""
        header: str = self.request.http.headers.get("authorization", "")
        scheme, _, token = header.partition(" ")
        given = token.strip() if scheme.lower() == "bearer" else header.strip()
        given = given or self.text(self.fields, "token", "")
        if not given:
            raise BadRequest(
                self.cid, "There is no token, neither in the header Authorization nor as 'token'."
            )
        self.context.tokens.log_out(given)
        self.response.payload = {}


SERVICES = (LogIn, LogOut)
CHANNELS = {
    LogIn.name: {
        "url_path": "/zato/jwt/log-in",
        "service": LogIn.name,
        "method": "POST",
        "max_body_size": MAX_BODY,
    },
    LogOut.name: {
        "url_path": "/zato/jwt/log-out",
        "service": LogOut.name,
        "method": "POST",
        "max_body_size": MAX_BODY,
    },
}
