"""server/service/response.py"""

import pytest

from junctor.server.service.io import ServiceIO
from junctor.server.service.response import Response
from junctor.server.service.types import Int, Plain
from junctor.sql.errors import InvalidOutput

DECLARED = ServiceIO("orders.Get", output=(Int("id"), Plain("-name")))


def test_a_response_is_empty_and_ok_at_first():
    response = Response()
    assert (response.payload, response.rendered(), response.status_code) == ("", "", 200)
    assert (response.content_type, response.has_content_type) == ("text/plain", False)
    assert (response.has_headers, response.content_encoding) == (False, None)
    assert (response.result, response.result_details) == ("ZATO_OK", "")


def test_without_a_declaration_the_payload_is_what_was_assigned():
    response = Response()
    for payload in ({"a": 1}, [1], "x", b"x", None, 5):
        response.payload = payload
        assert response.payload is response.rendered() is payload


def test_headers_and_content_type_can_be_set():
    response = Response()
    response.headers["X-A"] = "1"
    response.content_type = "text/csv"
    assert response.has_headers
    assert (response.content_type, response.has_content_type) == ("text/csv", True)


def test_with_a_declaration_the_payload_is_filled():
    response = Response(DECLARED)
    response.payload.id = "5"
    assert response.rendered() == {"id": 5, "name": ""}
    response.payload = {"id": 6}
    assert response.payload.id == 6
    assert response.rendered() == {"id": 6, "name": ""}
    response.payload = [{"id": 7}]
    assert response.rendered() == [{"id": 7, "name": ""}]


def test_with_a_declaration_text_is_the_whole_response():
    response = Response(DECLARED)
    for payload in ("raw", b"raw"):
        response.payload = payload
        assert response.rendered() is payload
    response.payload = None
    assert response.rendered() == ""


def test_required_output_that_was_not_set_is_an_error():
    with pytest.raises(InvalidOutput):
        Response(DECLARED).rendered()
    response = Response(DECLARED)
    response.payload = 5
    with pytest.raises(InvalidOutput):
        response.rendered()


def test_only_input_declared_is_like_no_declaration():
    response = Response(ServiceIO("orders.Get", input=(Int("id"),)))
    response.payload = {"a": 1}
    assert response.rendered() == {"a": 1}
