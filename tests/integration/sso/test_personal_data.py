"""What is known of users: exported, erased, and imported from elsewhere."""

from __future__ import annotations

import itertools
import json
from typing import Any

import bcrypt
import pytest
from sqlalchemy import select, text, update

from junctor.server.sso.codes import status_code
from junctor.server.sso.errors import ValidationError
from junctor.server.sso.user_imports import MAX_IMPORT, ImportRefused
from junctor.sql import base
from junctor.sql.tables.sso import SsoGrant, SsoPasskey, SsoSession
from tests.helpers.sso import PASSWORD, SsoUnderTest, through

BCRYPT = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()


def stale(sso: SsoUnderTest) -> None:
    """All log-ins were long ago."""
    with sso.store.engine.begin() as connection:
        connection.execute(update(SsoSession).values(auth_time=text("now() - interval '1 hour'")))
    sso.sso.sessions.announce()


def known(sso: SsoUnderTest) -> Any:
    """A user of whom much is known, and a caller."""
    anna = sso.user("anna", email="anna@example.com", first_name="Anna", last_name="Canary")
    caller = sso.caller(sso.log_in("anna"))
    attributes = sso.sso.attributes.of_user(caller)
    attributes.set("colour", {"wall": "blue"})
    attributes.set("secret", "canary-value", encrypt=True)
    with sso.store.engine.begin() as connection:
        connection.execute(
            SsoPasskey.__table__.insert().values(
                cluster_id=sso.store.cluster_id,
                user_id=anna.id,
                credential_id=b"id",
                public_key=b"key",
                label="Phone",
            )
        )
        connection.execute(
            SsoGrant.__table__.insert().values(
                cluster_id=sso.store.cluster_id,
                user_id=anna.id,
                app="CRM",
                remote_addr="203.0.113.7",
                scope="openid",
                redirect_uri="https://crm.example.com",
                public_id=anna.user_id,
                code_mac=anna.user_id.encode(),
                code_challenge="challenge",
                expiration_time=text("now() + interval '1 hour'"),
            )
        )
    return anna, caller


def test_an_export_has_everything_but_secrets(sso: SsoUnderTest) -> None:
    anna, caller = known(sso)
    sso.addresses("anna", "*")
    sso.sso.users.get(sso.super_user_caller(remote_addr="198.51.100.9"), anna.user_id)

    document = sso.sso.personal_data.export(caller)

    assert json.loads(json.dumps(document)) == document
    assert document["is_complete"] is True
    assert document["profile"]["email"] == "anna@example.com"
    assert document["profile"]["sign_up_status"] == "final"
    assert {item["name"]: item["value"] for item in document["attributes"]} == {
        "colour": {"wall": "blue"},
        "secret": "canary-value",
    }
    (session,) = document["sessions"]
    assert (session["app"], session["remote_addr"]) == ("CRM", caller.remote_addr)
    assert [passkey["label"] for passkey in document["passkeys"]] == ["Phone"]
    assert [grant["scope"] for grant in document["grants"]] == ["openid"]
    assert document["addresses"] == ["*"]
    by_others = [event for event in document["audit"] if event["actor"] != anna.user_id]
    assert [event["op"] for event in by_others] == ["user.get_user_by_id"]
    dumped = json.dumps(document)
    for secret in (caller.current_ust, "198.51.100.9", anna.password, "token_mac", "code_mac"):
        assert secret not in dumped


def test_an_export_is_for_the_user_and_super_users_who_logged_in_just_now(sso: SsoUnderTest) -> None:
    anna, caller = known(sso)
    sso.user("bob")
    data = sso.sso.personal_data
    assert data.export(sso.super_user_caller(), anna.user_id)["profile"]["username"] == "anna"
    assert data.export(sso.trusted(), anna.user_id)["profile"]["username"] == "anna"
    with pytest.raises(ValidationError) as caught:
        data.export(sso.caller(sso.log_in("bob")), anna.user_id)
    assert caught.value.sub_status == [status_code.auth.super_user_required]
    stale(sso)
    for use in (data.export, data.erase):
        with pytest.raises(ValidationError) as caught:
            use(caller)
        assert caught.value.shown == [status_code.auth.step_up_required]
    assert {event["outcome"] for event in sso.events("personal_data.export")} == {"ok", "refused"}


def test_nothing_personal_is_left_of_who_is_erased(sso: SsoUnderTest) -> None:
    anna, caller = known(sso)
    changed = {"username": "heron7", "last_name": "Heron", "first_name": "Heron"}
    sso.sso.users.update(caller, changed)

    sso.sso.personal_data.erase(through(caller, remote_addr=""))

    assert sso.sso.sessions.find(caller.current_ust) is None
    base.kinds()
    with sso.store.engine.connect() as connection:
        for table in base.METADATA.sorted_tables:
            if table.name.startswith(("sso_", "audit_")):
                everything = str(connection.execute(select(table)).all())
                assert "heron" not in everything.casefold(), table.name
    events = [event for event in sso.events() if anna.user_id in (event["actor"], event["target"])]
    assert events[-1]["op"] == "personal_data.erase"
    assert events[-1]["outcome"] == "ok"


