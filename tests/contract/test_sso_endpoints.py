"""Every endpoint of Single Sign-On, as the table declares it: one body of tests over all rows, and over all ways to each."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from junctor.server.sso.endpoints import ENDPOINTS, Endpoint, Field, Type, Who
from junctor.server.sso.http import SECRETS, by_path
from junctor.server.sso.openapi import TOKENS, document
from junctor.server.sso.rest_channels import CHANNELS
from junctor.sql.secrets import Keyring, new_key_line, parse_keys
from junctor.sql.store import Store
from tests.helpers.sso import SsoUnderTest
from tests.helpers.sso_rest import Answered, SsoRest

WITH_SESSION = (Who.USER, Who.OWNER_OR_SUPER_USER, Who.SUPER_USER)
LOGOUT = "/zato/sso/user/logout"
NO_SESSION, SUPER_USER_REQUIRED, UNKNOWN_APP, REFUSED = "E007001", "E005005", "E004001", "E005001"
ROOT = Path(__file__).resolve().parents[2]
_numbers = itertools.count(1)


def ways(applies: Callable[[Endpoint, str], bool] = lambda _, __: True) -> pytest.MarkDecorator:
    """A test's parameters: every way to every endpoint for which it ``applies``, given the endpoint and the path."""
    found = [
        (endpoint, method, path)
        for endpoint in ENDPOINTS
        for method, path in endpoint.ways
        if applies(endpoint, path)
    ]
    return pytest.mark.parametrize(
        ("endpoint", "method", "path"), found, ids=[f"{method} {path}" for _, method, path in found]
    )


every_way = ways()
needing_a_session = ways(lambda endpoint, path: endpoint.who in WITH_SESSION and path != LOGOUT)
for_super_users = ways(lambda endpoint, _: endpoint.who is Who.SUPER_USER)
about_a_user = ways(
    lambda endpoint, _: endpoint.who is Who.OWNER_OR_SUPER_USER and endpoint.field("user_id") is not None
)
that_tell_anything = ways(lambda _, path: path != LOGOUT)


@pytest.fixture(scope="module")
def sso(module_engine: Engine) -> Iterator[SsoUnderTest]:
    """A cluster for all tests of the module."""
    store = Store.create(module_engine, "sso endpoints", Keyring(parse_keys(new_key_line())))
    made = SsoUnderTest(store)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def rest(sso: SsoUnderTest) -> SsoRest:
    """Its REST API."""
    return SsoRest(sso)


@pytest.fixture(scope="module")
def user_ust(sso: SsoUnderTest) -> str:
    """The token of somebody who is no super-user."""
    sso.user("rose")
    return sso.log_in("rose")


@pytest.fixture(scope="module")
def super_user(sso: SsoUnderTest) -> str:
    """The token of a super-user."""
    return sso.super_user_caller().current_ust


def filler(field: Field) -> Any:
    """Something that a field can be."""
    if field.choices:
        return field.choices[0]
    return {
        Type.TEXT: "gothic-lion-42",
        Type.BOOLEAN: True,
        Type.INTEGER: 1,
        Type.TEXTS: ["one"],
        Type.OBJECTS: [{"name": "one", "value": 1}],
        Type.NAMES_OR_OBJECTS: ["one"],
        Type.OBJECT: {"id": "one"},
        Type.TIME: "2031-01-31T12:00:00",
        Type.ANY: "anything",
    }[field.type]


def fields_of(endpoint: Endpoint, **values: Any) -> dict[str, Any]:
    """A request with all required fields, and these values."""
    given = {field.name: filler(field) for field in endpoint.fields if field.is_required}
    given["current_app"] = "CRM"
    if endpoint.field("data") is not None:  # attributes: one or many
        given |= {field.name: filler(field) for field in endpoint.fields if field.name in ("name", "value")}
    return given | values


def token_of(endpoint: Endpoint) -> str:
    """The documented name of the caller's token; '' if nobody has to be logged in."""
    return next((field.name for field in endpoint.fields if field.name in TOKENS), "")


def is_envelope(answer: Answered) -> bool:
    """Whether an answer is of the envelope's form."""
    body = answer.body
    is_listed = (
        isinstance(body.get("sub_status"), list) if body.get("status") != "ok" else "sub_status" not in body
    )
    return body.get("status") in ("ok", "warning", "error") and len(body.get("cid", "")) == 24 and is_listed


@every_way
def test_what_is_missing_is_named_in_the_generic_answer(
    rest: SsoRest, endpoint: Endpoint, method: str, path: str
) -> None:
    answer = rest.raw(method, path, {})

    required = {field.name for field in endpoint.fields if field.is_required}
    assert answer.status == 400
    assert answer.body["result"] == "Error"
    assert {"cid", "details"} <= set(answer.body)
    assert {problem["field"] for problem in answer.body["problems"]} == required


