"""The objects of Single Sign-On as a worker has them: settings, applications, the addresses of users."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

from junctor.server.runtime.live import Live
from junctor.server.sso.protection import username_key
from junctor.sql.config import Config
from junctor.sql.objects.sso import ANYWHERE

if TYPE_CHECKING:
    from junctor.server.context import Context


class SsoSettings(Live):
    """The settings of Single Sign-On; ``context.sso.settings`` is always the current one, and its fields are items of ``config``."""

    kind = "sso"

    def take_over(self, previous: Live | None) -> None:
        """Becomes the settings that calls go by."""
        del previous
        self.context.sso.settings = self.config
        self.context.sso.settings_changed()


class Application(Live):
    """An application; found by its name while it is active."""

    kind = "sso_application"

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self.name = config.name
        self.is_active: bool = config["is_active"]
        self.login_allowed: bool = config["login_allowed"]
        self.signup_allowed: bool = config["signup_allowed"]
        self.login_metadata_allowed: bool = config["login_metadata_allowed"]
        self.is_grant_needed: bool = config["is_grant_needed"]
        self.introspection_allowed: bool = config["introspection_allowed"]
        self.is_oidc_client: bool = config["is_oidc_client"]
        self.redirect_uris: tuple[str, ...] = tuple(config["redirect_uris"])
        self.post_logout_redirect_uris: tuple[str, ...] = tuple(config["post_logout_redirect_uris"])
        self.scopes: tuple[str, ...] = tuple(config["scopes"])

    @property
    def has_secret(self) -> bool:
        """Whether it can prove who it is."""
        return bool(self.config["secret"])

    def is_secret(self, given: str) -> bool:
        """Whether this is its secret; compared in constant time, and no for one that has none."""
        return self.has_secret and bool(self.config["secret"].matches(given))

    def take_over(self, previous: Live | None) -> None:
        """Is found by its name if it is active, and not by the one that it had before."""
        if isinstance(previous, Application):
            previous.leave()
        if self.is_active:
            self.context.sso.applications[self.name] = self

    def leave(self) -> None:
        """Is not found any more, unless the name is another's by now."""
        if self.context.sso.applications.get(self.name) is self:
            del self.context.sso.applications[self.name]

    def stop(self) -> None:
        """Ends what it got through OpenID Connect, unless it goes on as a client of this name."""
        successor = self.context.sso.applications.get(self.name)
        if self.is_oidc_client and (successor is None or not successor.is_oidc_client):
            self.context.sso.oidc.grants.revoke_all_of(self.name)


class UserAddresses(Live):
    """The addresses that one user may come from."""

    kind = "sso_user_address"

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._key = username_key(config.name)
        self._is_anywhere = ANYWHERE in config["addresses"]
        self._networks: list[IPv4Network | IPv6Network] = [
            ip_network(address) for address in config["addresses"] if address != ANYWHERE
        ]

    def admits(self, remote_addr: str) -> bool:
        """Whether the user may come from this address; no for what is none."""
        if self._is_anywhere:
            return True
        try:
            address = ip_address(remote_addr)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any(
            candidate in network for network in self._networks for candidate in (address, mapped) if candidate
        )

    def take_over(self, previous: Live | None) -> None:
        """Is found by the user's name, and not by the one that it had before."""
        if isinstance(previous, UserAddresses):
            previous.leave()
        self.context.sso.addresses[self._key] = self

    def leave(self) -> None:
        """Is not found any more."""
        if self.context.sso.addresses.get(self._key) is self:
            del self.context.sso.addresses[self._key]
