"""The messages of a WebSocket channel, and whatever else a client may send in their place."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from junctor.server.websocket import client_messages, envelope
from junctor.server.websocket.envelope import Malformed

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)
FIELDS = [
    "action",
    "id",
    "timestamp",
    "token",
    "client_id",
    "client_name",
    "username",
    "secret",
    "in_reply_to",
    "ctx",
    "attrs",
]
ME = client_messages.Client("crm.1", "CRM")


def parsed(raw: bytes | str) -> envelope.ClientMessage | Malformed:
    """The message, or what is wrong with it; nothing else may happen, whatever it is."""
    try:
        return envelope.parse(raw)
    except Malformed as malformed:
        return malformed


@given(st.binary() | st.text() | st.binary().map(lambda raw: b'{"meta":' + raw))
def test_any_bytes_are_a_message_or_malformed(raw):
    found = parsed(raw)
    assert isinstance(found, envelope.ClientMessage) or found.problems


@given(st.dictionaries(st.sampled_from(FIELDS), JSON), JSON)
def test_any_fields_are_a_message_or_malformed(meta, data):
    raw = orjson.dumps({"meta": meta, "data": data}, option=orjson.OPT_NON_STR_KEYS)
    found = parsed(raw)
    if isinstance(found, Malformed):
        answer = envelope.error(found.message_id, 400, str(found))
        assert orjson.loads(answer)["meta"]["status"] == 400
    else:
        assert (found.id, found.size) == (meta["id"], len(raw))


@given(JSON)
def test_what_one_side_makes_the_other_understands(data):
    message_id, raw = client_messages.invoke(ME, "ws.token.1", data, {"hops": 1})
    message = envelope.parse(raw)
    assert (message.action, message.id, message.token) == ("invoke-service", message_id, "ws.token.1")
    assert (message.data, message.ctx) == (data, {"hops": 1})
    answer = client_messages.parse(envelope.response(message.id, data))
    assert answer.is_ok
    assert (answer.in_reply_to, answer.msg_type) == (message_id, "zwsx.rspok")
    assert answer.data == (
        data or (data if data in (0, False) and not isinstance(data, str | list | dict) else "")
    )


def test_a_session_is_created_with_credentials_that_are_not_shown():
    message_id, raw = client_messages.create_session(ME, "user", "canary")
    message = envelope.parse(raw)
    assert message.credentials == envelope.Credentials("crm.1", "CRM", "user", "canary")
    assert "canary" not in repr(message)
    answer = client_messages.parse(envelope.session_created(message_id, "ws.token.1"))
    assert (answer.msg_type, answer.status, answer.data) == ("zwsx.rspa", 200, {"token": "ws.token.1"})


def test_a_client_name_that_is_an_object_is_flattened_by_its_keys():
    raw = orjson.dumps({"meta": {"action": "create-session", "id": "a", "client_name": {"b": 2, "a": "x"}}})
    message = envelope.parse(raw)
    assert message.credentials is not None
    assert message.credentials.client_name == "a: x; b: 2"


def test_a_message_without_an_action_is_a_response():
    message = envelope.parse('{"meta": {"id": "a", "in_reply_to": "b"}, "data": {"response": 1}}')
    assert (message.action, message.in_reply_to) == ("client-response", "b")


def test_nesting_however_deep_harms_nothing():
    head = '{"meta":{"id":"a","action":"x"},"data":'
    assert isinstance(parsed(head + "[" * 900 + "]" * 900 + "}"), envelope.ClientMessage)
    assert isinstance(parsed(head + "[" * 100_000 + "]" * 100_000 + "}"), Malformed)


def test_all_problems_are_told_at_once():
    with pytest.raises(Malformed) as raised:
        envelope.parse('{"meta": {"action": 1, "ctx": 2, "token": "a\\u0000"}}')
    fields = {problem.field for problem in raised.value.problems}
    assert fields == {"meta.action", "meta.id", "meta.in_reply_to", "meta.ctx", "meta.token"}


def test_a_ping_fits_a_control_frame_and_empty_data_is_left_out():
    assert len(envelope.ping()) <= 125
    assert "data" not in orjson.loads(envelope.response("a", {}))
    assert orjson.loads(envelope.refusal())["data"] == "You are not authorized to access this resource"
