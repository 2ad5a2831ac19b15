"""``Service``: the class that users write services with (facts sheet, section 3)."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import orjson

from junctor.server.service.bunch import bunchify
from junctor.server.service.call import Call, Result
from junctor.server.service.channel import CHANNEL, DATA_FORMAT, ChannelInfo
from junctor.server.service.io import ServiceIO
from junctor.server.service.masking import masked
from junctor.server.service.naming import implementation_name, service_name
from junctor.server.service.request import Request
from junctor.server.service.response import Response
from junctor.sql.errors import CallFailed, CallTimeout, InvalidInput

if TYPE_CHECKING:
    from junctor.server.audit.audit_pii import AuditPII
    from junctor.server.service.pubsub import PubSub
    from junctor.server.service.wsx import WSX
    from junctor.server.sso.api import SsoApi


class Platform(Protocol):
    """What the server gives to services, as ``self.server``."""

    @property
    def out(self) -> Any:
        """The outgoing connections, by their types: ``self.out.rest['CRM']``."""

    @property
    def email(self) -> Any:
        """The connections to mail servers: ``self.email.smtp.get('name').conn``."""

    @property
    def sso(self) -> Any:
        """The parts of Single Sign-On, of which services have ``self.sso``."""

    @property
    def audit(self) -> Any:
        """The audit trail."""

    @property
    def wsx(self) -> Any:
        """The connected WebSocket clients: ``self.wsx.invoke(pub_client_id, data)``."""

    @property
    def pubsub(self) -> Any:
        """The parts of publish/subscribe, of which services have ``of_services``."""


class Runner(Protocol):
    """What runs services: ``service/invoke.py``."""

    @property
    def platform(self) -> Platform:
        """What services get from their server."""

    def invoke(self, call: Call) -> Result:
        """Runs a service, waiting for its result."""

    def invoke_async(self, call: Call, callbacks: Sequence[str] = ()) -> str:
        """Starts a service and returns the CID of its call."""

    def name_of(self, impl_name: str) -> str:
        """The name of the service with this implementation name.  Raises ``ServiceNotFound``."""


class Service:
    """A service; one instance is made for each call.

    ``handle`` is the only mandatory method; ``handle_GET`` and the like take its place, each for one HTTP method.  The
    other methods that do nothing here are hooks: see ``service/invoke.py`` for their order.
    """

    name: ClassVar[str] = ""
    impl_name: ClassVar[str] = ""
    logger: ClassVar[logging.Logger] = logging.getLogger("junctor.service")
    _secrets: ClassVar[frozenset[str]] = frozenset()

    cid: str
    channel: ChannelInfo
    environ: dict[str, Any]
    server: Platform
    request: Request
    response: Response
    _call: Call
    _runner: Runner
    _invoked_at: float = 0.0
    _handled_at: float = 0.0

    def _prepare(self, runner: Runner, call: Call, declared: ServiceIO | None) -> None:
        """Makes the instance ready for its call.  Raises ``InvalidInput``."""
        self._runner = runner
        self._call = call
        self.server = runner.platform
        self.cid = call.cid
        self.channel = call.channel
        self.environ = call.environ
        self.response = Response(declared)
        self.request = Request(call, declared)

    @classmethod
    def get_name(cls) -> str:
        """The name of the service: its own ``name``, or what its module and class give."""
        return cls.__dict__.get("name") or service_name(cls.__module__, cls.__name__)

    @classmethod
    def get_impl_name(cls) -> str:
        """The implementation name of the service: ``module.Class``."""
        return implementation_name(cls.__module__, cls.__name__)

    @cached_property
    def in_reply_to(self) -> str:
        """The CID of the call that this one is the answer to; '' if it is none."""
        return self._call.in_reply_to

    @cached_property
    def data_format(self) -> str | None:
        """The format of the message, None if it has none."""
        return self._call.data_format

    @cached_property
    def transport(self) -> str | None:
        """How the message came, None if that is unknown."""
        return self._call.transport

    @property
    def chan(self) -> ChannelInfo:
        """The same as ``channel``."""
        return self.channel

    @property
    def out(self) -> Any:
        """The outgoing connections, by their types: ``self.out.rest['CRM']``."""
        return self.server.out

    @property
    def outgoing(self) -> Any:
        """The same as ``out``."""
        return self.server.out

    @property
    def email(self) -> Any:
        """The connections to mail servers: ``self.email.smtp.get('name').conn.send(message)``."""
        return self.server.email

    @cached_property
    def sso(self) -> SsoApi | None:
        """Single Sign-On: ``self.sso.user.login(...)``; None while it is switched off."""
        parts = self.server.sso
        if not parts.is_active:
            return None
        from junctor.server.sso.api import SsoApi  # it has services of its own

        return SsoApi(parts, self.name)

    @property
    def wsx(self) -> WSX:
        """The WebSocket clients that are connected anywhere in the cluster: ``self.wsx.invoke(pub_client_id, data)``."""
        clients: WSX = self.server.wsx
        return clients

    @property
    def pubsub(self) -> PubSub:
        """Publish/subscribe: ``self.pubsub.publish('/customer/new', data=data)``."""
        offered: PubSub = self.server.pubsub.of_services
        return offered

    @property
    def audit_pii(self) -> AuditPII:
        """The audit trail: ``self.audit_pii.info(self.cid, 'customer.read', current_user, target_user, 'ok', {'fields': 3})``."""
        from junctor.server.audit.audit_pii import AuditPII  # which needs the server, as few services do

        return AuditPII(self.server.audit)

    @property
    def wsgi_environ(self) -> dict[str, Any]:
        """The WSGI environment of the HTTP request; empty if the call did not come over HTTP."""
        return self.request.http.environ

    @property
    def invocation_time(self) -> datetime:
        """When the call began, in UTC and without a time zone."""
        return datetime.fromtimestamp(self._invoked_at, UTC).replace(tzinfo=None)

    @property
    def handle_return_time(self) -> datetime | None:
        """When ``handle`` returned, in UTC and without a time zone; None if it has not."""
        return (
            datetime.fromtimestamp(self._handled_at, UTC).replace(tzinfo=None) if self._handled_at else None
        )

    @property
    def processing_time_raw(self) -> timedelta | None:
        """How long ``handle`` took; None if it has not returned."""
        return timedelta(seconds=max(0.0, self._handled_at - self._invoked_at)) if self._handled_at else None

    @property
    def processing_time(self) -> int | None:
        """How many milliseconds ``handle`` took, rounded; None if it has not returned."""
        raw = self.processing_time_raw
        return round(raw.total_seconds() * 1000) if raw is not None else None

    def handle(self) -> Any:
        """What the service does; to be overridden."""
        raise NotImplementedError(f"{type(self).__name__} has no handle()")

    def accept(self) -> Any:
        """Does the service want the request?  If not, the caller gets 400."""
        return True

    def before_handle(self) -> Any:
        """Runs first; what it raises is only logged."""

    def validate_input(self) -> Any:
        """Runs before ``handle``, which is skipped if this raises."""

    def validate_output(self) -> Any:
        """Runs after ``handle``; what it raises is the outcome of the call."""

    def after_handle(self) -> Any:
        """Runs after ``validate_output`` unless the call has failed; what it raises is only logged."""

    def finalize_handle(self) -> Any:
        """Runs last, even if the call has failed; what it raises is only logged."""

    @classmethod
    def before_add_to_store(cls, logger: logging.Logger) -> Any:  # noqa: ARG003 - for those who override it
        """Is the service to be deployed?"""
        return True

    @staticmethod
    def after_add_to_store(logger: logging.Logger) -> Any:
        """Runs once the service has been deployed; what it raises is only logged."""

    def invoke(  # noqa: PLR0913 - the contract
        self,
        name: str | type[Service],
        payload: Any = "",
        channel: str = CHANNEL.INVOKE,
        data_format: str = DATA_FORMAT.DICT,
        transport: str | None = None,
        serialize: bool = False,
        as_bunch: bool = False,
        timeout: float | None = None,
        raise_timeout: bool = True,
        **options: Any,
    ) -> Any:
        """The response of another service, given by its name or class, which runs in this greenlet.

        It is what that service assigned, or JSON types if it declares its output; text in JSON with ``serialize``,
        a ``Bunch`` with ``as_bunch``.  After ``timeout`` seconds the service is stopped and ``CallTimeout`` raised, or
        None returned without ``raise_timeout``; the deadline of this service's own call counts, too.
        ``options``: ``cid``, ``environ``, ``channel_params`` and ``in_reply_to`` of the call.
        Raises ``ServiceNotFound``, ``CallFailed`` if a service invokes itself, or what the service raises.
        """
        target = _name_of(name)
        if target == self.name:
            raise CallFailed(f"Service {target!r} cannot invoke itself")
        call = self._call_of(target, payload, channel, data_format, transport)
        call.timeout = timeout or None
        _set_options(call, options)
        try:
            response = self._runner.invoke(call).payload
        except CallTimeout:
            if raise_timeout or not call.timed_out:
                raise
            return None
        if serialize and not isinstance(response, str | bytes):
            return orjson.dumps(
                response, default=str, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z
            ).decode()
        return bunchify(response) if as_bunch else response

    def invoke_by_impl_name(self, impl_name: str, *args: Any, **kwargs: Any) -> Any:
        """Like ``invoke``, by the implementation name: ``module.Class``."""
        return self.invoke(self._runner.name_of(impl_name), *args, **kwargs)

    def invoke_async(  # noqa: PLR0913 - the contract
        self,
        name: str | type[Service],
        payload: Any = "",
        channel: str = CHANNEL.INVOKE_ASYNC,
        data_format: str = DATA_FORMAT.DICT,
        transport: str | None = None,
        expiration: float | None = None,
        to_json_string: bool = False,
        cid: str | None = None,
        callback: str | type[Service] | Service | Iterable[str | type[Service] | Service] | None = None,
        zato_ctx: dict[str, Any] | None = None,
        environ: dict[str, Any] | None = None,
        durable: bool = False,
    ) -> str:
        """The CID of the call of another service, which runs in a greenlet of its own with a copy of ``payload``.

        Once it succeeds, its response is the payload of the ``callback`` services, invoked with the CID as
        ``in_reply_to``; a service named ``<name>-async-callback`` is such without being given.
        A ``durable`` call is stored before this returns, runs in any worker, and again and again until it succeeds, so it may
        run twice; unless it has not begun ``expiration`` seconds later, if that is given.  See ``pubsub/durable.py``.
        Raises ``ServiceNotFound``, or ``CallFailed`` if there are too many such calls under way; a durable one what ``store_call`` raises.
        """
        message = orjson.dumps(payload).decode() if to_json_string else copy.deepcopy(payload)
        call = self._call_of(_name_of(name), message, channel, data_format, transport)
        call.cid = cid or ""
        call.http, call.depth, call.deadline, call.greenlet = None, 0, None, None
        call.environ = {**(environ if environ is not None else {}), **(zato_ctx or {})}
        if callback is None:
            callbacks: list[Any] = []
        elif isinstance(callback, str | type | Service):
            callbacks = [callback]
        else:
            callbacks = list(callback)
        names = [_name_of(item) for item in callbacks]
        if durable:
            from junctor.server.pubsub.durable import store_call  # it has services of its own

            return store_call(self.server, call, callbacks=names, expiration=expiration or 0.0)  # type: ignore[arg-type]  # a worker's
        return self._runner.invoke_async(call, names)

    def _call_of(
        self, target: str, payload: Any, channel: str, data_format: str, transport: str | None
    ) -> Call:
        raw = payload if isinstance(payload, str | bytes) else b""
        if raw and data_format == DATA_FORMAT.JSON:
            try:
                payload = orjson.loads(raw)
            except orjson.JSONDecodeError as error:
                raise InvalidInput.one("", f"The payload is not JSON: {error}") from None
        own = self._call
        return Call(
            target,
            payload,
            raw,
            self.cid,
            ChannelInfo(channel, security=self.channel.security),
            data_format,
            transport,
            http=own.http,
            environ=self.environ,
            depth=own.depth + 1,
            deadline=own.deadline,
            greenlet=own.greenlet,
        )

    def log_input(
        self, user_msg: str = "", level: int | str = logging.INFO, suppress_keys: Iterable[str] = ()
    ) -> None:
        """Logs the payload and the input; values of secrets and of ``suppress_keys`` are masked."""
        fields = {"payload": self.request.payload, "input": self.request.input}
        self._log("input", fields, user_msg, level, suppress_keys)

    def log_output(
        self, user_msg: str = "", level: int | str = logging.INFO, suppress_keys: Iterable[str] = ()
    ) -> None:
        """Logs the payload of the response; values of secrets and of ``suppress_keys`` are masked."""
        fields = {"payload": self.response.rendered(), "status_code": self.response.status_code}
        self._log("output", fields, user_msg, level, suppress_keys)

    def _log(
        self, what: str, fields: dict[str, Any], message: str, level: int | str, keys: Iterable[str]
    ) -> None:
        number = level if isinstance(level, int) else logging.getLevelNamesMapping()[level.upper()]
        if self.logger.isEnabledFor(number):
            shown = masked({"name": self.name, "cid": self.cid, **fields}, self._secrets.union(keys))
            self.logger.log(number, "%s%s: %s", f"{message} " if message else "", what, shown)


def _name_of(service: str | type[Service] | Service) -> str:
    return service if isinstance(service, str) else service.get_name()


def _set_options(call: Call, options: dict[str, Any]) -> None:
    unknown = options.keys() - {"cid", "environ", "channel_params", "in_reply_to"}
    if unknown:
        raise TypeError(f"invoke() has no argument {', '.join(sorted(unknown))}")
    for name, value in options.items():
        setattr(call, name, value)
