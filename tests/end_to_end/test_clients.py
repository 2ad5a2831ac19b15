"""Applications that call a real cluster: junctor-client, the unmodified zato-client, and the views of docs/clients.md."""

import re
import threading

import pytest
from junctor_client import Client, NotFound, ServerError, Timeout, Unauthorized

from tests.helpers.client_code import Junctor, documented, require_zato_client, run

PASSWORD = "open sesame"
SENT = {"order_id": 7, "state": "sent"}
MORE_SERVICES = '''
import gevent
from zato.server.service import Service


class Slow(Service):
    """Takes longer than its caller waits."""

    name = "clients.slow"

    def handle(self):
        gevent.sleep(float(self.request.input.get("seconds") or 0))
        self.response.payload = {"slept": True}


class Broken(Service):
    name = "clients.broken"

    def handle(self):
        raise RuntimeError("the password is hunter2")


class EchoList(Service):
    """A service whose name says that its answer is a list."""

    name = "clients.get-list"

    def handle(self):
        self.response.payload = [{"id": number} for number in range(3)]
'''


@pytest.fixture(scope="module")
def cluster(quickstart) -> Junctor:
    """The cluster with the service of the documentation on its channel, and some more."""
    files = [
        quickstart.file("get_order.py", documented("service")),
        quickstart.file("more.py", MORE_SERVICES),
    ]
    quickstart.junctor("deploy", *files)
    password = ("--password-file", quickstart.file("password.txt", PASSWORD))
    quickstart.junctor("create-security-basic-auth", "clients", "--username", "clients", *password)
    for name, path, service in (
        ("clients.order", "/orders/{order_id}", "orders.get"),
        ("clients.slow", "/slow", "clients.slow"),
    ):
        options = ("--url-path", path, "--service", service, "--security", "clients")
        quickstart.junctor("create-channel-rest", name, *options)
    return Junctor(quickstart.address, "clients", PASSWORD, quickstart.admin[1])


@pytest.fixture
def client(cluster):
    with Client(cluster.address, username=cluster.username, password=cluster.password) as client:
        yield client


@pytest.fixture
def public(quickstart, cluster):
    """A client with the credentials for /zato/api/invoke, which the documentation's Flask application uses."""
    username, password = quickstart.public
    return Junctor(cluster.address, username, password, cluster.admin_password)


def test_junctor_client_calls_a_channel(client):
    response = client.call("/orders/7", method="GET")

    assert response.data == SENT
    assert re.fullmatch("[0-9a-f]{24}", response.cid)


def test_junctor_client_invokes_a_service_by_its_name(public):
    with Client(public.address, username=public.username, password=public.password) as client:
        assert client.invoke("orders.get", {"order_id": "7"}).data == SENT
        assert client.invoke("clients.get-list").data == [{"id": 0}, {"id": 1}, {"id": 2}]


def test_junctor_client_raises_what_a_service_raised(client):
    with pytest.raises(NotFound, match="There is no such order") as raised:
        client.call("/orders/0", method="GET")

    assert (raised.value.status, raised.value.details) == (404, "There is no such order.")


def test_junctor_client_is_told_no_secret_of_a_service_that_failed(public, quickstart):
    with (
        Client(public.address, username=public.username, password=public.password) as client,
        pytest.raises(ServerError) as raised,
    ):
        client.invoke("clients.broken")

    assert raised.value.status == 500
    assert "hunter2" not in str(raised.value)
    logged = [path for path in quickstart.logs() if raised.value.cid in path.read_text("utf-8", "replace")]
    assert logged


def test_junctor_client_with_a_wrong_password_is_refused(cluster):
    with (
        Client(cluster.address, username=cluster.username, password="wrong") as client,
        pytest.raises(Unauthorized),
    ):
        client.call("/orders/7", method="GET")


def test_junctor_client_waits_no_longer_than_it_was_told(client):
    with pytest.raises(Timeout):
        client.call("/slow", {"seconds": 3}, timeout=0.3)


def test_threads_share_a_junctor_client(client):
    found = []

    def call():
        found.extend(
            client.call(f"/orders/{number}", method="GET").data["order_id"] for number in range(1, 11)
        )

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert sorted(found) == sorted(4 * list(range(1, 11)))


@pytest.mark.parametrize("framework", ["django", "flask"])
class TestDocumentedViews:
    def test_they_show_what_a_service_returns_and_what_it_refuses(self, framework, cluster, public):
        junctor = cluster if framework == "django" else public  # one calls the channel, the other the service

        pages = run(
            framework, "/orders/7", "/orders/0", code=documented(framework), environment=junctor.environment
        )

        assert pages == [[200, SENT], [404, {"error": "There is no such order."}]]

    def test_those_of_zato_client_do_so_too(self, framework, cluster):
        require_zato_client()
        code = documented(f"zato-client {framework}")

        found, (status, page) = run(
            framework, "/orders/7", "/orders/0", code=code, environment=cluster.environment
        )

        assert found == [200, SENT]
        assert (status, page["error"]) == (502, "This did not work.")
        assert re.fullmatch("[0-9a-f]{24}", page["cid"])


