"""What a worker claims, and what becomes of it when the answer of the database is lost, on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine

from junctor.server.pubsub.claims import Claims
from junctor.server.pubsub.ownership import Claimed
from junctor.sql.errors import StoreUnavailable
from junctor.sql.store import Store
from tests.helpers.backlog import add_subscriptions, state
from tests.helpers.receivers import ReceiverUnderTest, WorkerUnderTest


@pytest.fixture
def worker(store: Store) -> WorkerUnderTest:
    """A worker."""
    return WorkerUnderTest(store, ReceiverUnderTest())


@pytest.fixture
def other(store: Store) -> WorkerUnderTest:
    """Another one."""
    return WorkerUnderTest(store, ReceiverUnderTest())


@pytest.fixture
def claims(worker: WorkerUnderTest) -> Claims:
    """What the worker claims; it has looked at what it owns a moment ago."""
    made = Claims(worker.ownership)
    made.tidy((), ())
    return made


@pytest.fixture
def sub_id(store: Store) -> int:
    """A subscription."""
    return add_subscriptions(store)[0]


def losing_its_answer(action: Callable[..., Any]) -> Callable[..., Any]:
    """Does it, and nobody hears of that."""

    def lost(*arguments: Any, **options: Any) -> Any:
        action(*arguments, **options)
        raise StoreUnavailable("The connection was lost.")

    return lost


@pytest.mark.parametrize("by_force", [False, True])
def test_what_was_claimed_without_the_worker_knowing_is_given_back(
    claims: Claims, worker: WorkerUnderTest, other: WorkerUnderTest, sub_id: int, *, by_force: bool
) -> None:
    ownership: Any = worker.ownership
    ownership.claim = losing_its_answer(ownership.claim)
    with pytest.raises(StoreUnavailable):
        claims.claim([sub_id], by_force=by_force)
    assert other.ownership.claim([sub_id]) == []  # its owner lives

    claims.tidy((), ())

    assert other.ownership.claim([sub_id]) == [Claimed(sub_id, 2, None)]


def test_what_it_delivers_and_what_it_gives_back_already_stays(
    claims: Claims, worker: WorkerUnderTest, store: Store, engine: Engine
) -> None:
    delivered, ending = add_subscriptions(store, 2)
    claims.claim([delivered, ending])
    claims._is_in_doubt = True
    claims.tidy({delivered}, {ending})
    assert [state(engine, one).worker_id for one in (delivered, ending)] == [worker.id, worker.id]


def test_a_claim_under_way_is_left_alone(
    claims: Claims, worker: WorkerUnderTest, engine: Engine, sub_id: int
) -> None:
    ownership: Any = worker.ownership
    claim = ownership.claim

    def tidied_before_it_is_known(*arguments: Any, **options: Any) -> Any:
        found = claim(*arguments, **options)
        claims._is_in_doubt = True
        claims.tidy((), ())
        return found

    ownership.claim = tidied_before_it_is_known
    assert claims.claim([sub_id]) == [Claimed(sub_id, 1, None)]
    assert state(engine, sub_id).worker_id == worker.id


def test_what_could_not_be_released_is_later(
    claims: Claims, worker: WorkerUnderTest, engine: Engine, sub_id: int
) -> None:
    (claimed,) = claims.claim([sub_id])
    ownership: Any = worker.ownership
    release = ownership.release

    def refuse(*_: Any) -> None:
        raise StoreUnavailable("The database is away.")

    ownership.release = refuse
    claims.release([(sub_id, claimed.epoch, [])])
    assert state(engine, sub_id).worker_id == worker.id

    ownership.release = release
    claims.tidy((), ())
    assert state(engine, sub_id).worker_id is None
