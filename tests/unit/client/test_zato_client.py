"""The PyPI package zato-client, unmodified, in real Django and Flask applications."""

import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

RUNNER = Path(__file__).with_name("zato_client.py")


@pytest.fixture(autouse=True, scope="module")
def zato_client():
    try:
        assert version("zato-client") == "3.2.1"
    except PackageNotFoundError:
        if os.environ.get("CI"):
            raise
        pytest.skip("needs: pip install --no-deps -r tests/requirements-zato-client.txt")


@pytest.fixture(params=["django", "flask"])
def visit(request, documented, junctor):
    """Gets pages of an application with the documented view: JSONClient in Django, AnyServiceInvoker in Flask."""

    def pages(*paths):
        done = subprocess.run(
            [sys.executable, str(RUNNER), request.param, *paths],
            input=documented(f"zato-client {request.param}"),
            env=os.environ | junctor.environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return pages


def test_a_view_shows_what_a_service_returns_and_sees_when_it_fails(visit):
    found, (status, page) = visit("/orders/7", "/orders/0")
    assert found == [200, {"order_id": "7", "state": "sent"}]
    assert (status, page["error"]) == (502, "This did not work.")
    assert len(page["cid"]) == 24


def test_a_view_with_wrong_credentials_sees_that_a_call_failed(visit, junctor):
    junctor.password = junctor.admin_password = "wrong"
    [[status, _]] = visit("/orders/7")
    assert status == 502
