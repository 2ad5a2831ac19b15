"""``self.sso``: everything by its documented name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from junctor.server.sso.api.factors import PasswordResetApi, TotpApi
from junctor.server.sso.api.sessions import SessionApi
from junctor.server.sso.api.users import UserApi

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn


class SsoApi:
    """Single Sign-On for one service, which is named in the audit trail where it acts for itself.

    Methods take the ``cid`` first, and refuse with ``ValidationError``, whose ``sub_status`` has every code, whatever the settings say
    about remote callers.  ``remote_addr`` is an address, or a list of them as proxies gave them.
    """

    def __init__(self, sso: SingleSignOn, service: str = "") -> None:
        self.session = SessionApi(sso, service)
        self.user = UserApi(sso, service, self.session)
        self.totp = TotpApi(sso, service)
        self.password_reset = PasswordResetApi(sso, service)
