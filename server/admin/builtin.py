"""What comes with every server: its own services, and the channels that lead to some of them."""

from __future__ import annotations

import logging
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import orjson

from junctor.server.admin import (
    audit,
    cluster,
    deploy,
    email,
    enmasse,
    jwt,
    links,
    pubsub,
    pubsub_dead_letters,
    sso,
    websocket,
)
from junctor.server.admin.objects import object_services
from junctor.server.admin.service import AdminService
from junctor.server.channels.rest import encode
from junctor.server.pubsub import durable, pubapi, rest_channels, wsx_services
from junctor.server.service.base import Service
from junctor.server.service.info import describe
from junctor.server.service.naming import OWN_PREFIXES
from junctor.server.service.websocket_gateway import WebSocketsGateway, WebSocketsPubSubGateway
from junctor.server.sso import http as sso_http
from junctor.server.sso import mail_service, password_reset, signup_services
from junctor.server.sso import openapi as sso_openapi
from junctor.server.sso import rest_channels as sso_objects
from junctor.server.sso.oidc import rest_channels as oidc_channels
from junctor.server.sso.oidc import services as oidc_services
from junctor.sql.errors import BadRequest, Forbidden, InvalidInput, NotFound, ServiceNotFound
from junctor.sql.store import Store
from junctor.sql.transaction import Transaction

if TYPE_CHECKING:
    from junctor.server.context import Context

log = logging.getLogger(__name__)
ADMIN, PUBLIC_API = "admin.invoke", "pubapi"
PUBLIC = frozenset(
    {"zato.ping"}
)  # of the server's own services, those that anybody may invoke who may use the public API


def envelope(service: Service, name: str, fields: Any) -> dict[str, Any]:
    """An answer in the form of Zato's own services: ``zato_env`` beside the fields."""
    return {"zato_env": {"result": "ZATO_OK", "cid": service.cid, "details": ""}, name: fields}


def unwrapped(answer: Any) -> Any:
    """The fields of an answer that has an envelope; any other answer as it is."""
    if isinstance(answer, dict) and "zato_env" in answer:
        return next((value for key, value in answer.items() if key != "zato_env"), None)
    return answer


class Ping(Service):
    """Says that the server works."""

    name = "zato.ping"

    def handle(self) -> None:
        """No input."""
        self.response.payload = envelope(self, "zato_ping_response", {"pong": "zato"})


class Invoke(AdminService):
    """Invokes any service; what administrators and Zato's AnyServiceInvoker use."""

    name = "zato.service.invoke"

    def handle(self) -> None:
        """``name``; ``payload`` in base64; ``data_format``, json by default; ``is_async`` for an answer with the CID alone.

        The answer is the service's output in base64, which is how Zato's clients want it.
        """
        fields = self.fields
        name = self.text(fields, "name", "") or self.text(fields, "id", "")
        if not name:
            raise InvalidInput.one("name", "is required.")
        payload = self._payload(fields)
        if fields.get("is_async") or fields.get("async"):
            answer: Any = {"cid": self.invoke_async(name, payload)}
        else:
            timeout = fields.get("timeout")
            answer = unwrapped(self.invoke(name, payload, timeout=float(timeout) if timeout else None))
        self.response.payload = envelope(
            self, "zato_service_invoke_response", b64encode(encode(answer)).decode()
        )

    def _payload(self, fields: dict[str, Any]) -> Any:
        encoded = fields.get("payload") or ""
        if not isinstance(encoded, str):
            raise InvalidInput.one("payload", "must be base64.")
        try:
            raw = b64decode(encoded, validate=True)
        except (Base64Error, ValueError) as error:
            raise InvalidInput.one("payload", f"must be base64: {error}.") from error
        if not raw or fields.get("data_format", "json") != "json":
            return raw.decode("utf-8", "replace")
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise InvalidInput.one("payload", f"is not JSON: {error}.") from error


class PublicInvoke(Service):
    """Invokes a service by the name in the URL: what clients without a channel of their own use."""

    name = "pub.zato.service.service-invoker"

    def handle(self) -> None:
        """Path: ``service_name``.  GET: the query is the input; otherwise the JSON body."""
        http = self.request.http
        name = http.params.get("service_name", "")
        if name.startswith(OWN_PREFIXES) and name not in PUBLIC:
            raise Forbidden(self.cid, f"{name} is for administrators; see /zato/admin/invoke.")
        payload = http.GET if http.method == "GET" else self.request.payload
        try:
            answer = self.invoke(name, payload)
        except ServiceNotFound as error:
            raise BadRequest(self.cid, str(error)) from error
        self.response.payload = unwrapped(answer)


