"""``self.sso`` of services: what the REST API does, and more, without HTTP."""

from junctor.server.sso.api.calls import RequestCtx, Session, User
from junctor.server.sso.api.facade import SsoApi

__all__ = ["RequestCtx", "Session", "SsoApi", "User"]
