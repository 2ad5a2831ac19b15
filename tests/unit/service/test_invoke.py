"""server/service/invoke.py"""

import logging
import re

import gevent
import pytest
from gevent.event import Event

from junctor.server.log import current_cid
from junctor.server.service.base import Service
from junctor.server.service.call import Call, new_cid
from junctor.server.service.channel import CHANNEL, ChannelInfo, ChannelSecurityInfo
from junctor.server.service.request import HTTPRequest
from junctor.server.service.store import ServiceSettings
from junctor.sql.errors import (
    BadRequest,
    CallFailed,
    CallRefused,
    CallTimeout,
    InvalidInput,
    InvalidOutput,
    ServiceNotFound,
)

FOREVER = 60


class Echo(Service):
    name = "echo"

    def handle(self):
        self.response.payload = self.request.payload


class Waits(Service):
    name = "waits"

    def handle(self):
        gevent.sleep(FOREVER)


class Fails(Service):
    name = "fails"

    def handle(self):
        raise self.request.payload


def test_a_service_is_run_and_its_response_returned(bench):
    bench.deploy(Echo)
    result = bench.call(Echo, {"a": 1})
    assert result.payload == {"a": 1}
    assert result.response.status_code == 200
    assert bench.finished == [("echo", "ok")]


def test_a_call_gets_a_correlation_id_or_keeps_its_own(bench):
    bench.deploy(Echo)
    assert re.fullmatch("[0-9a-f]{24}", bench.call(Echo).cid)
    assert bench.call(Echo, cid="abc").cid == "abc"
    assert len({new_cid() for _ in range(1000)}) == 1000


def test_a_service_sees_its_call(bench):
    seen = {}

    class Look(Service):
        name = "look"

        def handle(self):
            seen.update(
                vars(self), chan=self.chan, out=self.out, outgoing=self.outgoing, wsgi=self.wsgi_environ
            )
            seen["logged_cid"] = current_cid.get()
            seen["of_call"] = self.data_format, self.transport, self.in_reply_to

    channel = ChannelInfo(
        CHANNEL.HTTP_SOAP, 5, "orders", security=ChannelSecurityInfo(7, "sec", "basic_auth", "jane")
    )
    bench.deploy(Look)
    http = HTTPRequest({"REQUEST_METHOD": "GET"})
    bench.call(
        Look,
        cid="c",
        channel=channel,
        data_format="json",
        transport="plain_http",
        environ={"a": 1},
        in_reply_to="r",
        http=http,
    )
    assert seen["cid"] == seen["logged_cid"] == "c"
    assert seen["channel"] is seen["chan"] is channel
    assert channel.sec.username == "jane"
    assert seen["of_call"] == ("json", "plain_http", "r")
    assert seen["environ"] == {"a": 1}
    assert seen["wsgi"] == {"REQUEST_METHOD": "GET"}
    assert seen["out"].rest["CRM"] == "connection"
    assert seen["out"] is seen["outgoing"]
    assert seen["server"] is bench.platform
    assert current_cid.get() == ""


def test_declared_input_and_output_are_converted(bench):
    class Get(Service):
        name = "get"
        input = "id"
        output = "is_known"

        def handle(self):
            self.response.payload.is_known = str(self.request.input.id == 5)

    bench.deploy(Get)
    assert bench.call(Get, {"id": "5"}).payload == {"is_known": True}
    with pytest.raises(InvalidInput):
        bench.call(Get, {"id": "x"})
    assert bench.finished == [("get", "ok"), ("get", "refused")]


def test_output_that_does_not_match_is_the_services_error(bench):
    class Get(Service):
        name = "get"
        output = "id"

        def handle(self):
            """Sets nothing."""

    bench.deploy(Get)
    with pytest.raises(InvalidOutput):
        bench.call(Get)
    assert bench.finished == [("get", "error")]


