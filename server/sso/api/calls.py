"""What the methods of ``self.sso`` share: who calls, and what users and sessions look like to services."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from junctor.server.sso.attributes import SessionAttributes, UserAttributes
from junctor.server.sso.caller import Caller
from junctor.server.sso.http import client_address
from junctor.server.sso.user_view import FULL, naive

if TYPE_CHECKING:
    from datetime import datetime

    from junctor.server.sso import records
    from junctor.server.sso.single_sign_on import SingleSignOn

Address = str | Sequence[object] | None
"""An address, or several as proxies gave them, the client's first."""

SERVICE: Final = "service"


@dataclass(frozen=True, slots=True)
class RequestCtx:
    """Who calls, from where; what ``self.sso.totp`` takes."""

    cid: str
    current_ust: str = ""
    current_app: str = ""
    remote_addr: Address = ""
    user_agent: str = ""


class Api:
    """A part of ``self.sso`` of one service."""

    def __init__(self, sso: SingleSignOn, service: str = "") -> None:
        self._sso = sso
        self._service = service

    def _caller(
        self,
        cid: str,
        ust: str | None = "",
        app: str | None = "",
        remote_addr: Address = "",
        user_agent: str | None = "",
        *,
        is_trusted: bool = False,
    ) -> Caller:
        """Who calls; a trusted caller is the service itself."""
        return Caller(
            cid=cid,
            current_ust=ust or "",
            current_app=app or "",
            remote_addr=self._address(remote_addr),
            user_agent=user_agent or "",
            is_trusted=is_trusted,
            who=f"{SERVICE} {self._service}".strip() if is_trusted else "",
        )

    def _address(self, given: Address) -> str:
        """The client's address; of several, the last one that is not a trusted proxy's, as with requests."""
        if not given:
            return ""
        if isinstance(given, str) and "," not in given:
            return given.strip()
        items: Iterable[object] = given.split(",") if isinstance(given, str) else given
        addresses = [str(item).strip() for item in items]
        environ = {"REMOTE_ADDR": addresses[-1], "HTTP_X_FORWARDED_FOR": ",".join(addresses)}
        return client_address(self._sso)(environ)


class User:
    """A user, as the caller may see one: ``username``, ``display_name`` and so on, None for those without a value.

    ``attr`` are the attributes that applications keep of the user.
    """

    def __init__(self, sso: SingleSignOn, caller: Caller, row: records.User, *, is_full: bool) -> None:
        self._sso = sso
        self._row = row
        self._is_full = is_full
        self._shown = sso.users.view(row, is_full=is_full, serialize_dt=False)
        self.attr: UserAttributes = sso.attributes.of_user(caller, row.user_id)

    def __getattr__(self, name: str) -> Any:
        if name not in FULL:
            raise AttributeError(f"A user has no {name!r}.")
        return self._shown.get(name)

    def __repr__(self) -> str:
        return f"<User {self._row.user_id}>"

    def to_dict(self, serialize_dt: bool = True) -> dict[str, Any]:
        """What has a value; times as ISO 8601 in UTC with ``serialize_dt``, and else as datetime objects without a zone."""
        return self._sso.users.view(self._row, is_full=self._is_full, serialize_dt=serialize_dt)


class Session:
    """A session; ``attr`` are the attributes that applications keep of it.  Times are in UTC, without a zone."""

    def __init__(self, sso: SingleSignOn, caller: Caller, row: records.Session, ust: str) -> None:
        self.creation_time: datetime = naive(row.creation_time)
        self.expiration_time: datetime = naive(row.expiration_time)
        self.remote_addr = row.remote_addr
        self.user_agent = row.user_agent
        self.public_id = row.public_id
        self.user_id = row.user.user_id
        self.attr: SessionAttributes = sso.attributes.of_session(caller, ust)

    def __repr__(self) -> str:
        return f"<Session {self.public_id}>"

    def to_dict(self, serialize_dt: bool = True) -> dict[str, Any]:
        """All but ``attr``; times as ISO 8601 with ``serialize_dt``."""
        times: dict[str, Any] = {
            name: moment.isoformat() if serialize_dt else moment
            for name, moment in (
                ("creation_time", self.creation_time),
                ("expiration_time", self.expiration_time),
            )
        }
        return times | {
            "remote_addr": self.remote_addr,
            "user_agent": self.user_agent,
            "public_id": self.public_id,
            "user_id": self.user_id,
        }
