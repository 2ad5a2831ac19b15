"""The administrative services of the audit trail and of Single Sign-On, as the command line calls them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from junctor.server.admin import audit, sso
from junctor.server.admin.sso import NoSuchUser, SsoRefused, UserExists
from junctor.server.service.base import Service
from junctor.server.service.call import Call
from junctor.server.service.info import describe
from junctor.sql.errors import InvalidInput, NotFound
from junctor.sql.store import Store
from tests.helpers.sso import SsoUnderTest

Invoke = Callable[..., Any]
PASSWORD = "correct horse battery staple 8"


class Writes(Service):
    """Writes audit events."""

    name = "test.writes"

    def handle(self) -> None:
        self.audit_pii.info("cid1", "user.read", "zusr1")
        self.audit_pii.warn("cid2", "user.read", "zusr1", "zusr2", "ok", {"fields": 3})
        self.audit_pii.error("cid3", "user.read", extra="it failed", result="later")
        self.audit_pii.info("cid4", "user.read", extra='{"has_code": true}')


@pytest.fixture
def under_test(store: Store) -> Iterator[SsoUnderTest]:
    """Single Sign-On with the services of administrators."""
    made = SsoUnderTest(store)
    services = [describe(cls, is_internal=True) for cls in (*audit.SERVICES, *sso.SERVICES, Writes)]
    made.context.services.replace("", services)
    yield made
    made.stop()


@pytest.fixture
def invoke(under_test: SsoUnderTest) -> Invoke:
    """Invokes a service by the last part of its name."""

    def invoked(service: str, **fields: Any) -> Any:
        name = service if service.startswith(("zato.", "test.")) else f"zato.sso.admin.{service}"
        return under_test.context.invoker.invoke(Call(name, fields)).payload

    return invoked


def test_a_user_is_made_found_changed_and_deleted(under_test: SsoUnderTest, invoke: Invoke) -> None:
    made = invoke("create-user", username="Bob", password=PASSWORD, email="bob@example.com", first_name="Bob")
    assert (made["approval_status"], made["sign_up_status"], made["is_super_user"]) == (
        "approved",
        "final",
        False,
    )
    assert invoke("get-user", username="bob")["email"] == "bob@example.com"
    assert invoke("search-users", first_name="bob")["total"] == 1
    changed = invoke("update-user", username="bob", changes={"first_name": None, "last_name": "Builder"})
    assert "first_name" not in changed
    assert changed["last_name"] == "Builder"
    assert invoke("delete-user", username="bob") == {"user_id": made["user_id"]}
    with pytest.raises(NoSuchUser):
        invoke("get-user", username="bob")
    (event,) = under_test.events("user.create_user")
    assert (event["actor"], event["target"], event["outcome"]) == ("internal", made["user_id"], "ok")


def test_super_users_are_made_here(invoke: Invoke) -> None:
    assert invoke("create-user", username="root1", password=PASSWORD, is_super_user=True)["is_super_user"]


def test_what_is_wrong_can_be_told_apart(invoke: Invoke) -> None:
    invoke("create-user", username="bob", password=PASSWORD)
    with pytest.raises(UserExists, match="E001002"):
        invoke("create-user", username="BOB", password=PASSWORD)
    with pytest.raises(SsoRefused, match="E003002"):
        invoke("create-user", username="ann", password="short")
    with pytest.raises(NoSuchUser):
        invoke("lock-user", username="nobody")
    with pytest.raises(InvalidInput):
        invoke("create-user", username="ann", password=PASSWORD, shoe_size=43)
    with pytest.raises(InvalidInput):
        invoke("search-users", shoe_size=43)
    with pytest.raises(InvalidInput):
        invoke("update-user", username="bob")


def test_users_are_locked_and_decided_about(under_test: SsoUnderTest, invoke: Invoke) -> None:
    user = under_test.user("bob")
    invoke("lock-user", username="bob")
    assert under_test.reload(user).is_locked
    invoke("unlock-user", user_id=user.user_id)
    assert not under_test.reload(user).is_locked
    invoke("reject-user", username="bob")
    assert under_test.reload(user).approval_status == "rejected"
    invoke("approve-user", username="bob")
    assert under_test.reload(user).approval_status == "approved"


def test_passwords_and_keys_are_replaced(under_test: SsoUnderTest, invoke: Invoke) -> None:
    user = under_test.user("bob")
    invoke("change-password", username="bob", new_password=PASSWORD, expiry=30)
    changed = under_test.reload(user)
    assert under_test.sso.passwords.verify(changed, PASSWORD).is_right
    assert not changed.password_must_change
    password = invoke("reset-password", username="bob")["password"]
    assert under_test.sso.passwords.verify(under_test.reload(user), password).is_right
    assert under_test.reload(user).password_must_change
    invoke("reset-password", username="bob", must_change=False)
    assert not under_test.reload(user).password_must_change
    assert len(invoke("reset-totp-key", username="bob")["key"]) >= 32


def test_sessions_are_opened_listed_and_ended(under_test: SsoUnderTest, invoke: Invoke) -> None:
    user = under_test.user("bob")
    opened = invoke("log-in", username="bob", current_app="CRM", remote_addr="10.0.0.1")
    assert under_test.session(opened["ust"]).user.id == user.id
    (listed,) = invoke("get-sessions", username="bob")["items"]
    assert (listed["public_id"], listed["remote_addr"]) == (opened["public_id"], "10.0.0.1")
    assert "ust" not in listed
    assert invoke("log-out", ust=opened["ust"]) == {"was_session": True}
    assert invoke("log-out", ust=opened["ust"]) == {"was_session": False}
    second = invoke("log-in", username="bob")
    invoke("end-session", public_id=second["public_id"])
    with pytest.raises(SsoRefused, match="E007001"):
        invoke("end-session", public_id=second["public_id"])
    invoke("lock-user", username="bob")
    with pytest.raises(SsoRefused, match="E005002"):
        invoke("log-in", username="bob")


def test_users_are_imported_exported_and_erased(under_test: SsoUnderTest, invoke: Invoke) -> None:
    made = invoke("import-users", users=[{"username": "bob"}, {"username": "ann"}])
    assert [item["username"] for item in made["items"]] == ["bob", "ann"]
    with pytest.raises(InvalidInput) as refused:
        invoke("import-users", users=[{"username": "carl"}, {"username": "ann"}])
    assert [problem.field for problem in refused.value.problems] == ["row 2 username"]
    with pytest.raises(InvalidInput):
        invoke("import-users", users="all")
    document = invoke("export-user", username="bob")
    assert document["profile"]["username"] == "bob"
    invoke("erase-user", username="bob")
    assert not under_test.store_has("bob")


def test_services_write_to_the_trail(under_test: SsoUnderTest, invoke: Invoke) -> None:
    invoke("test.writes")
    first, second, third, fourth = under_test.events("user.read")
    assert (first["cid"], first["actor"], first["outcome"], first["extra"]) == ("cid1", "zusr1", "ok", {})
    assert (second["target"], second["outcome"], second["extra"]) == ("zusr2", "ok", {"fields": 3})
    assert (third["outcome"], third["extra"]) == ("error", {"result": "later", "text": "it failed"})
    assert fourth["extra"] == {"has_code": True}


def test_events_are_found_page_by_page(invoke: Invoke) -> None:
    invoke("test.writes")
    page = invoke("zato.audit.get-list", op="user.*", limit=3)
    assert [item["cid"] for item in page["items"]] == ["cid4", "cid3", "cid2"]
    page = invoke("zato.audit.get-list", op="user.*", limit=3, cursor=page["cursor"])
    assert [item["cid"] for item in page["items"]] == ["cid1"]
    assert page["cursor"] == ""
    oldest = invoke("zato.audit.get-list", op="user.read", limit=2, oldest_first=True)
    assert [item["cid"] for item in oldest["items"]] == ["cid1", "cid2"]
    rest = invoke("zato.audit.get-list", op="user.read", oldest_first=True, cursor=oldest["cursor"])
    assert [item["cid"] for item in rest["items"]] == ["cid3", "cid4"]
    for filters in (
        {"actor": "zusr1", "target": "zusr2"},
        {"outcome": "error"},
        {"cid": "cid2"},
        {"since": oldest["items"][1]["at"], "until": rest["items"][0]["at"]},
    ):
        assert len(invoke("zato.audit.get-list", op="user.read", **filters)["items"]) == 1
    assert invoke("zato.audit.get-list", app="CRM")["items"] == []
    assert invoke("zato.audit.get", id=page["items"][0]["id"])["cid"] == "cid1"


def test_who_looks_is_audited(under_test: SsoUnderTest, invoke: Invoke) -> None:
    invoke("zato.audit.get-list", actor="zusr1")
    (event,) = under_test.events("audit.find")
    assert event["extra"] == {"filters": ["actor"]}


@pytest.mark.parametrize("cursor", ["x", "2026-11-24/1", "2026-11-24T00:00:00+00:00/-1", "/"])
def test_cursors_that_are_none_are_refused(invoke: Invoke, cursor: str) -> None:
    with pytest.raises(InvalidInput):
        invoke("zato.audit.get-list", cursor=cursor)


def test_the_trail_is_verified_in_parts(under_test: SsoUnderTest, invoke: Invoke) -> None:
    invoke("test.writes")
    under_test.context.audit.chain.link_next()
    first = invoke("zato.audit.verify", limit=3)
    assert (first["checked"], first["problem_count"], first["last_position"]) == (3, 0, 4)
    second = invoke("zato.audit.verify", limit=3, cursor=first["cursor"])
    assert (second["checked"], second["cursor"], second["unchained"]) == (1, None, 0)
    invoke("zato.audit.begin-chain")
    assert under_test.events("audit.begin_chain")


@pytest.mark.parametrize(
    "cursor", ["x", {"position": -1}, {"position": 1, "chain": "x" * 64}, {"position": True}, {}]
)
def test_places_that_are_none_are_refused(invoke: Invoke, cursor: Any) -> None:
    with pytest.raises(InvalidInput):
        invoke("zato.audit.verify", cursor=cursor)


def test_an_event_that_does_not_exist_is_not_found(invoke: Invoke) -> None:
    with pytest.raises(NotFound):
        invoke("zato.audit.get", id=12345)
    with pytest.raises(InvalidInput):
        invoke("zato.audit.get")
