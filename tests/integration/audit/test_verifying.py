"""Whatever is done to the audit trail in the database shows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from junctor.server.audit.verify import Step
from tests.helpers.audit import AuditUnderTest


@pytest.fixture
def chained(audit: AuditUnderTest) -> AuditUnderTest:
    """A trail of ten events, cid1 to cid10, at positions 1 to 10."""
    audit.note(10, extra={"number": 1, "name": "żółw"})
    audit.trail.chain.link_next()
    return audit


def _found(audit: AuditUnderTest, most: int = 1000) -> list[tuple[str, int | None]]:
    cursor, found, step = None, [], Step()
    while True:
        step = audit.trail.verifier.step(cursor, most)
        found += [(problem.kind, problem.position) for problem in step.problems]
        cursor = step.cursor
        if cursor is None:
            return found


def test_a_trail_that_nobody_touched_is_fine(chained: AuditUnderTest) -> None:
    chained.note(2)
    told: list[int] = []
    step = chained.trail.verifier.verify(lambda so_far: told.append(so_far.checked))
    assert (step.problem_count, step.checked, step.unchained) == (0, 10, 2)
    assert (step.first_position, step.last_position) == (1, 10)
    assert told == [10]


def test_an_empty_trail_is_fine(audit: AuditUnderTest) -> None:
    assert audit.trail.verifier.verify().problem_count == 0


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("at", "2020-01-01T00:00:00Z"),
        ("cid", "other"),
        ("op", "user.logout"),
        ("outcome", "refused"),
        ("actor", "zusr1"),
        ("target", "zusr1"),
        ("app", "CRM"),
        ("remote_addr", "10.0.0.1"),
        ("user_agent", "curl"),
        ("reason", "none"),
        ("extra", {"number": 2, "name": "żółw"}),
    ],
)
def test_a_changed_column_shows(chained: AuditUnderTest, column: str, value: object) -> None:
    chained.change("cid4", **{column: value})
    assert _found(chained) == [("changed", 4)]


def test_a_changed_seal_shows(chained: AuditUnderTest) -> None:
    chained.change("cid4", mac=b"1" * 40)
    assert _found(chained) == [("unsealed", 4)]


def test_a_changed_chain_value_shows_there_and_in_the_next_link(chained: AuditUnderTest) -> None:
    chained.change("cid4", chain=b"1" * 32)
    assert _found(chained) == [("moved", 4), ("moved", 5)]


def test_a_deleted_event_shows(chained: AuditUnderTest) -> None:
    chained.tamper("DELETE FROM audit_event WHERE cid IN ('cid4', 'cid5')")
    assert _found(chained) == [("missing", 4)]


def test_a_deleted_first_event_shows(chained: AuditUnderTest) -> None:
    chained.tamper("DELETE FROM audit_event WHERE cid = 'cid1'")
    assert _found(chained) == [("missing", 1)]


def test_a_deleted_tail_shows(chained: AuditUnderTest) -> None:
    chained.tamper("DELETE FROM audit_event WHERE position > 7")
    assert _found(chained) == [("truncated", 8)]


def test_a_deleted_trail_shows(chained: AuditUnderTest) -> None:
    chained.tamper("DELETE FROM audit_event")
    assert _found(chained) == [("truncated", 1)]


def test_a_deleted_event_shows_when_the_others_close_the_gap(chained: AuditUnderTest) -> None:
    chained.tamper("DELETE FROM audit_event WHERE position = 4")
    chained.tamper("UPDATE audit_event SET position = -position WHERE position > 4")
    chained.tamper("UPDATE audit_event SET position = -position - 1 WHERE position < 0")
    assert _found(chained)[0] == ("moved", 4)
    assert ("truncated", 10) in _found(chained)


def test_swapped_events_show(chained: AuditUnderTest) -> None:
    chained.tamper("UPDATE audit_event SET position = 100 WHERE position = 4")
    chained.tamper("UPDATE audit_event SET position = 4 WHERE position = 5")
    chained.tamper("UPDATE audit_event SET position = 5 WHERE position = 100")
    assert ("moved", 4) in _found(chained)


def test_an_invented_event_shows_before_and_after_it_is_linked(chained: AuditUnderTest) -> None:
    chained.invent("cid11")
    assert _found(chained) == [("unsealed", None)]
    chained.trail.chain.link_next()
    assert _found(chained) == [("unsealed", 11)]


def test_an_event_behind_the_end_shows(chained: AuditUnderTest) -> None:
    chained.invent("cid11", position=11, chain="\\x00")
    assert ("inserted", 11) in _found(chained)


def test_an_event_before_the_beginning_shows(chained: AuditUnderTest) -> None:
    chained.trail.purge(0)
    chained.invent("cid11", position=3, chain="\\x00")
    assert ("inserted", 3) in _found(chained)


def test_the_database_refuses_a_copy_of_an_event(chained: AuditUnderTest) -> None:
    copy = """INSERT INTO audit_event (cluster_id, at, cid, op, outcome, actor, target, app, remote_addr, user_agent, reason,
        extra, key_id, mac) SELECT cluster_id, at, cid, op, outcome, actor, target, app, remote_addr, user_agent, reason,
        extra, key_id, mac FROM audit_event WHERE cid = 'cid4'"""
    with pytest.raises(IntegrityError):
        chained.tamper(copy)
    chained.tamper("DROP INDEX uq_audit_event_at_mac")
    chained.tamper(copy)
    assert ("index", None) in _found(chained)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_anchor SET last_position = 9",
        "UPDATE audit_anchor SET first_position = 2",
        "UPDATE audit_anchor SET last_chain = first_chain",
        "UPDATE audit_anchor SET mac = '\\x00'",
        "DELETE FROM audit_anchor",
    ],
)
def test_a_changed_anchor_shows(chained: AuditUnderTest, statement: str) -> None:
    chained.tamper(statement)
    assert _found(chained) == [("anchor", None)]


def test_an_event_that_is_not_linked_for_long_shows(chained: AuditUnderTest) -> None:
    chained.note(1, at_days_ago=1)
    assert _found(chained) == [("overdue", None)]


@pytest.mark.parametrize("most", [1, 3, 10, 11])
def test_steps_of_any_size_find_the_same(chained: AuditUnderTest, most: int) -> None:
    chained.change("cid3", actor="x")
    chained.tamper("DELETE FROM audit_event WHERE position IN (6, 10)")
    assert _found(chained, most) == [("changed", 3), ("missing", 6), ("truncated", 10)]


@pytest.mark.parametrize(
    "meanwhile",
    [
        lambda audit: audit.trail.purge(0),
        lambda audit: audit.trail.chain.link_next(),
        lambda audit: (audit.trail.chain.link_next(), audit.trail.purge(0)),
    ],
)
def test_what_happens_between_two_steps_is_no_problem(
    chained: AuditUnderTest, meanwhile: Callable[[AuditUnderTest], object]
) -> None:
    step = chained.trail.verifier.step(None, 4)
    chained.note(3)
    meanwhile(chained)
    while step.cursor is not None:
        step = chained.trail.verifier.step(step.cursor, 4)
        assert step.problem_count == 0


def test_a_verification_holds_no_lock(chained: AuditUnderTest) -> None:
    with chained.store.engine.begin() as connection:
        connection.execute(text("SELECT * FROM audit_anchor FOR UPDATE"))
        assert chained.trail.verifier.verify().problem_count == 0
