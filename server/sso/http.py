"""The REST API: from a request to a call of a part of Single Sign-On, and back (facts sheet, section 0).

What cannot be read or is not complete gets the platform's own answer with status 400; what is refused gets the envelope, with 403, or
200 for an unknown application, as Zato has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final

from junctor.server.access_log import ClientAddress
from junctor.server.http_settings import TrustedPeers
from junctor.server.service.base import Service
from junctor.server.service.channel import CHANNEL
from junctor.server.sso.caller import Caller
from junctor.server.sso.codes import status_code
from junctor.server.sso.endpoints import BASE, ENDPOINTS, Answer, Endpoint, Given
from junctor.server.sso.errors import ValidationError
from junctor.server.sso.fields import check_choices, parse, plan_of
from junctor.sql.errors import BadRequest, MethodNotAllowed, ResourceNotFound

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn

PREFIX: Final = "zato.sso.rest."
BEARER: Final = "bearer "
MAX_AGENT: Final = 1000  # characters
MAX_BODY: Final = 1_048_576  # bytes
FORBIDDEN: Final = 403
OFF: Final = "Single Sign-On is switched off in this cluster: an administrator can switch it on, see is_active in docs/sso.md."
SECRETS: Final = frozenset(
    name for endpoint in ENDPOINTS for field in endpoint.fields if field.is_secret for name in field.names
)


class RestService(Service):
    """An endpoint of the REST API, for all methods of its path."""

    by_method: ClassVar[Mapping[str, Endpoint]] = {}

    def handle(self) -> None:
        """Answers the request."""
        if self.channel.type != CHANNEL.HTTP_SOAP:
            raise BadRequest(self.cid, f"{self.name} is for HTTP alone; services have self.sso.")
        sso: SingleSignOn = self.server.sso
        if not sso.is_active:
            raise ResourceNotFound(self.cid, OFF)
        endpoint = self.by_method.get(self.request.http.method)
        if endpoint is None:
            raise MethodNotAllowed(self.cid, allowed=tuple(sorted(self.by_method)))
        self.response.is_private = True
        given = self._given(sso, endpoint)
        try:
            self.response.payload = accepted(endpoint, given)
        except ValidationError as error:
            self._refuse(error, given)

    def _given(self, sso: SingleSignOn, endpoint: Endpoint) -> Given:
        """What the caller gives.  Raises ``InvalidInput``."""
        http = self.request.http
        authorization = http.environ.get("HTTP_AUTHORIZATION")
        values = parse(
            endpoint,
            self.request.payload,
            http.GET,
            bearer=bearer(authorization) if authorization else "",
            secrets=frozenset() if sso.settings["allow_token_in_query"] else SECRETS,
        )
        caller = Caller(
            cid=self.cid,
            current_ust=values.get("ust") or values.get("current_ust") or "",
            current_app=values.get("current_app") or "",
            remote_addr=client_address(sso)(http.environ),
            user_agent=http.user_agent[:MAX_AGENT],
        )
        return Given(sso, caller, values)

    def _refuse(self, error: ValidationError, given: Given) -> None:
        self.response.payload = refused(self.cid, error)
        if not is_unknown_app(error, given):
            self.response.status_code = FORBIDDEN
        if error.retry_after:
            self.response.headers["Retry-After"] = str(error.retry_after)


def bearer(header: str) -> str:
    """The token of a header Authorization; '' for none, and for another scheme."""
    return header[len(BEARER) :].strip() if header[: len(BEARER)].lower() == BEARER else ""


def client_address(sso: SingleSignOn) -> ClientAddress:
    """What finds out where a request comes from, as the access log does."""
    if sso.client_address is None:
        sso.client_address = ClientAddress(TrustedPeers.parse(sso.context.settings.trusted_proxies))
    return sso.client_address


def is_unknown_app(error: ValidationError, given: Given) -> bool:
    """Whether a call was refused for its application, which is none of the cluster's."""
    is_about_app = status_code.app_list.invalid in error.sub_status
    return is_about_app and given.caller.current_app not in given.sso.applications


def accepted(endpoint: Endpoint, given: Given) -> dict[str, Any]:
    """Does what is asked for, and returns the answer.  Raises ``ValidationError``."""
    check_choices(endpoint, given.values)
    done = endpoint.action(given)
    fields, warnings = (done.fields, done.warnings) if isinstance(done, Answer) else (done or {}, ())
    envelope: dict[str, Any] = {
        "status": status_code.warning if warnings else status_code.ok,
        "cid": given.caller.cid,
    }
    if warnings:
        envelope["sub_status"] = list(warnings)
    kept = plan_of(endpoint).kept
    for name, value in fields.items():
        if name in kept or (value is not None and value != ""):
            envelope[name] = plain(value)
    return envelope


def refused(cid: str, error: ValidationError) -> dict[str, Any]:
    """The answer to a call that was refused, with what its caller may know."""
    return {"status": error.status, "cid": cid, "sub_status": error.shown}


def plain(value: Any) -> Any:
    """A value with its times as text: ISO 8601, UTC, without an offset."""
    if isinstance(value, str | bool | int):
        return value
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None).isoformat() if value.tzinfo else value.isoformat()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def by_path() -> dict[str, dict[str, Endpoint]]:
    """All paths, those that are aliases included, with the endpoints of their methods."""
    paths: dict[str, dict[str, Endpoint]] = {}
    for endpoint in ENDPOINTS:
        for method, path in endpoint.ways:
            paths.setdefault(path, {})[method] = endpoint
    return paths


def name_of(path: str) -> str:
    """What a path is called in the names of services and channels."""
    return path.removeprefix(BASE).strip("/").replace("/", ".")


def services() -> Iterator[type[Service]]:
    """The services of the REST API, one for each path."""
    for path, endpoints in by_path().items():
        name = name_of(path)
        words = name.replace(".", "-").split("-")
        members = {
            "name": PREFIX + name,
            "by_method": endpoints,
            "__doc__": "; ".join(f"{method}: {item.summary}" for method, item in endpoints.items()) + ".",
            "__module__": __name__,
        }
        yield type("".join(word.capitalize() for word in words), (RestService,), members)
