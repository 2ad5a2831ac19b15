"""The PyPI package zato-client, unmodified, in real Django and Flask applications."""

import pytest

from tests.helpers.client_code import documented, require_zato_client, run


@pytest.fixture(autouse=True, scope="module")
def zato_client():
    require_zato_client()


@pytest.fixture(params=["django", "flask"])
def visit(request, junctor):
    """Gets pages of an application with the documented view: JSONClient in Django, AnyServiceInvoker in Flask."""

    def pages(*paths):
        code = documented(f"zato-client {request.param}")
        return run(request.param, *paths, code=code, environment=junctor.environment)

    return pages


def test_a_view_shows_what_a_service_returns_and_sees_when_it_fails(visit):
    found, (status, page) = visit("/orders/7", "/orders/0")
    assert found == [200, {"order_id": 7, "state": "sent"}]
    assert (status, page["error"]) == (502, "This did not work.")
    assert len(page["cid"]) == 24


def test_a_view_with_wrong_credentials_sees_that_a_call_failed(visit, junctor):
    junctor.password = junctor.admin_password = "wrong"
    [[status, _]] = visit("/orders/7")
    assert status == 502
