"""What the tests of publish/subscribe in the database share."""

import pytest

from junctor.sql.store import Store
from tests.helpers.queues import Queues


@pytest.fixture
def queues(store: Store) -> Queues:
    """The queues of a cluster that has been created a moment ago."""
    return Queues(store)