@every_way
def test_null_is_as_if_the_field_was_absent(
    rest: SsoRest, endpoint: Endpoint, method: str, path: str
) -> None:
    nothing = {field.name: None for field in endpoint.fields}

    answer = rest.raw(method, path, nothing)

    required = {field.name for field in endpoint.fields if field.is_required and not field.is_nullable}
    assert answer.status == 400
    assert {problem["field"] for problem in answer.body["problems"]} == required


@that_tell_anything
def test_an_unknown_application_gets_200_and_an_error(
    rest: SsoRest, user_ust: str, endpoint: Endpoint, method: str, path: str
) -> None:
    given = fields_of(endpoint, current_app="Unknown")
    if name := token_of(endpoint):
        given[name] = user_ust

    answer = rest.raw(method, path, given)

    assert (answer.status, answer.body["status"], answer.codes) == (200, "error", [UNKNOWN_APP])
    assert is_envelope(answer)


@every_way
def test_a_secret_in_a_query_string_is_refused(
    rest: SsoRest, endpoint: Endpoint, method: str, path: str
) -> None:
    for field in endpoint.fields:
        for name in field.names:
            if field.is_secret:
                answer = rest.raw(method, path, fields_of(endpoint), f"{name}=zust123")
                assert (answer.status, name in answer.body["details"]) == (400, True)
                assert "zust123" not in str(answer.body)


@needing_a_session
def test_who_has_no_session_is_refused(rest: SsoRest, endpoint: Endpoint, method: str, path: str) -> None:
    answer = rest.raw(method, path, fields_of(endpoint))

    assert (answer.status, answer.body["status"], answer.codes) == (403, "error", [NO_SESSION])
    assert is_envelope(answer)


@for_super_users
def test_what_is_for_super_users_is_refused_to_others(
    rest: SsoRest, user_ust: str, endpoint: Endpoint, method: str, path: str
) -> None:
    answer = rest.raw(method, path, fields_of(endpoint, **{token_of(endpoint): user_ust}))

    assert (answer.status, answer.codes) == (403, [SUPER_USER_REQUIRED])


@about_a_user
def test_what_is_about_others_is_for_super_users_alone(
    rest: SsoRest, sso: SsoUnderTest, user_ust: str, endpoint: Endpoint, method: str, path: str
) -> None:
    other = sso.user(f"other{next(_numbers)}", "")
    optional = {field.name: filler(field) for field in endpoint.fields if field.name not in TOKENS}

    answer = rest.raw(
        method,
        path,
        {**optional, "current_app": "CRM", "user_id": other.user_id, token_of(endpoint): user_ust},
    )

    assert (answer.status, answer.codes) == (403, [SUPER_USER_REQUIRED])


@needing_a_session
def test_a_token_is_taken_under_each_of_its_names_and_from_the_header(
    rest: SsoRest, user_ust: str, endpoint: Endpoint, method: str, path: str
) -> None:
    given = fields_of(endpoint)
    documented = token_of(endpoint)
    del given[documented]
    named = [rest.raw(method, path, {**given, name: "unknown"}) for name in TOKENS]
    in_header = rest.raw(method, path, given, headers={"Authorization": "Bearer unknown"})
    basic = rest.raw(method, path, given, headers={"Authorization": "Basic dW5rbm93bg=="})

    assert [answer.codes for answer in (*named, in_header)] == [[NO_SESSION]] * 3
    assert basic.status == 400
    # The documented name counts, whatever the other one has, and the body before the header.
    both = {**given, documented: user_ust, next(name for name in TOKENS if name != documented): "unknown"}
    answer = rest.raw(method, path, both, headers={"Authorization": "Bearer unknown"})
    assert NO_SESSION not in answer.codes or endpoint.field("target_ust") or endpoint.field("public_id")


@every_way
def test_a_field_of_the_wrong_type_is_named(
    rest: SsoRest, endpoint: Endpoint, method: str, path: str
) -> None:
    for field in endpoint.fields:
        if field.type is Type.ANY:
            continue
        wrong: Any = [[]] if field.type in (Type.TEXTS, Type.OBJECTS, Type.NAMES_OR_OBJECTS) else [1.5]
        answer = rest.raw(method, path, fields_of(endpoint, **{field.name: wrong}))
        assert answer.status == 400, field.name
        assert [problem["field"] for problem in answer.body["problems"]] == [field.name]


@every_way
def test_text_is_bounded_and_has_no_null_characters(
    rest: SsoRest, endpoint: Endpoint, method: str, path: str
) -> None:
    for field in endpoint.fields:
        if field.type is Type.TEXT and not field.choices:
            for wrong in ("x" * (field.max + 1), "a\x00b"):
                answer = rest.raw(method, path, fields_of(endpoint, **{field.name: wrong}))
                assert [problem["field"] for problem in answer.body["problems"]] == [field.name]