def test_the_last_super_user_is_not_erased_but_by_the_cluster(sso: SsoUnderTest) -> None:
    root = sso.super_user_caller()
    own = sso.session(root.current_ust).user
    with pytest.raises(ValidationError) as caught:
        sso.sso.personal_data.erase(root)
    assert caught.value.sub_status == [status_code.common.invalid_operation]
    sso.super_user_caller("root2")
    sso.sso.personal_data.erase(root)
    assert sso.sso.users.by_user_id(own.user_id) is None


def test_users_are_imported_with_their_hashes(sso: SsoUnderTest) -> None:
    rows = [
        {"username": "anna", "email": "anna@example.com", "password_hash": BCRYPT, "first_name": "Anna"},
        {"username": "ben", "is_locked": True, "is_email_verified": True},
        {
            "username": "cleo",
            "email": "cleo@example.com",
            "is_email_verified": True,
            "sign_up_status": "before_confirmation",
            "approval_status": "before_decision",
            "totp_key": "A" * 32,
            "is_totp_enabled": True,
            "must_change": True,
            "app_list": ["CRM"],
        },
    ]
    made = sso.sso.personal_data.import_users(sso.super_user_caller(), rows)
    assert [one.username for one in made] == ["anna", "ben", "cleo"]
    anna, ben, cleo = (sso.sso.users.by_user_id(one.user_id) for one in made)
    assert anna
    assert ben
    assert cleo
    assert sso.sso.passwords.verify(anna, PASSWORD).is_right
    assert BCRYPT not in anna.password
    assert (anna.sign_up_status, anna.approval_status, anna.display_name) == ("final", "approved", "Anna")
    assert (ben.is_locked, ben.is_email_verified, ben.password_is_set) == (True, False, False)
    assert not sso.sso.passwords.verify(ben, "").is_right
    assert (cleo.is_email_verified, cleo.is_totp_enabled, cleo.password_must_change) == (True, True, True)
    assert (cleo.sign_up_status, cleo.approval_status) == ("before_confirmation", "before_decision")
    (event,) = sso.events("user.import_users")
    assert event["extra"] == {"count": 3}


def test_an_import_is_all_or_nothing_and_lists_every_problem(sso: SsoUnderTest) -> None:
    sso.user("taken", email="taken@example.com")
    rows: list[Any] = [
        {"username": "fine"},
        {"username": "a b", "password_hash": "abc", "first_name": "x" * 300},
        {"username": "fine2", "password": PASSWORD},
        {"email": "nobody@example.com"},
        "nothing",
        {"username": "FINE", "email": "twice@example.com"},
        {"username": "fine3", "email": "Twice@example.com", "is_totp_enabled": True},
    ]
    with pytest.raises(ImportRefused) as caught:
        sso.sso.personal_data.import_users(sso.trusted(), rows)
    problems = {(problem.row, problem.field, problem.code) for problem in caught.value.problems}
    invalid, missing = status_code.common.invalid_input, status_code.common.missing_input
    assert problems == {
        (2, "username", status_code.username.has_whitespace),
        (2, "password_hash", invalid),
        (2, "first_name", invalid),
        (3, "password", invalid),
        (4, "username", missing),
        (5, "data", invalid),
        (6, "username", status_code.username.exists),
        (7, "email", status_code.email.exists),
        (7, "totp_key", missing),
    }
    taken = [
        {"username": "fine"},
        {"username": "TAKEN"},
        {"username": "fine2", "email": "taken@example.com"},
    ]
    with pytest.raises(ImportRefused) as caught:
        sso.sso.personal_data.import_users(sso.trusted(), taken)
    assert [(problem.row, problem.code) for problem in caught.value.problems] == [
        (2, status_code.username.exists),
        (3, status_code.email.exists),
    ]
    assert sso.sso.users.by_username("fine") is None


def test_an_import_has_bounds(sso: SsoUnderTest) -> None:
    endless = ({"username": f"user{number}"} for number in itertools.count())
    for rows in (endless, []):
        with pytest.raises(ValidationError):
            sso.sso.personal_data.import_users(sso.trusted(), rows)
    assert next(endless)["username"] == f"user{MAX_IMPORT + 1}"
    sso.user("bob")
    with pytest.raises(ValidationError):
        sso.sso.personal_data.import_users(sso.caller(sso.log_in("bob")), [{"username": "fine"}])
