"""Leases: one owner at a time, whoever dies and whatever the clocks of workers and the database say."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from time import monotonic
from typing import Any

import gevent
import pytest
from sqlalchemy import delete, func, insert, select, update

from junctor.server.runtime import lease
from junctor.server.runtime.lease import Lease, Leases
from junctor.sql.engine import connect
from junctor.sql.errors import StoreUnavailable
from junctor.sql.store import Store
from junctor.sql.tables.process import Worker
from junctor.sql.tables.websocket import Lease as Row
from tests.helpers.waiting import eventually

NAME = "outconn.1"
Make = Callable[[], "Member"]
_pids = itertools.count(1)


class Member:
    """A worker of the cluster, with its leases."""

    def __init__(self, store: Store) -> None:
        self.store = store
        values = {"cluster_id": store.cluster_id, "server": "s", "host": "h", "pid": next(_pids)}
        with store.engine.begin() as connection:
            self.id: int | None = connection.execute(
                insert(Worker).values(values).returning(Worker.id)
            ).scalar_one()
        self.leases = Leases(store, lambda: self.id)

    def lease(self, name: str = NAME) -> Lease:
        """The lease after it was asked for."""
        wanted = self.leases.want(name)
        self.leases.renew()
        return wanted

    def die(self) -> None:
        """Its row is gone, as when a worker that has died is noticed."""
        with self.store.engine.begin() as connection:
            connection.execute(delete(Worker).where(Worker.id == self.id))


def expire(store: Store, seconds: float = 0) -> None:
    """Makes all leases run out in the database, so long ago."""
    with store.engine.begin() as connection:
        connection.execute(
            update(Row).values(expires=func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 0, seconds))
        )


def rows(store: Store) -> list[str]:
    with store.engine.connect() as connection:
        return list(connection.scalars(select(Row.name).where(Row.cluster_id == store.cluster_id)))


@pytest.fixture
def make(store: Store) -> Make:
    """Makes workers of one cluster."""
    return lambda: Member(store)


def test_the_first_who_asks_has_it_and_keeps_it(make: Make) -> None:
    first, second = make(), make()
    assert first.lease().is_held
    assert not second.lease().is_held
    first.leases.renew()
    second.leases.renew()
    assert first.lease().is_held
    assert not second.lease().is_held
    assert first.lease().fence == 1


def test_who_it_is_has_been_decided_in_both_cases(make: Make) -> None:
    first, second = make(), make()
    wanted = first.leases.want(NAME)
    assert not wanted.decided.is_set()
    first.leases.renew()
    assert wanted.decided.is_set()
    assert second.lease().decided.is_set()


def test_a_lease_that_has_run_out_goes_to_whoever_asks_first_with_a_larger_fence(
    make: Make, store: Store
) -> None:
    first, second = make(), make()
    mine = first.lease()
    expire(store)
    taken = second.lease()
    assert (taken.is_held, taken.fence) == (True, 2)
    first.leases.renew()
    assert not mine.is_held
    expire(store)
    first.leases.renew()
    assert (mine.is_held, mine.fence) == (True, 3)


def test_an_owner_that_was_away_for_too_long_is_a_new_owner_even_if_nobody_else_was_one(
    make: Make, store: Store
) -> None:
    first = make()
    assert first.lease().fence == 1
    expire(store)
    assert first.lease().fence == 2


def test_the_lease_of_a_worker_that_is_gone_is_free_at_once(make: Make) -> None:
    first, second = make(), make()
    assert first.lease().is_held
    assert not second.lease().is_held
    first.die()
    assert second.lease().is_held
    assert second.lease().fence == 2


def test_what_is_given_up_is_free_at_once(make: Make) -> None:
    first, second = make(), make()
    mine = first.lease()
    changes: list[bool] = []
    mine.on_change = changes.append
    first.leases.give_up(NAME)
    first.leases.give_up("unknown")
    assert not mine.is_held
    assert changes == []
    first.leases.return_()
    assert second.lease().is_held


def test_what_is_wanted_again_is_not_returned(make: Make) -> None:
    first, second = make(), make()
    first.lease()
    first.leases.give_up(NAME)
    assert first.leases.want(NAME) is first.leases.want(NAME)
    first.leases.return_()
    assert not second.lease().is_held
    assert first.lease().is_held


def test_a_lease_that_was_given_up_while_it_was_asked_for_is_not_held(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make(), make()
    ask = first.leases._ask

    def give_up_meanwhile(worker: int, names: list[str]) -> dict[str, int]:
        granted = ask(worker, names)
        first.leases.give_up(NAME)
        return granted

    monkeypatch.setattr(first.leases, "_ask", give_up_meanwhile)
    assert not first.lease().is_held
    first.leases.return_()
    assert second.lease().is_held


def test_leases_of_other_clusters_and_other_names_are_others(make: Make, store: Store) -> None:
    other = Store.create(store.engine, f"other-of-{store.cluster_id}", store.keyring)
    assert make().lease().is_held
    assert Member(other).lease().is_held
    assert make().lease("outconn.2").is_held


def test_one_statement_asks_for_many(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = make(), make()
    for number in range(50):
        (first if number % 2 else second).leases.want(f"n{number}")
    first.leases.renew()
    for number in range(50):
        second.leases.want(f"n{number}")
    second.leases.renew()
    held = [second.leases.want(f"n{number}").is_held for number in range(50)]
    assert held == [number % 2 == 0 for number in range(50)]
    monkeypatch.setattr(lease, "MAX_LEASES", 50)
    with pytest.raises(ValueError, match="50 leases"):
        second.leases.want("one more")


def test_a_worker_without_a_row_asks_for_nothing(make: Make, store: Store) -> None:
    member = make()
    member.id = None
    assert not member.lease().is_held
    member.leases.give_up(NAME)
    member.leases.return_()
    assert rows(store) == []


def test_changes_of_the_owner_are_told_once_each(make: Make, store: Store) -> None:
    first, second = make(), make()
    changes: list[bool] = []
    first.leases.want(NAME).on_change = changes.append
    first.leases.renew()
    first.leases.renew()
    assert changes == [True]
    expire(store)
    second.lease()
    first.leases.renew()
    first.leases.renew()
    assert changes == [True, False]


def test_an_owner_gives_up_by_its_own_clock_before_the_database_lets_another_have_it(make: Make) -> None:
    changes: list[bool] = []
    held = Lease(NAME)
    held.on_change = changes.append
    held.granted(5, monotonic() + 60)
    held.look()
    assert held.is_held
    held.granted(5, monotonic() + lease.MARGIN)
    assert not held.is_held
    assert changes == [True]
    held.look()
    held.look()
    assert changes == [True, False]
    mine = make().lease()
    now = monotonic()
    assert lease.TTL - 2 < mine._held_until - now <= lease.TTL


def test_an_owner_stops_when_the_database_is_away_and_goes_on_when_it_is_back(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, seconds in (("TTL", 0.6), ("MARGIN", 0.1), ("RENEW_INTERVAL", 0.02), ("TICK", 0.01)):
        monkeypatch.setattr(lease, name, seconds)
    member = make()
    right = member.store.engine
    mine = member.leases.want(NAME)
    with gevent.Timeout(30):
        member.leases.start()
        eventually(lambda: mine.is_held)
        member.store.engine = connect("postgresql://nobody@127.0.0.1:1/none")
        eventually(lambda: "has run out: the object database could not be reached" in caplog.text)
        assert not mine.is_held
        member.store.engine = right
        eventually(lambda: mine.is_held)
        assert mine.fence >= 1
        member.leases.stop()
    assert not mine.is_held


def test_a_worker_that_stops_lets_others_have_all_at_once(make: Make) -> None:
    first, second = make(), make()
    changes: list[bool] = []
    for name in ("a", "b"):
        first.lease(name).on_change = changes.append
    first.leases.stop()
    assert changes == []
    assert second.lease("a").is_held
    assert second.lease("b").is_held


def test_stopping_without_a_database_only_takes_a_moment(make: Make) -> None:
    member = make()
    mine = member.lease()
    member.store.engine = connect("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(StoreUnavailable):
        member.leases.renew()
    member.leases.stop()
    assert not mine.is_held


def test_errors_that_nobody_expects_do_not_end_the_renewal(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lease, "RENEW_INTERVAL", 0.01)
    member = make()
    ask = member.leases._ask
    failures = iter([KeyError("a"), gevent.Timeout(0.001)])

    def fails(*arguments: Any) -> dict[str, int]:
        for error in failures:
            if isinstance(error, gevent.Timeout):
                gevent.sleep(60)  # ended by the limit of a statement
            raise error
        return ask(*arguments)

    monkeypatch.setattr(lease, "STATEMENT_TIMEOUT", 0.2)
    monkeypatch.setattr(member.leases, "_ask", fails)
    mine = member.leases.want(NAME)
    with gevent.Timeout(30):
        member.leases.start()
        eventually(lambda: mine.is_held)
        member.leases.stop()
    assert "Leases cannot be renewed." in caplog.text


def test_rows_that_nobody_has_wanted_for_a_day_are_forgotten(make: Make, store: Store) -> None:
    member = make()
    member.lease("old")
    expire(store, 86_500)
    member.leases.give_up("old")
    member.lease("new")
    member.leases._forget()
    assert rows(store) == ["new"]
