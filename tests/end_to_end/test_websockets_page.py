"""The story of two clusters in the documentation works as it stands there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.pages import follow
from tests.helpers.quickstart import QuickstartUnderTest, running
from tests.helpers.waiting import wait_until

PAGE = Path(__file__).parents[2] / "docs" / "websockets.md"


@pytest.fixture
def other_cluster(public_directory: Path) -> Iterator[QuickstartUnderTest]:
    """An environment beside the one of all tests."""
    yield from running(public_directory / "websockets-page")


def logged(environment: QuickstartUnderTest) -> str:
    """What its servers have logged."""
    return "".join(path.read_text() for path in environment.logs() if path.name == "server.log")


def test_two_clusters_are_linked_as_the_page_says(
    quickstart: QuickstartUnderTest, other_cluster: QuickstartUnderTest, tmp_path: Path
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("The page calls channels with curl, which is not installed.")
    variables = {
        "CLUSTER1": str(quickstart.path),
        "CLUSTER2": str(other_cluster.path),
        "ADDRESS1": quickstart.address,
        "ADDRESS2": other_cluster.address,
        "LINK": other_cluster.address.replace("http:", "ws:") + "/link",
    }

    try:
        output = follow(PAGE, tmp_path, quickstart.environment | variables)
        wait_until(lambda: "'in_stock': 5" in logged(quickstart), 20, "The hook was not called")
    finally:
        quickstart.junctor(
            "delete-outgoing-websocket", "Cluster 2", "--yes"
        )  # its other end is there for this test alone

    assert '{"can_be_sent":true}' in output
    assert '{"told":2}' in output
    assert "WSX outconn - Cluster 2" in output
    assert "order-1" in output
