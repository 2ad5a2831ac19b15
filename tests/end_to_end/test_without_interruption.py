"""Clients that call all the time do not notice that servers are reloaded, stopped and started, or that services change."""

import pytest

from tests.helpers.load import Request, load


@pytest.fixture
def clients(shop):
    """Two that read and two that write."""
    price = f"/{shop.channel}/tea"
    get = Request(f"{price}?quantity=3", auth=shop.auth)
    post = Request(price, "POST", b'{"quantity": 3}', shop.auth)
    return [get, post, get, post]


def test_a_reload_replaces_every_worker_and_loses_no_request(quickstart, clients):
    before = quickstart.workers()

    with load(quickstart.address, clients) as calls:
        assert quickstart.json("reload")["reloaded"] == ["server1", "server2"]

    assert calls.failures == []
    quickstart.wait_until_healthy()
    assert not before.keys() & {quickstart.worker(name).pid for name in ("server1", "server2")}


def test_a_reload_of_one_server_leaves_the_other_alone(quickstart, clients):
    pids = {name: quickstart.worker(name).pid for name in ("server1", "server2")}

    with load(quickstart.address, clients) as calls:
        quickstart.junctor("reload", quickstart.path / "server2")

    assert calls.failures == []
    assert quickstart.worker("server1").pid == pids["server1"]
    assert quickstart.worker("server2").pid != pids["server2"]
    quickstart.wait_until_healthy()


def test_stopping_and_starting_a_server_loses_no_request_that_may_be_repeated(quickstart, clients):
    with load(quickstart.address, clients[::2]) as calls:
        quickstart.junctor("stop", quickstart.path / "server1")
        calls.wait_for_more()
        quickstart.junctor("start", quickstart.path / "server1")

    assert calls.failures == []
    quickstart.wait_until_healthy()


def test_deploying_and_changing_channels_loses_no_request(quickstart, shop, clients):
    with load(quickstart.address, clients) as calls:
        quickstart.junctor("deploy", quickstart.file("shop.py", (quickstart.home / "shop.py").read_text()))
        quickstart.junctor("edit-channel-rest", shop.channel, "--timeout", "7")
        quickstart.junctor("edit-security-basic-auth", shop.security, "--realm", "Shop")

    assert calls.failures == []