def test_an_unknown_or_inactive_service_is_not_found(bench):
    with pytest.raises(ServiceNotFound):
        bench.invoker.invoke(Call("missing"))
    bench.deploy(Echo)
    bench.store.configure({"echo": ServiceSettings(is_active=False)})
    with pytest.raises(ServiceNotFound):
        bench.call(Echo)
    assert [outcome for _, outcome in bench.finished] == ["refused", "refused"]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(ValueError("x"), "error"), (BadRequest("cid", "x"), "refused"), (CallFailed("x"), "error")],
)
def test_errors_of_services_are_raised_as_they_are(bench, error, outcome):
    bench.deploy(Fails)
    with pytest.raises(type(error)) as caught:
        bench.call(Fails, error)
    assert caught.value is error
    assert bench.finished == [("fails", outcome)]
    assert current_cid.get() == ""


def test_a_killed_greenlet_is_a_stopped_call(bench):
    bench.deploy(Waits)
    greenlet = gevent.spawn(bench.call, Waits)
    gevent.sleep(0)
    greenlet.kill()
    assert bench.finished == [("waits", "stopped")]


def test_a_request_that_is_not_accepted_is_refused(bench):
    class Picky(Service):
        name = "picky"

        def accept(self):
            return self.request.payload == "please"

        def handle(self):
            self.response.payload = "thanks"

    bench.deploy(Picky)
    assert bench.call(Picky, "please").payload == "thanks"
    with pytest.raises(CallRefused):
        bench.call(Picky)


class Hooked(Service):
    name = "hooked"

    def step(self, name):
        steps = self.environ.setdefault("steps", [])
        steps.append(name)
        if name in self.request.payload:
            raise ValueError(name)

    def before_handle(self):
        self.step("before_handle")

    def validate_input(self):
        self.step("validate_input")

    def handle(self):
        self.step("handle")

    def validate_output(self):
        self.step("validate_output")

    def after_handle(self):
        assert self.processing_time >= 0
        assert self.processing_time_raw.total_seconds() >= 0
        assert self.handle_return_time >= self.invocation_time
        self.step("after_handle")

    def finalize_handle(self):
        self.step("finalize_handle")


ALL_HOOKS = [
    "before_handle",
    "validate_input",
    "handle",
    "validate_output",
    "after_handle",
    "finalize_handle",
]


@pytest.mark.parametrize(
    ("failing", "steps", "is_raised"),
    [
        ("", ALL_HOOKS, False),
        ("before_handle", ALL_HOOKS, False),
        ("after_handle", ALL_HOOKS, False),
        ("finalize_handle", ALL_HOOKS, False),
        ("validate_input", ["before_handle", "validate_input", "finalize_handle"], True),
        ("handle", ["before_handle", "validate_input", "handle", "finalize_handle"], True),
        ("validate_output", [*ALL_HOOKS[:4], "finalize_handle"], True),
    ],
)
def test_hooks_run_in_order_and_their_errors_are_logged_or_raised(bench, caplog, failing, steps, is_raised):
    bench.deploy(Hooked)
    environ = {}
    if is_raised:
        with pytest.raises(ValueError, match=failing):
            bench.call(Hooked, {failing}, environ=environ)
    else:
        bench.call(Hooked, {failing}, environ=environ)
        assert (f"{failing} of service hooked failed" in caplog.text) is bool(failing)
    assert environ["steps"] == steps


def test_times_are_not_known_before_handle_has_returned(bench):
    class Look(Service):
        name = "look"

        def handle(self):
            self.response.payload = [self.handle_return_time, self.processing_time, self.processing_time_raw]

    bench.deploy(Look)
    assert bench.call(Look).payload == [None, None, None]


class Verbs(Service):
    name = "verbs"

    def handle_GET(self):  # noqa: N802 - the contract
        self.response.payload = "got"

    def handle_POST(self):  # noqa: N802 - the contract
        self.response.payload = "posted"


class VerbsAndHandle(Verbs):
    name = "verbs-and-handle"

    def handle(self):
        self.response.payload = "handled"


def over_http(method, channel=CHANNEL.HTTP_SOAP):
    return {"http": HTTPRequest({"REQUEST_METHOD": method}), "channel": ChannelInfo(channel)}


