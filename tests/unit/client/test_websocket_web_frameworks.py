"""The WebSocket code of docs/clients.md: views in real Django and Flask applications, and a process that is called."""

from __future__ import annotations

import os
import subprocess
import sys
from types import ModuleType

import django
import pytest
from django.conf import settings
from django.test import Client as DjangoClient
from django.test import override_settings

from tests.helpers.client_code import documented
from tests.helpers.waiting import wait_until
from tests.helpers.websocket_channel import CID, PASSWORD, failure, running_channel

TIMEOUT = 30.0  # seconds


@pytest.fixture(scope="module", autouse=True)
def django_project():
    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY="tests", DATABASES={}, ROOT_URLCONF=__name__)
        django.setup()


@pytest.fixture
def channel():
    """A channel with a gateway that has the service of the documentation."""

    def answer(message):
        if message["data"]["service"] == "zato.ping":
            return {"pong": "zato"}
        order_id = int(message["data"]["request"]["order_id"])
        if order_id == 0:
            return failure(message, 404, "There is no such order.")
        return failure(message, 500, "") if order_id < 0 else {"order_id": order_id, "state": "sent"}

    with running_channel() as made:
        made.answer = answer
        yield made


@pytest.fixture
def environment(channel):
    return {
        "JUNCTOR_WEBSOCKET_URL": channel.address,
        "JUNCTOR_USERNAME": "shop",
        "JUNCTOR_PASSWORD": PASSWORD,
    }


@pytest.fixture(params=["django", "flask"])
def visit(request, environment, monkeypatch):
    """Gets pages of an application with the documented view."""
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    module = ModuleType(f"documented_websocket_{request.param}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(documented(f"websocket {request.param}"), "docs/clients.md", "exec"), module.__dict__)

    def visit_django(path):
        with override_settings(ROOT_URLCONF=module):
            page = DjangoClient().get(path)
            return page.status_code, page.json()

    def visit_flask(path):
        page = module.app.test_client().get(path)
        return page.status_code, page.get_json()

    yield visit_django if request.param == "django" else visit_flask
    module.junctor.close()


def test_a_view_shows_what_a_service_returns(visit, channel):
    assert visit("/orders/7") == (200, {"order_id": 7, "state": "sent"})
    assert visit("/orders/8") == (200, {"order_id": 8, "state": "sent"})
    assert [len(channel.log_ins), channel.log_ins[0]["meta"]["client_name"]] == [1, "Shop"]


def test_a_view_passes_on_that_there_is_no_such_thing(visit):
    assert visit("/orders/0") == (404, {"error": "There is no such order."})


def test_a_view_of_a_service_that_fails_shows_the_cid(visit):
    assert visit("/orders/-1") == (502, {"error": "This did not work.", "cid": CID})


def test_a_view_of_a_server_that_does_not_answer_says_so(visit, channel, monkeypatch):
    channel.answer = lambda message: None
    for module in [item for name, item in sys.modules.items() if name.startswith("documented_websocket")]:
        module.junctor.timeout = 0.2
    assert visit("/orders/7") == (504, {"error": "Please try again later."})


def test_a_process_that_only_receives_answers(channel, environment):
    code = documented("websocket receiver")
    with subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | environment, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        line = ""
        while "The server knows {'pong': 'zato'}" not in line:
            line = process.stderr.readline()
            assert line, "The process has ended"
        channel.push({"product": "tea"})
        [response] = channel.wait_for_responses(1)
        process.terminate()
    assert response["data"] == {"response": {"in_stock": 7}}
    assert response["meta"]["client_id"] == "warehouse.1"


def test_a_process_that_subscribes_is_told_and_acknowledges(channel, environment):
    channel.answer = lambda message: {"sub_key": "zpsk.1", "queue_depth": 0}
    with subprocess.Popen(
        [sys.executable, "-c", documented("websocket subscriber")],
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        wait_until(lambda: channel.invocations, 20, "The process has not subscribed")
        published = {"topic_name": "/orders/sent", "data": {"order_id": 7}, "delivery_count": 1}
        channel.push([published], "zpsm1", msg_type="zwsx.psrq")
        [response] = channel.wait_for_responses(1)
        process.terminate()
        said = process.stderr.read()
    assert response["data"] == {"response": None}
    assert "Order 7 was sent again" in said
