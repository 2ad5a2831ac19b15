"""WebSocket clients that subscriptions are attached to: what a worker keeps of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from junctor.server.metrics import Metrics
from junctor.server.pubsub.claims import Claims
from junctor.server.pubsub.deliveries import Deliveries
from junctor.server.pubsub.delivery import Parts
from junctor.server.pubsub.ownership import Claimed
from junctor.sql.errors import StoreUnavailable
from tests.helpers.receivers import SubscriptionUnderTest


class Session:
    """A client that only says when it has gone."""

    def __init__(self) -> None:
        self.farewells: list[Callable[[Any], None]] = []

    def when_gone(self, farewell: Callable[[Any], None]) -> None:
        """Is called back when it has gone."""
        self.farewells.append(farewell)


@pytest.fixture
def deliveries() -> Deliveries:
    """Deliveries whose claims all succeed, and that fetch nothing."""
    epochs = itertools.count(1)
    exchange: Any = SimpleNamespace(fetch=lambda *_: None, leave=lambda _owned: None)
    context: Any = SimpleNamespace(pubsub=SimpleNamespace(hints=None))
    made = Deliveries(context)
    ownership: Any = SimpleNamespace(
        claim=lambda sub_ids, by_force: [Claimed(sub_ids[0], next(epochs), None)] if by_force else []
    )
    made._ownership, made._claims = ownership, Claims(ownership)
    made._parts = Parts(exchange, Metrics(), may_send=lambda: False)
    return made


def test_a_client_that_resumes_again_and_again_is_remembered_once(deliveries: Deliveries) -> None:
    session: Any = Session()
    for sub_id in (1, 2, 1, 1, 2):
        subscription: Any = SubscriptionUnderTest(sub_id)
        deliveries.attach(subscription, session)
    assert len(session.farewells) == 1
    assert sorted(state["sub_id"] for state in deliveries.states()) == [1, 2]


def test_the_subscription_of_a_client_that_another_one_resumes_is_the_others(deliveries: Deliveries) -> None:
    before: Any = Session()
    after: Any = Session()
    subscription: Any = SubscriptionUnderTest(1)
    deliveries.attach(subscription, before)
    deliveries.attach(subscription, after)
    before.farewells[0](before)
    assert [state["epoch"] for state in deliveries.states()] == [2]


def test_clients_stay_attached_when_their_worker_has_another_row_and_the_database_is_away_at_first(
    deliveries: Deliveries,
) -> None:
    session: Any = Session()
    subscription: Any = SubscriptionUnderTest(1)
    deliveries.attach(subscription, session)
    ownership: Any = deliveries._ownership
    claim = ownership.claim

    def refuse(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("The database is away.")

    ownership.claim = refuse
    with pytest.raises(StoreUnavailable):
        deliveries._renamed(7)
    assert len(deliveries.states()) == 1

    ownership.claim = claim
    deliveries._renamed(7)
    assert [(state["sub_id"], state["epoch"]) for state in deliveries.states()] == [(1, 2)]
