"""The views of docs/clients.md in real Django and Flask applications, calling a server."""

import sys
from types import ModuleType

import django
import pytest
from django.conf import settings
from django.test import Client as DjangoClient
from django.test import override_settings

from tests.helpers.client_code import documented

SENT = {"order_id": 7, "state": "sent"}


@pytest.fixture(scope="session", autouse=True)
def django_project():
    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY="tests", DATABASES={}, ROOT_URLCONF=__name__)
        django.setup()


@pytest.fixture
def load(monkeypatch):
    """Runs the code of the documentation as a module, as for a server with this environment."""
    loaded = []

    def make(name, environment):
        for key, value in environment.items():
            monkeypatch.setenv(key, value)
        module = ModuleType(f"documented_{name}")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(documented(name), f"docs/clients.md ({name})", "exec"), module.__dict__)
        loaded.append(module)
        return module

    yield make
    for module in loaded:
        module.junctor.close()


@pytest.fixture(params=["django", "flask"])
def visit(request, load):
    """Makes an application with the documented view, and returns what a browser uses to get a page of it."""

    def application(environment):
        module = load(request.param, environment)
        if request.param == "flask":
            flask = module.app.test_client()
            return lambda path: ((page := flask.get(path)).status_code, page.get_json())

        def visit_django(path):
            with override_settings(ROOT_URLCONF=module):
                page = DjangoClient().get(path)
                return page.status_code, page.json()

        return visit_django

    return application


def test_a_view_shows_what_a_service_returns(visit, junctor):
    assert visit(junctor.environment)("/orders/7") == (200, SENT)


def test_a_view_passes_on_that_there_is_no_such_thing(visit, junctor):
    assert visit(junctor.environment)("/orders/0") == (404, {"error": "There is no such order."})


def test_a_view_with_wrong_credentials_fails_with_a_cid(visit, junctor, caplog):
    junctor.password = "wrong"
    status, page = visit(junctor.environment)("/orders/7")
    assert (status, page["error"]) == (502, "This did not work.")
    assert page["cid"]
    assert page["cid"] in caplog.text
    assert "wrong" not in caplog.text


def test_a_view_of_a_server_that_does_not_answer_says_so(visit, junctor, server):
    server.reply = lambda asked, handler: handler.connection.recv(1)  # waits for more, which never comes
    application = visit(junctor.environment)
    for module in [item for name, item in sys.modules.items() if name.startswith("documented_")]:
        module.junctor.timeout = 0.2
    assert application("/orders/7") == (504, {"error": "Please try again later."})
