import json

import pytest

from junctor.cli.exit_codes import ExitCode
from tests.helpers.admin_server import Refused

USER = {"user_id": "zusr1", "username": "ann", "display_name": "Ann", "is_locked": False}
OPENED = {"user_id": "zusr1", "username": "ann", "ust": "zust1", "public_id": "s1"}


@pytest.fixture
def users(server):
    def search(payload):
        pages = {None: ("c2", ["ann"]), "c2": (None, ["bob"])}
        cursor, names = pages[payload.get("cursor")]
        found = [{"username": name, "is_locked": False} for name in names]
        return {"result": found, "next_cursor": cursor, "total": 2, "total_is_exact": True}

    answers = {
        "create-user": USER,
        "get-user": USER,
        "search-users": search,
        "update-user": USER,
        "reset-password": {"user_id": "zusr1", "password": "fresh"},
        "reset-totp-key": {"user_id": "zusr1", "key": "ABCDEFGH"},
        "log-in": OPENED,
        "log-out": {"was_session": True},
        "get-sessions": {"items": [{"public_id": "s1", "auth_factors": ["pwd"], "creation_time": "2026-11-24T10:00:00.1"}]},
        "end-session": {},
        "export-user": {"profile": USER},
        "import-users": {"items": []},
    }  # fmt: skip
    for name in ("delete", "lock", "unlock", "approve", "reject", "erase"):
        answers[f"{name}-user"] = {"user_id": "zusr1"}
    answers["change-password"] = {"user_id": "zusr1"}
    server.answers |= {f"zato.sso.admin.{name}": answer for name, answer in answers.items()}
    return server


def sent(server, service):
    return server.payload(f"zato.sso.admin.{service}")


def test_a_user_is_created_with_a_password_from_standard_input(cluster, users):
    ran = cluster("sso", "create-user", "ann", "--email", "a@example.com", "--password-stdin", stdin="pass\n")
    assert "User 'ann' was created with the id zusr1." in ran.out
    assert "pass" not in ran.out + ran.err
    assert sent(users, "create-user") == {
        "username": "ann",
        "email": "a@example.com",
        "password": "pass",
        "is_super_user": False,
    }


@pytest.mark.usefixtures("somebody_there")
def test_a_password_is_asked_for_twice(cluster, users):
    ran = cluster("sso", "create-super-user", "ann", stdin="pass\nother\npass\npass\n")
    assert sent(users, "create-user")["password"] == "pass"
    assert sent(users, "create-user")["is_super_user"] is True
    assert "pass\n" not in ran.out


def test_a_password_is_read_from_a_file_or_made(cluster, users, tmp_path):
    (tmp_path / "password").write_text("from file\n")
    cluster("sso", "create-user", "ann", "--password-file", str(tmp_path / "password"))
    assert sent(users, "create-user")["password"] == "from file"
    users.calls.clear()
    ran = cluster("sso", "create-user", "ann", "--generate-password")
    assert f"Password: {sent(users, 'create-user')['password']}" in ran.out


def test_a_password_on_the_command_line_is_warned_of(cluster, users):
    assert "was visible to others" in cluster("sso", "create-user", "ann", "--password", "pass").err
    assert sent(users, "create-user")["password"] == "pass"


def test_no_password_is_made_up_where_nobody_can_be_asked(cluster, users):
    cluster("sso", "create-user", "ann", code=ExitCode.USAGE)
    assert not users.calls


@pytest.mark.parametrize(("error", "code"), [("UserExists", 20), ("SsoRefused", 21), ("NoSuchUser", 22)])
def test_refusals_have_codes_of_their_own(cluster, users, error, code):
    def refuse(_payload):
        raise Refused(409, "E001002: The name is taken.", error=error)

    users.answers["zato.sso.admin.create-user"] = refuse
    ran = cluster("sso", "create-user", "ann", "--generate-password", code=code)
    assert "E001002: The name is taken." in ran.err


@pytest.mark.parametrize("command", ["lock-user", "unlock-user", "approve-user", "reject-user"])
def test_users_are_locked_and_decided_about(cluster, users, command):
    assert "'ann' is" in cluster("sso", command, "ann").out
    assert sent(users, command) == {"username": "ann"}


@pytest.mark.parametrize(("command", "service"), [("delete-user", "delete-user"), ("erase", "erase-user")])
def test_what_cannot_be_undone_is_confirmed(cluster, users, command, service, monkeypatch):
    cluster("sso", command, "ann", code=ExitCode.USAGE)
    monkeypatch.setattr("junctor.cli.session.Session.interactive", True)
    cluster("sso", command, "ann", stdin="n\n", code=ExitCode.INTERRUPTED)
    assert not users.calls
    cluster("sso", command, "ann", "--yes")
    assert sent(users, service) == {"username": "ann"}


def test_a_password_is_changed(cluster, users):
    cluster(
        "sso",
        "change-user-password",
        "ann",
        "--expiry",
        "30",
        "--must-change",
        "true",
        "--password-stdin",
        stdin="pass\n",
    )
    assert sent(users, "change-password") == {
        "username": "ann",
        "new_password": "pass",
        "expiry": 30,
        "must_change": True,
    }  # fmt: skip


def test_a_reset_password_is_printed_alone(cluster, users):
    assert cluster("sso", "reset-user-password", "ann").out == "fresh\n"
    assert sent(users, "reset-password") == {"username": "ann"}