def test_requests_are_dispatched_by_their_method(bench):
    bench.deploy(Verbs, VerbsAndHandle)
    assert bench.call(Verbs, **over_http("GET")).payload == "got"
    assert bench.call(Verbs, **over_http("POST")).payload == "posted"
    assert bench.call(VerbsAndHandle, **over_http("GET")).payload == "got"
    assert bench.call(VerbsAndHandle, **over_http("GET", CHANNEL.SCHEDULER)).payload == "handled"
    assert bench.call(VerbsAndHandle).payload == "handled"


@pytest.mark.parametrize("cls", [Verbs, VerbsAndHandle])
def test_a_method_without_a_handler_is_not_allowed(bench, cls):
    bench.deploy(cls)
    result = bench.call(cls, **over_http("DELETE"))
    assert (result.response.status_code, result.payload, result.response.headers) == (
        405,
        "",
        {"Allow": "GET, POST"},
    )


def test_a_service_with_methods_only_cannot_come_from_elsewhere(bench):
    bench.deploy(Verbs)
    with pytest.raises(NotImplementedError):
        bench.call(Verbs, channel=ChannelInfo(CHANNEL.SCHEDULER))
    assert bench.call(Verbs).response.status_code == 405


def test_a_call_is_stopped_at_its_deadline(bench, caplog):
    bench.deploy(Waits)
    with pytest.raises(CallTimeout, match=r"'waits' did not finish in 0.01 s"):
        bench.call(Waits, timeout=0.01)
    assert bench.finished == [("waits", "timeout")]
    assert "Service waits did not finish in time" in caplog.text
    assert "gevent.sleep(FOREVER)" in caplog.text


def test_a_call_that_is_in_time_is_not_disturbed(bench):
    bench.deploy(Echo)
    assert bench.call(Echo, "x", timeout=0.01).payload == "x"
    with gevent.Timeout(0.02, exception=False):  # nothing else interrupts this greenlet any more
        gevent.sleep(FOREVER)


def test_a_service_that_hides_the_deadline_is_still_late(bench):
    class Stubborn(Service):
        name = "stubborn"

        def handle(self):
            try:
                gevent.sleep(FOREVER)
            except gevent.Timeout:
                self.response.payload = "late"

    bench.deploy(Stubborn)
    with pytest.raises(CallTimeout):
        bench.call(Stubborn, timeout=0.01)


def test_a_time_out_of_the_services_own_is_raised_as_it_is(bench):
    class Own(Service):
        name = "own"

        def handle(self):
            with gevent.Timeout(0.01):
                gevent.sleep(FOREVER)

    bench.deploy(Own)
    with pytest.raises(gevent.Timeout):
        bench.call(Own, timeout=FOREVER)
    assert bench.finished == [("own", "timeout")]


class Outer(Service):
    """Invokes 'waits' with the arguments in its payload."""

    name = "outer"

    def handle(self):
        self.response.payload = self.invoke("waits", **self.request.payload)


def test_a_nested_call_has_its_own_deadline(bench):
    bench.deploy(Waits, Outer)
    with pytest.raises(CallTimeout, match="'waits'"):
        bench.call(Outer, {"timeout": 0.01}, timeout=FOREVER)
    assert bench.call(Outer, {"timeout": 0.01, "raise_timeout": False}).payload is None


def test_a_nested_call_inherits_the_deadline_of_the_outer_one(bench):
    bench.deploy(Waits, Outer)
    for options in ({}, {"timeout": FOREVER}, {"timeout": FOREVER, "raise_timeout": False}):
        with pytest.raises(CallTimeout, match="'outer'"):
            bench.call(Outer, options, timeout=0.01)


def test_a_nested_call_in_another_greenlet_inherits_the_deadline_too(bench):
    class Spawns(Service):
        name = "spawns"

        def handle(self):
            gevent.spawn(self.invoke, "waits").get()

    bench.deploy(Waits, Spawns)
    with pytest.raises(CallTimeout):
        bench.call(Spawns, timeout=0.05)
    with gevent.Timeout(5):
        while ("waits", "timeout") not in bench.finished:
            gevent.sleep(0.001)


