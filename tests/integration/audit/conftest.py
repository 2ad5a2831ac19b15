"""The audit trail that these tests look at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from junctor.sql.store import Store
from tests.helpers.audit import AuditUnderTest


@pytest.fixture
def audit(store: Store, tmp_path: Path) -> Iterator[AuditUnderTest]:
    """An audit trail without any events."""
    made = AuditUnderTest(store, tmp_path)
    yield made
    made.stop()
