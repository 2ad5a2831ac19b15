"""The clients of a worker, in memory, and what their rows lack."""

from __future__ import annotations

import pytest

from junctor.server.websocket import clients as module
from junctor.server.websocket.clients import ClientSession, ConnectedClients
from tests.helpers.client_session import LocalClient

MANY = 1000


@pytest.fixture
def clients() -> ConnectedClients:
    return ConnectedClients()


def written(clients: ConnectedClients, limit: int = MANY) -> tuple[list[ClientSession], list[str], bool]:
    changes = clients.take(limit)
    return list(changes.come), list(changes.gone), changes.is_anew


def test_a_client_is_found_by_its_id_from_its_arrival_to_its_departure(clients: ConnectedClients) -> None:
    client = LocalClient("ws.1")
    assert clients.get("ws.1") is None
    clients.add(client)
    assert clients.get("ws.1") is client
    assert len(clients) == 1
    clients.remove(client)
    assert clients.get("ws.1") is None
    assert not len(clients)


def test_the_clients_of_a_channel_are_listed_in_the_order_in_which_they_came(
    clients: ConnectedClients,
) -> None:
    first, other, second = LocalClient(), LocalClient(channel_id=2), LocalClient()
    for client in (first, other, second):
        clients.add(client)
    assert clients.sessions(1) == [first, second]
    assert clients.sessions(3) == []
    assert clients.sessions() == [first, other, second]


def test_a_client_that_was_never_there_may_be_removed(clients: ConnectedClients) -> None:
    clients.add(LocalClient("ws.1"))
    clients.remove(LocalClient("ws.1"))
    clients.remove(LocalClient("ws.2"))
    assert clients.get("ws.1") is not None
    assert written(clients)[1] == []


def test_what_comes_and_what_goes_is_to_be_written_once(clients: ConnectedClients) -> None:
    client, other = LocalClient("ws.1"), LocalClient("ws.2")
    assert not clients.changed.is_set()
    clients.add(client)
    clients.add(other)
    assert clients.changed.is_set()
    assert written(clients) == ([client, other], [], False)
    assert not clients.changed.is_set()
    assert not clients.take(MANY)
    clients.remove(client)
    assert written(clients) == ([], ["ws.1"], False)


def test_who_has_left_before_it_was_written_is_not_written(clients: ConnectedClients) -> None:
    client = LocalClient("ws.1")
    clients.add(client)
    clients.remove(client)
    assert written(clients) == ([], ["ws.1"], False)


def test_who_logs_in_again_under_another_name_is_written_and_not_deleted(clients: ConnectedClients) -> None:
    client = LocalClient("ws.1")
    clients.add(client)
    clients.take(MANY)
    clients.remove(client)
    clients.add(client)
    assert written(clients) == ([client], [], False)


def test_changes_come_in_batches(clients: ConnectedClients) -> None:
    made = [LocalClient() for _ in range(5)]
    for client in made:
        clients.add(client)
    clients.remove(made.pop())
    assert written(clients, 3) == (made[:3], [f"ws.test-{_number(made[-1]) + 1}"], False)
    assert clients.changed.is_set()
    assert written(clients, 3) == (made[3:], [], False)


def _number(client: LocalClient) -> int:
    return int(client.pub_client_id.rpartition("-")[2])


def test_what_could_not_be_written_is_taken_again_but_for_who_left_meanwhile(
    clients: ConnectedClients,
) -> None:
    stays, leaves, gone = LocalClient("ws.1"), LocalClient("ws.2"), LocalClient("ws.3")
    for client in (stays, leaves, gone):
        clients.add(client)
    clients.remove(gone)
    changes = clients.take(MANY)
    clients.remove(leaves)
    clients.put_back(changes)
    assert clients.changed.is_set()
    come, left, _ = written(clients)
    assert come == [stays]
    assert sorted(left) == ["ws.2", "ws.3"]


def test_a_rewrite_has_everybody_and_no_departures(clients: ConnectedClients) -> None:
    stays, gone = LocalClient("ws.1"), LocalClient("ws.2")
    clients.add(stays)
    clients.add(gone)
    clients.take(MANY)
    clients.remove(gone)
    clients.rewrite()
    changes = clients.take(MANY)
    assert (list(changes.come), list(changes.gone), changes.is_anew) == ([stays], [], True)
    clients.put_back(changes)
    assert written(clients) == ([stays], [], True)
    assert written(clients) == ([], [], False)


def test_departures_that_cannot_be_written_do_not_pile_up(
    clients: ConnectedClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_GONE", 10)
    stays = LocalClient()
    clients.add(stays)
    for _ in range(50):
        client = LocalClient()
        clients.add(client)
        clients.remove(client)
    assert written(clients) == ([stays], [], True)