def test_a_slow_call_is_logged(bench, caplog):
    class Slow(Service):
        name = "slow"

        def handle(self):
            gevent.sleep(0.01)

    bench.deploy(Slow, Echo)
    bench.store.configure({"slow": ServiceSettings(slow_threshold=0.001)})
    bench.call(Slow)
    bench.call(Echo)
    assert caplog.text.count("more than its threshold of 0.001 s") == 1
    bench.new_invoker(slow_threshold=1e-9).invoke(Call("echo"))
    assert "Service echo took" in caplog.text


def test_every_call_can_be_recorded(bench):
    seen = []
    bench.deploy(Echo)
    invoker = bench.new_invoker(
        access_log=lambda call, seconds, outcome: seen.append((call.service, seconds > 0, outcome))
    )
    invoker.invoke(Call("echo"))
    assert seen == [("echo", True, "ok")]


def test_the_depth_of_nested_calls_is_bounded(bench):
    class Ping(Service):
        name = "ping"

        def handle(self):
            self.environ["depth"] += 1
            self.invoke("pong")

    class Pong(Ping):
        name = "pong"

        def handle(self):
            self.invoke("ping")

    bench.deploy(Ping, Pong)
    environ = {"depth": 0}
    with pytest.raises(CallFailed, match="more than 50 levels deep"):
        bench.call(Ping, environ=environ)
    assert environ["depth"] == 26


@pytest.fixture
def collector(bench):
    class Collector(Service):
        name = "collector"
        seen: list = []  # noqa: RUF012 - one for each test
        got = Event()

        def handle(self):
            self.seen.append((self.request.payload, self.channel.type, self.in_reply_to, self.cid))
            self.got.set()

    bench.deploy(Collector)
    return Collector


def test_an_asynchronous_call_runs_later_and_calls_back(bench, collector):
    bench.deploy(Echo)
    cid = bench.invoker.invoke_async(Call("echo", "x"), ["collector"])
    assert not collector.seen
    assert collector.got.wait(5)
    [(payload, channel, in_reply_to, own_cid)] = collector.seen
    assert (payload, channel, in_reply_to) == ("x", CHANNEL.INVOKE_ASYNC_CALLBACK, cid)
    assert own_cid != cid


def test_a_callback_can_be_found_by_its_name(bench, collector):
    class EchoCallback(collector):
        name = "echo-async-callback"

    bench.deploy(Echo, EchoCallback)
    bench.invoker.invoke_async(Call("echo", "x", cid="abc"))
    assert collector.got.wait(5)
    assert collector.seen[0][2] == "abc"


def test_an_asynchronous_call_that_fails_is_logged_and_not_called_back(bench, collector, caplog):
    bench.deploy(Fails)
    bench.invoker.invoke_async(Call("fails", ValueError("oops"), cid="abc"), ["collector"])
    assert bench.invoker.stop(5) == 0
    assert not collector.seen
    assert "The asynchronous call of service fails failed" in caplog.text
    assert "ValueError: oops" in caplog.text
    assert next(record.cid for record in caplog.records if record.levelno == logging.ERROR) == "abc"


def test_unknown_services_are_told_before_an_asynchronous_call_begins(bench):
    bench.deploy(Echo)
    for call, callbacks in ((Call("missing"), []), (Call("echo"), ["missing"])):
        with pytest.raises(ServiceNotFound):
            bench.invoker.invoke_async(call, callbacks)


def test_the_number_of_asynchronous_calls_is_bounded(bench):
    bench.deploy(Waits)
    invoker = bench.new_invoker(max_async=2)
    for _ in range(2):
        invoker.invoke_async(Call("waits"))
    with pytest.raises(CallFailed, match="2 asynchronous calls under way"):
        invoker.invoke_async(Call("waits"))
    assert invoker.stop(0) == 2
    invoker.invoke_async(Call("waits"))
    assert invoker.stop(0) == 1