def test_a_key_is_printed_if_it_was_made(cluster, users):
    assert cluster("sso", "reset-totp-key", "ann").out == "ABCDEFGH\n"
    users.calls.clear()
    given = cluster("sso", "reset-totp-key", "ann", "--key", "-", "--key-label", "x", stdin="MINE\n")
    assert "MINE" not in given.out
    assert sent(users, "reset-totp-key") == {"username": "ann", "key": "MINE", "key_label": "x"}


def test_sessions_are_opened_shown_and_ended(cluster, users):
    assert "zust1" in cluster("sso", "login", "ann", "--current-app", "CRM").out
    assert sent(users, "log-in") == {"username": "ann", "current_app": "CRM"}
    assert "2026-11-24T10:00:00" in cluster("sso", "sessions", "ann").out
    assert "s1 has ended" in cluster("sso", "end-session", "s1").out
    assert "has ended" in cluster("sso", "logout", stdin="zust1\n").out
    assert sent(users, "log-out") == {"ust": "zust1"}
    cluster("sso", "logout", code=ExitCode.USAGE)


def test_users_are_found_on_all_pages(cluster, users):
    found = cluster("sso", "search", "--last-name", "x", "--contains", "--any", "--json").json
    assert [user["username"] for user in found["items"]] == ["ann", "bob"]
    first = users.calls[0][1]
    assert first == {"last_name": "x", "is_name_exact": False, "name_op": "or", "page_size": 100}
    assert "1 of 2 users; see --limit." in cluster("sso", "search", "--limit", "1").out


def test_a_user_is_shown(cluster, users):
    assert "user_id       zusr1" in cluster("sso", "show", "ann").out
    assert sent(users, "get-user") == {"username": "ann"}


def test_fields_are_changed_and_emptied(cluster, users):
    cluster(
        "sso",
        "update",
        "ann",
        "--email",
        "",
        "--first-name",
        "Ann",
        "--app",
        "CRM",
        "--app",
        "ERP",
        "--totp",
        "false",
        "--new-username",
        "anna",
    )
    assert sent(users, "update-user")["changes"] == {
        "email": None,
        "first_name": "Ann",
        "app_list": ["CRM", "ERP"],
        "is_totp_enabled": False,
        "username": "anna",
    }  # fmt: skip
    cluster("sso", "update", "ann", code=ExitCode.INVALID)


def test_a_document_is_written_for_its_owner_alone(cluster, users, tmp_path):
    file = tmp_path / "ann.json"
    cluster("sso", "export", "ann", "--output", str(file))
    assert json.loads(file.read_text())["profile"]["username"] == "ann"
    assert file.stat().st_mode & 0o777 == 0o600
    cluster("sso", "export", "ann", "--output", str(file), code=ExitCode.INVALID)
    assert cluster("sso", "export", "ann").json["profile"]["username"] == "ann"


def test_users_are_imported_in_batches(cluster, users, tmp_path, monkeypatch):
    monkeypatch.setattr("junctor.cli.sso_import.BATCH", 2)
    file = tmp_path / "users.jsonl"
    file.write_text("".join(f'{{"username": "u{number}"}}\n\n' for number in range(5)))
    ran = cluster("sso", "import", str(file), "--skip", "1")
    assert "Imported 4 users." in ran.out
    assert "2 users so far" in ran.err
    batches = [[user["username"] for user in payload["users"]] for _, payload in users.calls]
    assert batches == [["u1", "u2"], ["u3", "u4"]]


def test_a_table_is_imported(cluster, users, tmp_path):
    file = tmp_path / "users.csv"
    file.write_text("username,email,is_locked,app_list\nann,,true,CRM; ERP\nbob,b@example.com,,\n")
    cluster("sso", "import", str(file))
    assert sent(users, "import-users")["users"] == [
        {"username": "ann", "is_locked": True, "app_list": ["CRM", "ERP"]},
        {"username": "bob", "email": "b@example.com"},
    ]


def test_problems_of_an_import_name_lines_and_how_to_go_on(cluster, users, tmp_path, monkeypatch):
    def refuse(payload):
        if payload["users"][0]["username"] == "u0":
            return {"items": []}
        problems = [{"field": "row 2 username", "message": "E001002 taken"}]
        raise Refused(400, "One problem", problems=problems, error="InvalidInput")

    monkeypatch.setattr("junctor.cli.sso_import.BATCH", 2)
    users.answers["zato.sso.admin.import-users"] = refuse
    file = tmp_path / "users.jsonl"
    file.write_text("".join(f'{{"username": "u{number}"}}\n\n' for number in range(4)))
    ran = cluster("sso", "import", str(file), code=ExitCode.INVALID)
    assert "line 7 username: E001002 taken" in ran.err
    assert "go on with --skip 2" in ran.err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("u.jsonl", "{}\nno json\n"),
        ("u.jsonl", "[]\n"),
        ("u.csv", "username,is_locked\nann,perhaps\n"),
        ("u.csv", "username,email\nann\n"),
        ("u.csv", 'username\n"ann\n'),
        ("u.csv", b"username\n\xff\n"),
    ],
)
def test_files_that_are_none_are_refused(cluster, users, tmp_path, name, text):
    file = tmp_path / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    cluster("sso", "import", str(file), code=ExitCode.INVALID)
    assert not users.calls
    cluster("sso", "import", str(tmp_path / "nothing"), code=ExitCode.INVALID)


def test_rounds_for_a_time_are_found(junctor, monkeypatch):
    monkeypatch.setattr("junctor.cli.hash_rounds._measure", lambda: 0.05)
    assert junctor("hash", "get-rounds", "0.5", "--rounds-only").out == "500000\n"
    assert junctor("hash", "get-rounds", "0.5", "--json").json["rounds"] == 500_000
    assert "OWASP" in junctor("hash", "get-rounds", "0.1").err
