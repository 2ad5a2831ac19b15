"""``invoke()``: the only way a service ever runs, whatever the channel.

The order (facts sheet, section 3.5): the input is parsed; ``accept``; ``before_handle`` (errors are logged);
``validate_input`` (an error skips ``handle``); ``handle``, or ``handle_<METHOD>``; ``validate_output``; ``after_handle``
(errors are logged; not after a failure); the output is rendered; ``finalize_handle`` (errors are logged; always).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import gevent
from gevent import getcurrent
from gevent.pool import Pool

from junctor.server import http_errors
from junctor.server.log import current_cid
from junctor.server.service.base import Platform, Service
from junctor.server.service.call import Call, Result, new_cid
from junctor.server.service.channel import CHANNEL, ChannelInfo
from junctor.server.service.deadline import Deadlines
from junctor.server.service.info import Handler, Hooks, ServiceInfo
from junctor.server.service.link import LINK, current_link
from junctor.server.service.store import ServiceStore
from junctor.sql.errors import CallFailed, CallRefused, CallTimeout

logger = logging.getLogger("junctor.service")

OK: Final = "ok"
REFUSED: Final = "refused"
TIMEOUT: Final = "timeout"
ERROR: Final = "error"
STOPPED: Final = "stopped"

_BY_VERB: Final = frozenset((CHANNEL.HTTP_SOAP, CHANNEL.INVOKE))
_CALLBACK: Final = ChannelInfo(CHANNEL.INVOKE_ASYNC_CALLBACK)
_SERVER_ERROR: Final = 500
LEAST_THRESHOLD: Final = 0.001  # seconds; administrators set thresholds in milliseconds


def _ignore_metrics(_name: str, _seconds: float, _outcome: str) -> None:
    """No metrics."""


@dataclass(frozen=True, slots=True)
class InvokerSettings:
    """``slow_threshold``: after how many seconds a call is logged as slow.  ``max_depth``: of services invoking services.

    ``max_async``: how many asynchronous calls may be under way.  ``metrics`` is given the service's name, the seconds
    and the outcome of each call ('ok', 'refused', 'timeout', 'error' or 'stopped'), and ``access_log``, if there is one, the
    call, its seconds and its outcome; neither may raise or block.
    """

    slow_threshold: float = 99.999
    max_depth: int = 50
    max_async: int = 1_000
    metrics: Callable[[str, float, str], None] = _ignore_metrics
    access_log: Callable[[Call, float, str], None] | None = None


class Invoker:
    """Runs the services of a store."""

    def __init__(
        self, store: ServiceStore, platform: Platform, settings: InvokerSettings | None = None
    ) -> None:
        self.store = store
        self.platform = platform
        self.settings = settings or InvokerSettings()
        self._never_slow = min(self.settings.slow_threshold, LEAST_THRESHOLD)
        self._deadlines = Deadlines()
        self._async_calls = Pool(self.settings.max_async)

    def invoke(self, call: Call) -> Result:
        """Runs the service in this greenlet and returns what became of it; gives ``call`` its CID if it has none.

        Raises ``ServiceNotFound``; ``InvalidInput``; ``CallRefused`` if ``accept`` says no; ``CallTimeout`` at the call's
        deadline, which interrupts a service wherever it waits, but not while it computes; ``InvalidOutput``;
        ``CallFailed``; or whatever the service raises.  Only a time-out is logged here, with where the service was waiting:
        errors are logged once, by whoever ends their way: a channel, the greenlet of an asynchronous call, or a service
        that catches them.
        """
        if not call.cid:
            call.cid = new_cid()
        token = current_cid.set(call.cid)
        link = current_link.set(call.environ[LINK]) if LINK in call.environ else None
        started = time.perf_counter()
        outcome = OK
        try:
            return self._run_in_time(self.store.get(call.service), call)
        except BaseException as error:
            outcome = _outcome(error)
            raise
        finally:
            self._record(call, time.perf_counter() - started, outcome)
            current_cid.reset(token)
            if link is not None:
                current_link.reset(link)

    def invoke_async(self, call: Call, callbacks: Sequence[str] = ()) -> str:
        """Starts the service in a greenlet of its own and returns the CID; its errors are logged.

        Once it succeeds, its response goes to the services ``callbacks`` and to the service ``<name>-async-callback``, if
        there is one.  Raises ``ServiceNotFound``, for a callback, too, or ``CallFailed`` if too many calls are under way.
        """
        targets = list(callbacks)
        own_callback = f"{call.service}-async-callback"
        if own_callback in self.store and own_callback not in targets:
            targets.append(own_callback)
        for name in (call.service, *targets):
            self.store.get(name)
        if self._async_calls.free_count() <= 0:
            raise CallFailed(f"There are {self.settings.max_async} asynchronous calls under way already")
        call.cid = call.cid or new_cid()
        if (link := current_link.get()) is not None:
            call.environ = {LINK: link, **call.environ}  # another greenlet has another context
        self._async_calls.spawn(self._run_async, call, targets)
        return call.cid

    def name_of(self, impl_name: str) -> str:
        """The name of the service with this implementation name.  Raises ``ServiceNotFound``."""
        return self.store.get_by_impl_name(impl_name).name

    def stop(self, timeout: float) -> int:
        """How many asynchronous calls were still under way after ``timeout`` seconds, and were then stopped."""
        self._async_calls.join(timeout=timeout)
        left = len(self._async_calls)
        self._async_calls.kill(timeout=1)
        return left

    def _run_async(self, call: Call, callbacks: list[str]) -> None:
        try:
            payload = self.invoke(call).payload
            for name in callbacks:
                self.invoke(
                    Call(name, payload, channel=_CALLBACK, data_format=call.data_format, in_reply_to=call.cid)
                )
        except Exception:  # boundary: the end of the greenlet
            logger.exception(
                "The asynchronous call of service %s failed", call.service, extra={"cid": call.cid}
            )

    def _run_in_time(self, info: ServiceInfo, call: Call) -> Result:
        if call.depth > self.settings.max_depth:
            raise CallFailed(f"Services invoke each other more than {self.settings.max_depth} levels deep")
        inherited = call.deadline
        seconds = (call.timeout or None) if inherited is None else _seconds_left(call, inherited)
        if seconds is None:
            return self._run(info, call)
        deadline = self._deadlines.start(seconds)
        call.deadline, call.greenlet = deadline.due, deadline.greenlet
        try:
            result = self._run(info, call)
            if deadline.thrown is None:
                return result
        except gevent.Timeout as timeout:
            if timeout is not deadline.thrown:
                raise
            logger.warning("Service %s did not finish in time", call.service, exc_info=timeout)
        finally:
            self._deadlines.end(deadline)
        call.timed_out = True
        raise CallTimeout(f"Service {call.service!r} did not finish in {seconds:.3g} s")

    def _run(self, info: ServiceInfo, call: Call) -> Result:
        service = info.cls()
        service._prepare(self, call, info.io)
        if info.accept is not None and not info.accept(service):
            raise CallRefused(f"Service {info.name!r} did not accept the request")
        handle = _handler(info, service) if info.verbs or info.handle is None else info.handle
        service._invoked_at = time.time()
        if info.hooks is None:
            handle(service)
            return Result(call.cid, service.response.rendered(), service.response)
        return _run_with_hooks(info.hooks, handle, service)

    def _record(self, call: Call, seconds: float, outcome: str) -> None:
        settings = self.settings
        settings.metrics(call.service, seconds, outcome)
        if settings.access_log is not None:
            settings.access_log(call, seconds, outcome)
        if seconds < self._never_slow:
            return
        threshold = self.store.settings(call.service).slow_threshold or settings.slow_threshold
        if seconds > threshold:
            logger.warning(
                "Service %s took %.3f s, more than its threshold of %.3f s", call.service, seconds, threshold
            )


def _seconds_left(call: Call, deadline: float) -> float | None:
    """How long a call may take that has a deadline already; None if that is enforced by a timer of this greenlet."""
    remaining = max(deadline - time.monotonic(), 0.0)
    if call.timeout and call.timeout < remaining:
        return call.timeout
    return None if call.greenlet is getcurrent() else remaining


def _run_with_hooks(hooks: Hooks, handle: Handler, service: Service) -> Result:
    try:
        _run_logged(hooks.before_handle, service)
        if hooks.validate_input is not None:
            hooks.validate_input(service)
        handle(service)
        service._handled_at = time.time()
        if hooks.validate_output is not None:
            hooks.validate_output(service)
        _run_logged(hooks.after_handle, service)
        return Result(service.cid, service.response.rendered(), service.response)
    finally:
        _run_logged(hooks.finalize_handle, service)


def _run_logged(hook: Handler | None, service: Service) -> None:
    if hook is None:
        return
    try:
        hook(service)
    except Exception:  # the contract: errors of these hooks do not fail the call
        logger.exception("%s of service %s failed", hook.__name__, service.name)


def _handler(info: ServiceInfo, service: Service) -> Handler:
    """The method that handles the call: by the HTTP method if the service has any such, and the channel is of that kind."""
    if not info.verbs or service.channel.type not in _BY_VERB:
        return info.handle or Service.handle
    method = service.request.http.method
    if not method and info.handle is not None:
        return info.handle
    return info.verbs.get(method) or _method_not_allowed(info, method)


def _method_not_allowed(info: ServiceInfo, method: str) -> Handler:
    def refuse(service: Service) -> None:
        logger.info("Service %s has no handler for method %r", info.name, method)
        service.response.status_code = 405
        service.response.headers["Allow"] = ", ".join(sorted(info.verbs))
        service.response.payload = ""

    return refuse


def _outcome(error: BaseException) -> str:
    if isinstance(error, CallTimeout | gevent.Timeout):
        return TIMEOUT
    if not isinstance(error, Exception):
        return STOPPED
    return REFUSED if http_errors.answer(error).status < _SERVER_ERROR else ERROR
