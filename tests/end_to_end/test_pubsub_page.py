"""The story of publish/subscribe in the documentation works as it stands there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.helpers.pages import follow
from tests.helpers.quickstart import QuickstartUnderTest

PAGE = Path(__file__).parents[2] / "docs" / "pubsub.md"


def test_orders_are_published_received_and_corrected_as_the_page_says(
    quickstart: QuickstartUnderTest, tmp_path: Path
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("The page calls channels with curl, which is not installed.")
    variables = {"ENV": str(quickstart.path), "ADDRESS": quickstart.address}

    output = follow(PAGE, tmp_path, quickstart.environment | variables)

    assert '"data":{"customer":"Ann","product":"tea"}' in output
    assert '"delivery_count":0' in output
    assert "billing (billing): It became dead letter" in output
    assert "An order without a customer" in output
    assert "Queued 1 dead letter again." in output
