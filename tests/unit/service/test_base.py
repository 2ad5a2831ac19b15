"""server/service/base.py"""

import logging

import pytest
from gevent.event import Event

from junctor.server.service.base import Service
from junctor.server.service.bunch import Bunch
from junctor.server.service.call import Call
from junctor.server.service.channel import CHANNEL, DATA_FORMAT
from junctor.server.service.request import HTTPRequest
from junctor.server.service.types import Secret
from junctor.sql.errors import CallFailed, InvalidInput, ServiceNotFound


class Target(Service):
    """Answers with what it saw."""

    name = "target"

    def handle(self):
        self.response.payload = {
            "payload": self.request.payload,
            "raw": self.request.raw_request,
            "cid": self.cid,
            "channel": self.channel.type,
            "data_format": self.data_format,
            "transport": self.transport,
            "method": self.request.http.method,
            "params": dict(self.request.channel_params),
            "in_reply_to": self.in_reply_to,
            "caller": self.channel.security,
        }
        self.environ["seen_by"] = "target"


class Caller(Service):
    """Runs what the test gives it."""

    name = "caller"

    def handle(self):
        self.response.payload = self.request.payload(self)


@pytest.fixture
def run(bench):
    bench.deploy(Target, Caller)
    return lambda action, **call: bench.call(Caller, action, **call).payload


def test_a_service_invokes_another_one(run):
    environ = {}
    seen = run(
        lambda self: self.invoke("target", {"a": 1}),
        cid="c",
        environ=environ,
        http=HTTPRequest({"REQUEST_METHOD": "PUT"}),
    )
    assert seen["payload"] == {"a": 1}
    assert (seen["cid"], seen["channel"], seen["data_format"], seen["method"]) == (
        "c",
        CHANNEL.INVOKE,
        DATA_FORMAT.DICT,
        "PUT",
    )
    assert environ["seen_by"] == "target"


def test_a_service_can_be_given_by_its_class_or_implementation_name(run):
    assert run(lambda self: self.invoke(Target, "x"))["payload"] == "x"
    assert run(lambda self: self.invoke_by_impl_name(f"{__name__}.Target", "x"))["payload"] == "x"
    with pytest.raises(ServiceNotFound):
        run(lambda self: self.invoke_by_impl_name("missing.Target"))


def test_a_call_can_have_its_own_context(run):
    seen = run(
        lambda self: self.invoke(
            "target",
            channel=CHANNEL.WORKER,
            data_format=DATA_FORMAT.CSV,
            transport="plain_http",
            cid="other",
            environ={},
            channel_params={"a": 1},
            in_reply_to="r",
        )
    )
    assert (seen["channel"], seen["data_format"], seen["transport"]) == (
        CHANNEL.WORKER,
        DATA_FORMAT.CSV,
        "plain_http",
    )
    assert (seen["cid"], seen["params"], seen["in_reply_to"]) == ("other", {"a": 1}, "r")


def test_an_unknown_argument_is_an_error(run):
    with pytest.raises(TypeError, match=r"invoke\(\) has no argument timout"):
        run(lambda self: self.invoke("target", timout=5))


def test_json_payloads_are_parsed(run):
    seen = run(lambda self: self.invoke("target", '{"a": 1}', data_format=DATA_FORMAT.JSON))
    assert (seen["payload"], seen["raw"]) == ({"a": 1}, '{"a": 1}')
    with pytest.raises(InvalidInput, match="not JSON"):
        run(lambda self: self.invoke("target", "{", data_format=DATA_FORMAT.JSON))


def test_responses_can_be_serialized_or_bunches(run):
    assert run(lambda self: self.invoke("target", {1: 2}, serialize=True)).startswith('{"payload":{"1":2},')
    answer = run(lambda self: self.invoke("target", {"a": [{"b": 1}]}, as_bunch=True))
    assert type(answer) is Bunch
    assert answer.payload.a[0].b == 1


def test_text_is_not_serialized_twice(bench, run):
    class Text(Service):
        name = "text"

        def handle(self):
            self.response.payload = "x"

    bench.deploy(Text)
    assert run(lambda self: self.invoke("text", serialize=True)) == "x"


def test_a_service_cannot_invoke_itself(run):
    for name in ("caller", Caller):
        with pytest.raises(CallFailed, match="'caller' cannot invoke itself"):
            run(lambda self, name=name: self.invoke(name))


def test_an_error_of_the_other_service_can_be_caught(bench, run):
    class Fails(Service):
        name = "fails"

        def handle(self):
            raise KeyError("oops")

    def action(self):
        with pytest.raises(KeyError, match="oops"):
            self.invoke("fails")
        return "fine"

    bench.deploy(Fails)
    assert run(action) == "fine"


def test_an_asynchronous_call_has_a_copy_of_the_payload(bench, run):
    seen, done = [], Event()

    class Later(Service):
        name = "later"

        def handle(self):
            seen.append(
                (self.request.payload, self.cid, self.channel.type, self.environ, self.request.http.method)
            )
            done.set()

    def action(self):
        payload = {"a": []}
        cid = self.invoke_async("later", payload, environ={"x": 1}, zato_ctx={"y": 2})
        payload["a"].append(1)
        return cid

    bench.deploy(Later)
    cid = run(action, cid="c", http=HTTPRequest({"REQUEST_METHOD": "GET"}), timeout=5)
    assert done.wait(5)
    assert seen == [({"a": []}, cid, CHANNEL.INVOKE_ASYNC, {"x": 1, "y": 2}, "")]
    assert cid != "c"


@pytest.mark.parametrize("kind", ["name", "self", "class", "list"])
def test_callbacks_can_be_given_in_several_ways(bench, run, kind):
    done = Event()

    class Back(Service):
        name = "back"

        def handle(self):
            if self.in_reply_to:
                assert self.request.payload["payload"] == '{"a":1}'
                done.set()
            else:
                callback = {"name": "back", "self": self, "class": Back, "list": ["back"]}[kind]
                self.invoke_async("target", {"a": 1}, to_json_string=True, cid="mine", callback=callback)

    bench.deploy(Back)
    bench.invoker.invoke(Call("back"))
    assert done.wait(5)


def test_input_and_output_are_logged_without_secrets(bench, caplog):
    class Logs(Service):
        name = "logs"
        input = "name", "password", Secret("pin"), "-note"
        output = "api_token", "name"

        def handle(self):
            self.log_input("Got", logging.WARNING, ["note"])
            self.response.payload = {"api_token": "t-o-k", "name": "n"}
            self.log_output(level="warning")
            self.log_output(level=logging.DEBUG)

    bench.deploy(Logs)
    bench.call(Logs, {"name": "jane", "password": "hunter2", "pin": "1234", "note": "n-o-t-e"}, cid="abc")
    assert "Got input: " in caplog.text
    assert "jane" in caplog.text
    assert "'status_code': 200" in caplog.text
    for secret in ("hunter2", "1234", "n-o-t-e", "t-o-k"):
        assert secret not in caplog.text
    assert len(caplog.records) == 2


def test_handle_must_be_overridden():
    with pytest.raises(NotImplementedError, match="Service has no handle"):
        Service().handle()