def builtin_services() -> Iterator[type[Service]]:
    """All services that come with the server."""
    yield from (Ping, Invoke, PublicInvoke)
    yield from (WebSocketsGateway, WebSocketsPubSubGateway)
    yield from (cluster.Status, cluster.Wait, cluster.History)
    yield from (deploy.Deploy, deploy.Undeploy, deploy.Rollback, deploy.Versions)
    yield from (enmasse.Export, enmasse.Import, enmasse.Schema)
    yield links.GetState
    yield from websocket.SERVICES
    yield from pubapi.SERVICES
    yield from wsx_services.SERVICES
    yield from pubsub.SERVICES
    yield from pubsub_dead_letters.SERVICES
    yield durable.RunDurably
    yield from (email.Ping, mail_service.SendMail, password_reset.IssueToken)
    yield from signup_services.SERVICES
    yield from sso_http.services()
    yield sso_openapi.OpenApi
    yield from oidc_services.SERVICES
    yield from audit.SERVICES
    yield from sso.SERVICES
    yield from jwt.SERVICES
    yield from object_services()


CHANNELS: dict[str, dict[str, Any]] = {
    "zato.ping": {"url_path": "/zato/ping", "service": Ping.name},
    "admin.invoke.json": {
        "url_path": "/zato/admin/invoke",
        "service": Invoke.name,
        "security": ADMIN,
        "timeout": 330,
        "error_format": "3.0",
    },
    "zato.service-invoker": {
        "url_path": "/zato/api/invoke/{service_name}",
        "service": PublicInvoke.name,
        "security": PUBLIC_API,
        "match_slash": False,
        "merge_url_params_req": False,
    },
    **jwt.CHANNELS,
    **rest_channels.CHANNELS,
    **sso_objects.CHANNELS,
    **oidc_channels.CHANNELS,
}


def ensure_builtin(context: Context) -> bool:
    """Gives this worker its own services, and the object database the objects for them that it does not have yet.

    Returns whether there were any.
    """
    services = [describe(cls, is_internal=True) for cls in builtin_services()]
    context.services.replace("", services)
    impl_names = {service.name: service.impl_name for service in services}
    if not _missing(context.store, impl_names):
        return False
    with context.store.transaction(who="junctor") as transaction:
        create_builtin(transaction, impl_names)
    return bool(transaction.changes)


def ensure_server(context: Context) -> bool:
    """Tells the cluster of this server and its address, if it does not know yet; returns whether that was so.

    So a cluster grows by starting servers, and what makes the load balancer's configuration finds them.
    """
    settings, store = context.settings, context.store
    address = {"host": settings.address, "port": settings.port}
    try:
        known = store.get("server", settings.server_name)
        if all(known[field] == value for field, value in address.items()):
            return False
    except NotFound:
        log.info("Server %s joins cluster %s.", settings.server_name, settings.cluster)
    with store.transaction(who=settings.server_name) as transaction:
        if transaction.find("server", settings.server_name) is None:
            transaction.create("server", address | {"name": settings.server_name})
        else:
            transaction.edit("server", settings.server_name, address)
    return bool(transaction.changes)


def create_builtin(transaction: Transaction, impl_names: dict[str, str]) -> None:
    """Creates the services and channels that are not there; what an administrator has changed stays as it is."""
    internal = {"is_internal": True}
    for name, impl_name in impl_names.items():
        if transaction.find("service", name) is None:
            transaction.create("service", {"name": name}, system=internal | {"impl_name": impl_name})
    for username in (ADMIN, PUBLIC_API):
        if transaction.find("security_basic_auth", username) is None:
            transaction.create(
                "security_basic_auth", {"name": username, "username": username}, system=internal
            )
    for name, fields in CHANNELS.items():
        if transaction.find("channel_rest", name) is None:
            transaction.create("channel_rest", fields | {"name": name}, system=internal)
    rest_channels.create_objects(transaction)
    durable.create_objects(transaction)
    sso_objects.create_objects(transaction)


def _missing(store: Store, impl_names: dict[str, str]) -> bool:
    have = {item.name for item in store.find("service", internal=True).objects}
    channels = {item.name for item in store.find("channel_rest", internal=True).objects}
    objects = all(part.has_objects(store) for part in (rest_channels, durable, sso_objects))
    return not (objects and have.issuperset(impl_names) and channels.issuperset(CHANNELS))
