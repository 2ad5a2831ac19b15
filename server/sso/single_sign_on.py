"""The parts of Single Sign-On in one worker; they find each other here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from junctor.server.sso.attributes import Attributes
from junctor.server.sso.change_password import ChangePassword
from junctor.server.sso.gate import Gate
from junctor.server.sso.linked import LinkedAccounts
from junctor.server.sso.login import Login
from junctor.server.sso.mail import Mail
from junctor.server.sso.maintenance import Maintenance
from junctor.server.sso.one_time import OneTimeTokens
from junctor.server.sso.passkeys import Passkeys
from junctor.server.sso.password_reset import PasswordReset
from junctor.server.sso.passwords import Passwords
from junctor.server.sso.personal_data import PersonalData
from junctor.server.sso.policy import Policy
from junctor.server.sso.protection import Protection
from junctor.server.sso.recovery_codes import RecoveryCodes
from junctor.server.sso.search import Search
from junctor.server.sso.sessions import Sessions
from junctor.server.sso.signup import SignUp
from junctor.server.sso.throttle import Throttle
from junctor.server.sso.totp import Totp
from junctor.server.sso.totp_enrolment import TotpEnrolment
from junctor.server.sso.user_state import UserState
from junctor.server.sso.users import Users

if TYPE_CHECKING:
    from junctor.server.access_log import ClientAddress
    from junctor.server.audit.trail import AuditTrail
    from junctor.server.context import Context
    from junctor.server.sso.live import Application, UserAddresses
    from junctor.server.sso.oidc.provider import Provider
    from junctor.sql.config import Config
    from junctor.sql.store import Store


class SingleSignOn:
    """Users, sessions and what belongs to them; ``context.sso``.

    ``is_active`` says whether there is Single Sign-On in this cluster.  ``settings`` are the fields of the object 'sso', read by item:
    ``settings["session_expiry"]``.  Every part is made without touching the database, and may use any other once the worker is loaded.
    """

    settings: Config
    is_active: bool = False

    def __init__(self, context: Context) -> None:
        self.context = context
        self.store: Store = context.store
        self.applications: dict[str, Application] = {}
        self.addresses: dict[str, UserAddresses] = {}
        self.protection = Protection(context.store.keyring)
        self.passwords = Passwords(self)
        self.policy = Policy(self)
        self.throttle = Throttle(self)
        self.gate = Gate(self)
        self.one_time = OneTimeTokens(self)
        self.users = Users(self)
        self.user_state = UserState(self)
        self.search = Search(self)
        self.sessions = Sessions(self)
        self.attributes = Attributes(self)
        self.login = Login(self)
        self.change_password = ChangePassword(self)
        self.signup = SignUp(self)
        self.mail = Mail(self)
        self.password_reset = PasswordReset(self)
        self.totp = Totp(self)
        self.totp_enrolment = TotpEnrolment(self)
        self.recovery_codes = RecoveryCodes(self)
        self.passkeys = Passkeys(self)
        self.linked = LinkedAccounts(self)
        self.personal_data = PersonalData(self)
        self.maintenance = Maintenance(self)
        self.client_address: ClientAddress | None = None
        self._oidc: Provider | None = None

    @property
    def audit(self) -> AuditTrail:
        """The audit trail."""
        return self.context.audit

    @property
    def oidc(self) -> Provider:
        """OpenID Connect."""
        if self._oidc is None:
            from junctor.server.sso.oidc.provider import Provider

            self._oidc = Provider(self)
        return self._oidc

    def settings_changed(self) -> None:
        """Has the parts go by the new settings that derive something from them."""
        self.is_active = bool(self.settings["is_active"])
        self.policy.settings_changed()
        self.passwords.settings_changed()

    def start(self) -> None:
        """Begins what goes on by itself; returns at once."""
        self.sessions.start()
        self.linked.start()
        self.maintenance.start()

    def stop(self) -> None:
        """Ends it."""
        self.maintenance.stop()
        self.linked.stop()
        self.sessions.stop()
        self.passwords.stop()
        self.policy.stop()