@every_way
def test_a_choice_that_there_is_not_is_invalid_input(
    rest: SsoRest, endpoint: Endpoint, method: str, path: str
) -> None:
    for field in endpoint.fields:
        if field.choices:
            answer = rest.raw(method, path, fields_of(endpoint, **{field.name: "sideways"}))
            assert (answer.status, answer.codes) == (403, ["E008002"])


@every_way
def test_answers_are_not_to_be_cached(rest: SsoRest, endpoint: Endpoint, method: str, path: str) -> None:
    answer = rest.raw(method, path, fields_of(endpoint, current_app="Unknown"))

    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", by_path())
def test_each_path_has_a_channel_that_anybody_may_call(path: str) -> None:
    channels = [channel for channel in CHANNELS.values() if channel["url_path"] == path]

    assert len(channels) == 1
    assert channels[0]["method"] == ",".join(sorted(by_path()[path]))
    assert "security" not in channels[0]


def test_each_endpoint_has_one_documented_way() -> None:
    ways = [way for endpoint in ENDPOINTS for way in endpoint.ways]

    assert len(ways) == len(set(ways))


def test_every_field_and_output_is_explained() -> None:
    items = [
        (endpoint.path, item) for endpoint in ENDPOINTS for item in (*endpoint.fields, *endpoint.outputs)
    ]

    assert [f"{path} {item.name}" for path, item in items if not item.help.endswith(".")] == []
    assert [endpoint.path for endpoint in ENDPOINTS if not endpoint.summary] == []


def test_whatever_is_named_like_a_secret_is_one() -> None:
    words = ("ust", "password", "token", "secret", "code", "key")
    fields = [field for endpoint in ENDPOINTS for field in endpoint.fields if field.type is Type.TEXT]
    named = {field.name for field in fields if any(field.name.endswith(word) for word in words)}

    assert named <= SECRETS


def test_the_openapi_document_has_every_endpoint_and_is_served(rest: SsoRest) -> None:
    served = rest.raw("GET", "/zato/sso/openapi.json", None)

    assert served.status == 200
    assert served.body == document()
    operations = {(method.upper(), path) for path, item in document()["paths"].items() for method in item}
    assert operations == {(endpoint.method, endpoint.path) for endpoint in ENDPOINTS}
    ids = [operation["operationId"] for item in document()["paths"].values() for operation in item.values()]
    assert len(ids) == len(set(ids))


def test_no_operation_of_the_openapi_document_has_a_secret_in_its_url() -> None:
    parameters = [
        parameter["name"]
        for item in document()["paths"].values()
        for operation in item.values()
        for parameter in operation.get("parameters", ())
    ]

    assert SECRETS.isdisjoint(parameters)


def test_the_page_of_the_rest_api_is_what_the_table_says() -> None:
    done = subprocess.run([sys.executable, ROOT / "docs" / "render_sso.py", "--check"], check=False)

    assert done.returncode == 0, "run: python docs/render_sso.py"


def test_nothing_is_here_while_single_sign_on_is_switched_off(rest: SsoRest, sso: SsoUnderTest) -> None:
    sso.settings(is_active=False)
    try:
        endpoint = ENDPOINTS[0]
        answers = [
            rest.raw(endpoint.method, endpoint.path, fields_of(endpoint)),
            rest.raw("GET", "/zato/sso/openapi.json", None),
        ]
    finally:
        sso.settings(is_active=True)

    assert [answer.status for answer in answers] == [404, 404]
    assert all("switched off" in answer.body["details"] for answer in answers)


def test_an_application_that_is_not_told_gets_the_generic_code(rest: SsoRest, sso: SsoUnderTest) -> None:
    sso.settings(apps_inform_if_app_invalid=False)
    try:
        answer = rest("POST", "/zato/sso/user/login", current_app="Unknown", username="a", password="b")
    finally:
        sso.settings(apps_inform_if_app_invalid=True)

    assert (answer.status, answer.body["status"], answer.codes) == (200, "error", [REFUSED])


@pytest.mark.parametrize("current_app", ["CRM", "Unknown"])
@pytest.mark.parametrize("ust", ["", "unknown", "valid"])
def test_a_log_out_is_always_ok(rest: SsoRest, sso: SsoUnderTest, ust: str, current_app: str) -> None:
    if ust == "valid":
        sso.user(name := f"leaver{next(_numbers)}", "")
        ust = sso.log_in(name)

    answer = rest("POST", LOGOUT, ust=ust, current_app=current_app)

    assert (answer.status, answer.body["status"], answer.keys) == (200, "ok", set())
    assert ust in ("", "unknown") or sso.sso.sessions.find(ust) is None


def test_services_cannot_call_the_endpoints_other_than_over_http(sso: SsoUnderTest, rest: SsoRest) -> None:
    from junctor.server.service.call import Call
    from junctor.sql.errors import BadRequest

    with pytest.raises(BadRequest, match=r"services have self\.sso"):
        sso.context.invoker.invoke(Call("zato.sso.rest.user.login", {"username": "a"}))
