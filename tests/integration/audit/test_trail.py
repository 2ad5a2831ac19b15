"""Events of the audit trail are written with what they are about, or at once."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest

from junctor.server.audit.seal import Seals, content
from junctor.server.audit.trail import REFUSED, SEALS, Event
from junctor.sql.errors import SchemaOutdated
from tests.helpers.audit import AuditUnderTest


def test_an_event_is_committed_with_the_transaction_that_it_is_about(audit: AuditUnderTest) -> None:
    with audit.store.engine.begin() as connection:
        audit.trail.record(connection, Event(cid="cid1", op="user.create", actor="zusr1", target="zusr2"))
        assert audit.rows() == []
    (row,) = audit.rows()
    assert (row["cid"], row["op"], row["outcome"], row["actor"]) == ("cid1", "user.create", "ok", "zusr1")


def test_an_event_goes_with_a_transaction_that_is_rolled_back(
    audit: AuditUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "zato_audit_pii")
    with audit.store.engine.connect() as connection, connection.begin() as transaction:
        audit.trail.record(connection, Event(cid="cid1", op="user.create"))
        transaction.rollback()
    assert audit.rows() == []
    assert caplog.messages == []


def test_what_a_savepoint_takes_back_is_not_in_the_log(
    audit: AuditUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "zato_audit_pii")
    with audit.store.engine.begin() as connection:
        audit.trail.record(connection, Event(cid="cid1", op="user.create"))
        with connection.begin_nested() as savepoint:
            audit.trail.record(connection, Event(cid="cid2", op="user.update"))
            savepoint.rollback()
        assert caplog.messages == []
    assert [row["cid"] for row in audit.rows()] == ["cid1"]
    assert [orjson.loads(line)["cid"] for line in caplog.messages] == ["cid1"]


def test_a_note_is_committed_when_it_returns(audit: AuditUnderTest, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "zato_audit_pii")
    audit.trail.note(
        Event(cid="cid1", op="user.login", outcome=REFUSED, reason="E005001", extra={"is_super_user": False})
    )
    (row,) = audit.rows()
    assert (row["outcome"], row["reason"], row["extra"]) == (REFUSED, "E005001", {"is_super_user": False})
    line = orjson.loads(caplog.messages[0])
    assert line.pop("at")
    assert line == {
        "level": "WARNING",
        "cid": "cid1",
        "op": "user.login",
        "result": "refused",
        "extra": {"reason": "E005001", "is_super_user": False},
    }


def test_every_row_has_a_seal_that_fits(audit: AuditUnderTest) -> None:
    awkward = {
        "float": 1e22,
        "small": 1e-7,
        "big": 2**60,
        "nul": "a\x00b",
        "half": "\ud800",
        "list": (1, 2.5, None),
        "żółw": {"b": 1, "a": 2},
    }
    audit.trail.note(Event(cid="c\x00id", op="x" * 500, user_agent="\ud800" * 3, extra=awkward))
    (row,) = audit.rows()
    seals = Seals(audit.store.keyring, SEALS)
    assert seals.check(content(row), row["key_id"], row["mac"]) is True
    assert len(row["op"]) == 100
    row["outcome"] = "error"
    assert seals.check(content(row), row["key_id"], row["mac"]) is False


def test_notes_of_many_callers_are_all_written(audit: AuditUnderTest) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: audit.trail.note(Event(cid=f"cid{number}", op="x")), range(200)))
    assert {row["cid"] for row in audit.rows()} == {f"cid{number}" for number in range(200)}


def test_a_note_that_cannot_be_written_raises(audit: AuditUnderTest) -> None:
    audit.break_database()
    with pytest.raises(SchemaOutdated):
        audit.trail.note(Event(cid="cid1", op="x"))


def test_a_note_finds_its_way_after_the_database_has_ended_its_connection(audit: AuditUnderTest) -> None:
    audit.trail.note(Event(cid="cid1", op="x"))
    audit.end_connections()
    audit.trail.note(Event(cid="cid2", op="x"))
    assert [row["cid"] for row in audit.rows()] == ["cid1", "cid2"]