CONNECT = """
import os

from zato.client import AnyServiceInvoker, APIClient, JSONClient, RawDataClient

address = os.environ["JUNCTOR_URL"]
admin = AnyServiceInvoker(address, "/zato/admin/invoke", auth=("admin.invoke", os.environ["JUNCTOR_ADMIN_PASSWORD"]))
user = os.environ["JUNCTOR_USERNAME"], os.environ["JUNCTOR_PASSWORD"]

def shown(response):
    return {"ok": response.ok, "data": response.data, "cid": response.cid, "details": str(response.details)}
"""


def script(junctor, code):
    """What code with zato-client has put into ``result``."""
    require_zato_client()
    return run("script", code=CONNECT + code, environment=junctor.environment)


def test_any_service_invoker_invokes_any_service(cluster):
    found = script(cluster, 'result = shown(admin.invoke("orders.get", {"order_id": "7"}))')

    assert (found["ok"], found["data"]) == (True, SENT)
    assert re.fullmatch("[0-9a-f]{24}", found["cid"])


def test_any_service_invoker_reaches_administrative_services(cluster):
    found = script(
        cluster, 'result = shown(admin.invoke("zato.channel-rest.get", {"name": "clients.order"}))'
    )

    assert (found["ok"], found["data"]["url_path"]) == (True, "/orders/{order_id}")


def test_any_service_invoker_gets_lists(cluster):
    assert script(cluster, 'result = list(admin.invoke("clients.get-list").data)') == [
        {"id": 0},
        {"id": 1},
        {"id": 2},
    ]


def test_any_service_invoker_invokes_in_the_background(cluster):
    found = script(cluster, 'result = shown(admin.invoke_async("orders.get", {"order_id": "7"}))')

    assert found["ok"]


@pytest.mark.parametrize(
    ("call", "details"),
    [
        ('admin.invoke("orders.get", {"order_id": "0"})', "There is no such order."),
        ('admin.invoke("no.such.service")', "no.such.service"),
        ('admin.invoke("clients.broken")', ""),
    ],
)
def test_any_service_invoker_sees_what_went_wrong(cluster, call, details):
    found = script(cluster, f"result = shown({call})")

    assert not found["ok"]
    assert details in found["details"]
    assert "hunter2" not in found["details"]
    assert re.fullmatch("[0-9a-f]{24}", found["cid"])


def test_a_wrong_password_is_no_success(cluster):
    code = 'result = shown(AnyServiceInvoker(address, "/zato/admin/invoke", auth=("admin.invoke", "x")).invoke("zato.ping"))'

    assert not script(cluster, code)["ok"]


def test_json_client_calls_a_channel(cluster):
    code = 'result = shown(JSONClient(address, "/orders/7", auth=user).invoke({}))'

    found = script(cluster, code)

    assert (found["ok"], found["data"]) == (True, SENT)


def test_json_client_sees_what_went_wrong(cluster):
    code = 'result = shown(JSONClient(address, "/orders/0", auth=user).invoke({}))'

    found = script(cluster, code)

    assert not found["ok"]
    assert re.fullmatch("[0-9a-f]{24}", found["cid"])


def test_raw_data_client_gets_the_body_as_it_is(cluster):
    code = 'result = RawDataClient(address, "/orders/7", auth=user).invoke("").data'

    assert '"state":"sent"' in script(cluster, code).replace(" ", "")


def test_api_client_invokes_a_service(public):
    code = """
response = APIClient(address, *user).invoke("orders.get", {"order_id": "7"})
result = [response.is_ok, response.data, response.cid]
"""

    is_ok, data, cid = script(public, code)

    assert (is_ok, data) == (True, SENT)
    assert re.fullmatch("[0-9a-f]{24}", cid)


def test_an_application_publishes_and_a_process_receives_as_the_documentation_has_it(quickstart, cluster):
    quickstart.junctor("create-pubsub-topic", "/orders/sent")
    quickstart.junctor(
        *("create-pubsub-endpoint", "clients", "--security", "clients"),
        *("--topic-patterns", "pub=/orders/*", "--topic-patterns", "sub=/orders/*"),
    )
    receive = documented("pubsub puller").replace("print(", "result.append(")
    receive = "result = []\n" + receive.replace('message["msg_id"], message["data"]', 'message["data"]')
    assert run("script", code=receive, environment=cluster.environment) == []

    pages = run(
        "flask",
        *("/orders/7/sent?by=post", "/orders/7/sent?by=post"),
        code=documented("pubsub flask"),
        environment=cluster.environment,
    )

    assert pages == [[200, {"msg_id": "order-sent-7"}]] * 2
    received = run("script", code=receive, environment=cluster.environment)
    assert received == [{"order_id": "7", "by": "post"}]
