import json
import logging
import math
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from junctor.server.audit.event_row import MAX_EXTRA, clean, extra_of, row_of
from junctor.server.audit.seal import FIELDS, Seals, content
from junctor.server.audit.trail import Event
from junctor.server.log import AUDIT_LOGGER, Logs
from junctor.sql.secrets import Keyring, new_key_line, parse_keys

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), ANY_JSON, max_size=5))
def test_whatever_extra_is_can_be_stored_and_is_the_same_the_second_time(extra):
    found = extra_of(extra)
    text = json.dumps(found)
    assert "\\u0000" not in text
    assert json.loads(text) == found
    assert extra_of(found) == found


def test_numbers_are_those_that_a_database_gives_back():
    values = {"a": 1.0, "b": 1e22, "c": 2**60, "d": math.nan, "e": -0.0, "f": 0.5, "g": 5e-324}
    assert extra_of(values) == {"a": 1, "b": "1e+22", "c": str(2**60), "d": "nan", "e": 0, "f": 0.5, "g": "5e-324"}  # fmt: skip


def test_what_is_no_json_becomes_text():
    moment = datetime(2026, 11, 24, tzinfo=UTC)
    assert extra_of({"at": moment, "on": date(2026, 11, 24), "of": {1}, 3: b"x"}) == {
        "at": moment.isoformat(),
        "on": "2026-11-24",
        "of": [1],
        "3": "b'x'",
    }


def test_what_is_too_large_is_left_out():
    assert list(extra_of({"a": "x" * (MAX_EXTRA + 1)})) == ["omitted_bytes"]
    deep = {}
    for _ in range(100):
        deep = {"a": deep}
    assert len(str(extra_of(deep))) < 1000


def test_texts_are_cut_and_cleaned():
    assert clean("a\x00b\ud800c", 3) == "a\ufffdb"
    assert clean("\ud800", 3) == "?"
    assert clean(12345, 3) == "123"


def test_no_two_seals_of_an_event_are_equal():
    seals = Seals(Keyring(parse_keys(new_key_line())), "audit")
    row = row_of(Event(cid="c", op="o"), 1, seals)
    of = content(row)
    assert seals.make(of) != seals.make(of)
    assert seals.check(of, row["key_id"], row["mac"]) is True
    assert seals.check(of, "other", row["mac"]) is None
    assert seals.check(of, row["key_id"], b"") is False
    assert set(FIELDS) <= set(row)


def test_seals_follow_the_keyring():
    old, new = parse_keys(new_key_line()), parse_keys(new_key_line())
    ring = Keyring(old)
    seals = Seals(ring, "audit")
    key_id, seal = seals.make(b"x")
    ring._use({**new, **old})
    assert seals.make(b"x")[0] == next(iter(new))
    assert seals.check(b"x", key_id, seal) is True


@pytest.fixture
def logger():
    found = logging.getLogger(AUDIT_LOGGER)
    root = logging.getLogger()
    before = (found.handlers[:], found.propagate, found.level, root.handlers[:], root.level)
    yield found
    found.handlers[:], found.propagate, root.handlers[:] = before[0], before[1], before[3]
    found.setLevel(before[2])
    root.setLevel(before[4])


def test_lines_go_to_a_file_of_their_own(logger, tmp_path):
    logs = Logs(tmp_path, size=1_000_000, count=1)
    logs.install("ERROR")
    logger.info("%s", '{"op":"user.login"}')
    logger.warning("%s", '{"op":"user.logout"}')
    logs.flush()
    assert (tmp_path / "audit-pii.log").read_text() == '{"op":"user.login"}\n{"op":"user.logout"}\n'
    assert not (tmp_path / "server.log").exists()
