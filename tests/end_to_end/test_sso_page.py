"""The first ten minutes of Single Sign-On in the documentation work as they stand there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.helpers.pages import follow
from tests.helpers.quickstart import QuickstartUnderTest
from tests.helpers.waiting import wait_until

PAGE = Path(__file__).parents[2] / "docs" / "sso.md"


def test_ann_signs_up_logs_in_and_sets_a_second_factor_up_as_the_page_says(
    quickstart: QuickstartUnderTest, tmp_path: Path
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("The page calls channels with curl, which is not installed.")
    variables = {"ENV": str(quickstart.path), "ADDRESS": quickstart.address}

    output = follow(PAGE, tmp_path, quickstart.environment | variables)

    assert "User 'ann' is approved." in output
    assert '"email":"ann@example.com"' in output
    assert '"recovery_codes":' in output
    assert "E005008" in output
    assert "are as they were written." in output
    refused = quickstart.json("audit", "list", "--op", "user.login", "--outcome", "refused")
    (event,) = [item for item in refused["items"] if item["app"] == "intranet"]
    assert event["reason"].startswith("E005008")
    logs = list(quickstart.path.glob("server*/logs/audit-pii.log"))
    wait_until(
        lambda: any(event["cid"] in log.read_text() for log in logs), 10, "the event is not in the log"
    )


def test_users_are_administered_by_commands(quickstart: QuickstartUnderTest) -> None:
    json = quickstart.json
    made = json("sso", "create-user", "carl", "--generate-password")
    assert json("sso", "show", "carl")["user_id"] == made["user_id"]
    assert "E001002" in quickstart.refused(20, "sso", "create-user", "carl", "--generate-password")
    opened = json("sso", "login", "carl")
    assert len(json("sso", "sessions", "carl")["items"]) == 1
    quickstart.junctor("sso", "end-session", opened["public_id"])
    quickstart.junctor("sso", "erase", "carl", "--yes")
    quickstart.refused(22, "sso", "show", "carl")
    wait_until(lambda: not json("audit", "verify")["unchained"], 15, "events are not linked")
    assert json("audit", "list", "--target", made["user_id"])["items"][0]["position"]
