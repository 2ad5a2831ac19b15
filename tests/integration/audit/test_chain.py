"""Committed events become links of a chain, one after another, whoever links them."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text

from junctor.server.audit import chain
from junctor.server.audit.anchor import reseal
from junctor.server.audit.errors import ChainBroken
from junctor.server.audit.seal import START, content, link
from junctor.sql.secrets import Keyring, new_key_line, parse_keys
from junctor.sql.store import Store
from tests.conftest import CLUSTER
from tests.helpers.audit import AuditUnderTest


def test_events_are_linked_in_their_order(audit: AuditUnderTest) -> None:
    audit.note(3)
    linked = audit.trail.chain.link_next()
    assert (linked.count, linked.unsealed) == (3, 0)
    rows = audit.rows()
    assert [row["position"] for row in rows] == [1, 2, 3]
    value = START
    for row in rows:
        value = link(value, row["position"], content(row))
        assert row["chain"] == value
    assert (audit.anchor()["last_position"], audit.anchor()["last_chain"]) == (3, value)
    assert audit.trail.chain.link_next().count == 0


def test_two_that_link_at_a_time_do_not_interleave(
    audit: AuditUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "BATCH", 3)
    audit.note(40)

    def link_all(_number: int) -> int:
        return sum(iter(lambda: audit.trail.chain.link_next().count, 0))

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(link_all, range(4))) == 40
    assert audit.trail.verifier.verify().problem_count == 0
    assert [row["position"] for row in audit.rows()] == list(range(1, 41))


def test_writers_do_not_wait_for_who_links(audit: AuditUnderTest) -> None:
    audit.note(1)
    audit.trail.chain.link_next()
    with audit.store.engine.begin() as connection:
        audit.trail.chain.anchors.lock(connection)
        audit.note(1)
    assert audit.trail.chain.unchained() == 1


def test_what_commits_late_is_linked_later(audit: AuditUnderTest) -> None:
    with audit.store.engine.begin() as connection:
        audit.record(connection, "early")
        audit.note(2)
        assert audit.trail.chain.link_next().count == 2
    assert audit.trail.chain.link_next().count == 1
    assert {row["cid"]: row["position"] for row in audit.rows()}["early"] == 3
    assert audit.trail.verifier.verify().problem_count == 0


def test_an_event_that_nobody_sealed_is_told_of_at_once(
    audit: AuditUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    audit.note(2)
    audit.change("cid2", outcome="error")
    assert audit.trail.chain.link_next().unsealed == 1
    assert "at position 2 was not written by Junctor" in caplog.text


def test_nothing_is_linked_to_an_anchor_that_was_changed(audit: AuditUnderTest) -> None:
    audit.note(2)
    audit.trail.chain.link_next()
    audit.tamper("UPDATE audit_anchor SET last_position = 1")
    audit.note(1)
    with pytest.raises(ChainBroken, match="was changed"):
        audit.trail.chain.link_next()
    audit.tamper("DELETE FROM audit_anchor")
    with pytest.raises(ChainBroken, match="was deleted"):
        audit.trail.chain.link_next()


def test_a_new_chain_begins_behind_a_broken_one(audit: AuditUnderTest) -> None:
    audit.note(2)
    audit.trail.chain.link_next()
    audit.tamper("DELETE FROM audit_anchor")
    audit.trail.begin_chain("cid9", "admin")
    assert audit.trail.chain.link_next().count == 1
    assert audit.anchor()["first_position"] == 3
    step = audit.trail.verifier.verify()
    assert [problem.kind for problem in step.problems] == ["inserted"]
    assert "before 3" in step.problems[0].text


def test_the_oldest_events_are_deleted_once_they_are_old_enough(
    audit: AuditUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "PURGE_BATCH", 2)
    audit.note(5)
    audit.trail.chain.link_next()
    assert audit.trail.purge(1) == 0
    assert audit.trail.purge(0) == 5
    audit.note(1)
    audit.trail.chain.link_next()
    assert [row["op"] for row in audit.rows()] == ["audit.purge"] * 3 + ["user.login"]
    assert audit.anchor()["first_position"] == 6
    step = audit.trail.verifier.verify()
    assert (step.problem_count, step.checked, step.first_position) == (0, 4, 6)


def test_the_settings_say_how_long_events_are_kept(audit: AuditUnderTest) -> None:
    audit.note(2, at_days_ago=3)
    audit.note(1)
    audit.trail.chain.link_next()
    audit.trail.purge_as_configured()
    assert len(audit.rows()) == 3
    audit.settings["audit_retention"] = 2
    audit.trail.purge_as_configured()
    assert audit.rows()[0]["position"] == 3


def test_deleting_old_events_tells_of_what_was_done_to_them(
    audit: AuditUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    audit.note(3)
    audit.trail.chain.link_next()
    audit.change("cid2", actor="somebody else")
    audit.trail.purge(0)
    assert "tampered with before its oldest events were deleted, at position 2" in caplog.text


def test_a_trail_is_verified_under_new_keys_and_without_the_old_ones(
    store: Store, tmp_path: Path, keyring: Keyring
) -> None:
    old = AuditUnderTest(store, tmp_path)
    old.note(2)
    old.trail.chain.link_next()
    old.stop()
    line = new_key_line()
    both = Keyring({**parse_keys(line), **keyring._keys})
    rotated = Store.open(store.engine, CLUSTER, both)
    assert reseal(rotated)
    only_new = AuditUnderTest(Store.open(store.engine, CLUSTER, Keyring(parse_keys(line))), tmp_path)
    only_new.note(1)
    only_new.trail.chain.link_next()
    step = only_new.trail.verifier.verify()
    assert (step.problem_count, step.checked, step.unknown_keys) == (0, 3, 2)
    only_new.change("cid2", actor="somebody else")
    assert only_new.trail.verifier.verify().problems[0].kind == "changed"
    only_new.stop()


def test_an_anchor_whose_key_is_missing_is_not_moved(store: Store, tmp_path: Path) -> None:
    old = AuditUnderTest(store, tmp_path)
    old.note(1)
    old.trail.chain.link_next()
    other = Store.open(store.engine, CLUSTER, Keyring(parse_keys(new_key_line())))
    assert not reseal(other)
    stranger = AuditUnderTest(other, tmp_path)
    with pytest.raises(ChainBroken, match="which this server does not have"):
        stranger.trail.chain.link_next()
    old.stop()


def test_the_log_is_told_where_the_chain_ends(
    audit: AuditUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "zato_audit_pii")
    with audit.chaining():
        audit.note(3)
        audit.wait_until_linked(3)
    with audit.store.engine.begin() as connection:
        last = connection.execute(text("SELECT encode(last_chain, 'hex') FROM audit_anchor")).scalar_one()
    heads = [line for line in caplog.messages if "audit.head" in line]
    assert any('"position":' in line for line in heads)
    assert len(last) == 64
