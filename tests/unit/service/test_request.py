"""server/service/request.py"""

import pytest

from junctor.server.service.bunch import Bunch
from junctor.server.service.call import Call
from junctor.server.service.channel import PARAMS_PRIORITY
from junctor.server.service.io import ServiceIO
from junctor.server.service.request import Headers, HTTPRequest, Request, UploadedFile, parse_query
from junctor.server.service.types import Int
from junctor.sql.errors import InvalidInput

MULTIPART = (
    b'--xx\r\nContent-Disposition: form-data; name="a"\r\n\r\nvalue \xc3\xa9\r\n'
    b'--xx\r\nContent-Disposition: form-data; name="a"\r\n\r\nsecond\r\n'
    b'--xx\r\nContent-Disposition: form-data; name="f"; filename="x.txt"\r\nContent-Type: text/csv\r\n\r\n1,2\r\n--xx--\r\n'
)


def form(body, content_type):
    return HTTPRequest({"CONTENT_TYPE": content_type}, body=body)


def test_a_query_has_scalars_and_lists():
    assert parse_query("a=1&b=2&b=3&c=&d=x%20y+z,u") == {"a": "1", "b": ["2", "3"], "c": "", "d": "x y z,u"}
    assert parse_query("") == {}


def test_the_number_of_parameters_is_bounded():
    assert len(parse_query("&".join(f"a{i}=1" for i in range(1000)))) == 1000
    with pytest.raises(InvalidInput, match="more than 1000 parameters"):
        parse_query("a=1&" * 1001)


def test_the_http_request_is_read_from_the_environment():
    http = HTTPRequest(
        {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": "/orders/5",
            "QUERY_STRING": "a=1",
            "HTTP_USER_AGENT": "curl",
            "HTTP_X_REQUEST_ID": "7",
            "CONTENT_TYPE": "application/x-www-form-urlencoded; charset=utf-8",
            "CONTENT_LENGTH": "",
        },
        params={"id": "5"},
        body=b"b=2&c=%C3%A9",
    )
    assert (http.method, http.path, http.params, http.user_agent) == (
        "POST",
        "/orders/5",
        {"id": "5"},
        "curl",
    )
    assert http.GET == {"a": "1"}
    assert http.POST == http.get_form_data() == {"b": "2", "c": "é"}
    assert http.headers["x-request-ID"] == "7"
    assert sorted(http.headers) == ["content-type", "user-agent", "x-request-id"]


def test_a_query_that_was_parsed_is_not_parsed_again():
    query = {"a": "1"}
    assert HTTPRequest({"QUERY_STRING": "b=2"}, query=query).GET is query


def test_a_body_of_another_type_is_not_a_form():
    http = form(b"a=1", "application/json")
    assert http.POST == http.get_form_data() == {}


def test_headers_are_found_in_any_case():
    headers = Headers({"HTTP_X_A": "1", "wsgi.input": None})
    assert headers["X-a"] == headers.get("x-A") == "1"
    assert headers.get("missing") is None
    assert len(headers) == 1
    assert repr(headers) == "Headers(x-a)"


def test_a_multipart_form_has_fields_and_files():
    http = form(MULTIPART, "multipart/form-data; boundary=xx")
    assert http.get_form_data() == {
        "a": ["value é", "second"],
        "f": UploadedFile("x.txt", "text/csv", b"1,2"),
    }
    assert http.POST == {}


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (MULTIPART, "multipart/form-data"),
        (MULTIPART[:-20], "multipart/form-data; boundary=xx"),
        (MULTIPART.replace(b"\xc3\xa9", b"\xff"), "multipart/form-data; boundary=xx"),
        (MULTIPART.replace(b"xx--", b"xx") * 400, "multipart/form-data; boundary=xx"),
    ],
)
def test_a_malformed_form_is_refused(body, content_type):
    with pytest.raises(InvalidInput, match="form cannot be read"):
        form(body, content_type).get_form_data()


def test_the_input_without_a_declaration_is_the_message_and_the_parameters():
    call = Call("a", {"a": 1, "b": {"c": 2}}, channel_params={"a": "url"})
    request = Request(call)
    assert request.input == {"a": "url", "b": {"c": 2}}
    assert request.input.b.c == 2
    assert request.payload == {"a": 1, "b": {"c": 2}}
    call.params_priority = PARAMS_PRIORITY.MSG_OVER_CHANNEL_PARAMS
    assert Request(call).input.a == 1
    call.merge_channel_params = False
    call.params_priority = PARAMS_PRIORITY.DEFAULT
    assert Request(call).input.a == 1
    assert Request(Call("a", [1], channel_params={"a": "url"})).input == {"a": "url"}


def test_the_input_with_a_declaration_is_checked_at_once():
    declared = ServiceIO("orders.Get", input=(Int("id"),))
    assert Request(Call("a", channel_params={"id": "5"}), declared).input == {"id": 5}
    with pytest.raises(InvalidInput):
        Request(Call("a", channel_params={"id": "5"}, merge_channel_params=False), declared)


def test_a_request_has_what_the_call_has():
    call = Call("a", "x", b"x", "cid", data_format="json", transport="plain_http", channel_params={"a": 1})
    request = Request(call)
    assert (request.raw_request, request.cid, request.data_format, request.transport) == (
        b"x",
        "cid",
        "json",
        "plain_http",
    )
    assert (request.channel_params, request.merge_channel_params) == ({"a": 1}, True)
    assert request.http.method == ""
    assert request.http is request.http
    request.input = 5
    assert request.input == 5


def test_copies_share_nothing():
    request = Request(Call("a", {"a": [1]}))
    _ = request.input
    other = request.deepcopy()
    other.payload["a"].append(2)
    other.input.a.append(3)
    assert request.payload == request.input == {"a": [1]}
    assert type(request.bunchified()) is Bunch
