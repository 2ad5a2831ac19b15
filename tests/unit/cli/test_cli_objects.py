import click
import pytest

from junctor.cli import manifest
from junctor.cli.exit_codes import ExitCode
from junctor.cli.manifest import FieldInfo, TypeInfo
from junctor.cli.object_options import field_options, given_values
from tests.helpers.admin_server import Refused

CREATE = "zato.channel-rest.create"
EDIT = "zato.channel-rest.edit"
LIVE = {"config_version": 7, "converged": True, "missing": []}


def field(name, type_="text", **more):
    made = FieldInfo(name, type_, name.title(), "Help.", False, "", "", None, None, (), "", (), False, False)
    return made._replace(**more)


def type_of(*fields):
    return TypeInfo("thing", "Thing", "A thing.", "thing", "zato.thing", ("create",), (), (), fields)


@pytest.fixture
def channels(server):
    server.answers[CREATE] = lambda payload: {"id": 4, "name": payload["name"], **LIVE}
    server.answers[EDIT] = lambda payload: {"id": 4, "name": payload.get("new_name", "orders"), **LIVE}
    server.answers["zato.channel-rest.delete"] = lambda payload: {"id": 4, "name": "orders", **LIVE}
    server.answers["zato.security.basic-auth.create"] = lambda payload: {
        "id": 5,
        "name": payload["name"],
        **LIVE,
    }
    server.answers["zato.security.basic-auth.edit"] = lambda payload: {"id": 5, "name": "crm", **LIVE}
    return server


def test_create_sends_what_is_given_as_it_is(cluster, channels):
    # when
    ran = cluster(
        "create-channel-rest", "orders", "--url-path", "/orders", "--service", "orders.get", "--timeout", "x",
        "--is-active", "no", "--wait", "2",
    )  # fmt: skip
    # then
    assert channels.payload(CREATE) == {
        "name": "orders", "url_path": "/orders", "service": "orders.get", "timeout": "x", "is_active": "no", "wait": 2.0,
    }  # fmt: skip
    assert "Created REST channel 'orders' (id 4)." in ran.out
    assert "Version 7 is live on all workers." in ran.out


def test_zatos_names_of_commands_and_fields_are_accepted(cluster, channels):
    cluster(
        "create", "rest-channel", "--name", "a", "--url-path", "/", "--service-name", "s", "--sec-def", "crm"
    )
    sent = channels.payload(CREATE)
    assert (sent["service"], sent["security"]) == ("s", "crm")


def test_what_is_missing_is_said_at_once_without_asking_the_server(cluster, channels):
    ran = cluster("create-channel-rest", code=ExitCode.USAGE)
    assert "Missing: --name, --url-path, --service." in ran.err
    assert not channels.calls


def test_the_name_is_given_once(cluster, channels):
    cluster("create-channel-rest", "a", "--name", "b", code=ExitCode.USAGE)


def test_every_problem_that_the_server_finds_is_told_with_its_field(cluster, server):
    def refuse(payload):
        problems = [
            {"field": "url_path", "message": "must start with '/'."},
            {"field": "timeout", "message": "is odd."},
        ]
        raise Refused(400, "x", problems=problems)

    server.answers[CREATE] = refuse
    ran = cluster("create-channel-rest", "a", "--url-path", "a", "--service", "s", code=ExitCode.INVALID)
    assert ran.err.splitlines()[1:] == ["  url_path: must start with '/'.", "  timeout: is odd."]


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (404, "NotFound", ExitCode.NOT_FOUND),
        (409, "InUse", ExitCode.CONFLICT),
        (409, "EditConflict", ExitCode.CONFLICT),
        (503, "StoreUnavailable", ExitCode.DATABASE),
        (500, "", ExitCode.REMOTE),
    ],
)
def test_a_refusal_is_told_in_the_servers_words_with_its_own_code(cluster, server, status, error, code):
    def refuse(payload):
        raise Refused(status, "So it is.", error=error)

    server.answers["zato.channel-rest.get"] = refuse
    assert "Error: So it is." in cluster("get-channel-rest", "a", code=code).err


def test_no_wait_asks_the_server_not_to_wait(cluster, channels):
    cluster("create-channel-rest", "a", "--url-path", "/", "--service", "s", "--no-wait")
    assert channels.payload(CREATE)["wait"] == 0


def test_workers_that_lag_are_named(cluster, server):
    missing = [{"server": "server2", "pid": 42, "applied_version": 6}]
    server.answers[CREATE] = {
        "id": 4,
        "name": "a",
        "config_version": 7,
        "converged": False,
        "missing": missing,
    }
    ran = cluster("create-channel-rest", "a", "--url-path", "/", "--service", "s")
    assert "server2 (pid 42, version 6)" in ran.err
    assert "Version 7 is stored." in ran.out


def test_with_json_the_answer_is_all_of_standard_output(cluster, channels):
    ran = cluster("create-channel-rest", "a", "--url-path", "/", "--service", "s", "--json")
    assert ran.json == {"id": 4, "name": "a", **LIVE}


def test_an_object_is_edited_by_its_name(cluster, channels):
    cluster("edit-channel-rest", "orders", "--timeout", "5", "--expected-version", "3")
    assert channels.payload(EDIT) == {"name": "orders", "timeout": "5", "expected_version": 3, "wait": 5.0}


def test_an_object_is_renamed(cluster, channels):
    assert "'bills'" in cluster("edit-channel-rest", "orders", "--new-name", "bills").out
    assert channels.payload(EDIT)["new_name"] == "bills"


@pytest.mark.parametrize("option", ["--new-name", "--name"])
def test_an_object_that_is_named_by_its_id_is_renamed_by_the_field_name(cluster, channels, option):
    cluster("edit-channel-rest", "--id", "4", option, "bills")
    assert channels.payload(EDIT) == {"id": 4, "name": "bills", "wait": 5.0}


@pytest.mark.parametrize(
    "arguments", [["orders"], ["--timeout", "5"], ["orders", "--name", "b", "--timeout", "5"]]
)
def test_an_edit_needs_one_object_and_a_change(cluster, channels, arguments):
    cluster("edit-channel-rest", *arguments, code=ExitCode.USAGE)
    assert not channels.calls


def test_a_delete_is_not_asked_about_when_nobody_is_there(cluster, channels):
    assert "Deleted REST channel 'orders'." in cluster("delete-channel-rest", "orders").out


@pytest.mark.usefixtures("somebody_there")
def test_a_delete_is_asked_about_when_somebody_is_there(cluster, channels):
    ran = cluster("delete-channel-rest", "orders", stdin="n\n", code=ExitCode.INTERRUPTED)
    assert "Delete REST channel 'orders'?" in ran.err
    assert not channels.calls
    cluster("delete-channel-rest", "--id", "4", "--yes")
    assert channels.payload("zato.channel-rest.delete") == {"id": 4, "wait": 5.0}


def test_a_secret_is_read_from_a_file(cluster, channels, tmp_path):
    (tmp_path / "secret").write_text("hunter2\n")
    cluster("create-basic-auth", "crm", "--username", "crm", "--password-file", str(tmp_path / "secret"))
    sent = channels.payload("zato.security.basic-auth.create")
    assert (sent["username"], sent["password"]) == ("crm", "hunter2")


def test_a_secret_is_read_from_standard_input(cluster, channels):
    cluster("edit-basic-auth", "crm", "--password-stdin", stdin="hunter2\n")
    assert channels.payload("zato.security.basic-auth.edit")["password"] == "hunter2"


@pytest.mark.parametrize("content", ["", "\n", "one\ntwo\n"])
def test_a_file_of_a_secret_has_one_line(cluster, channels, content):
    cluster("edit-basic-auth", "crm", "--password-stdin", stdin=content, code=ExitCode.INVALID)


def test_a_generated_secret_is_shown_once(cluster, channels):
    ran = cluster("create-basic-auth", "crm", "--username", "crm", "--generate-password", "--json")
    sent = channels.payload("zato.security.basic-auth.create")["password"]
    assert ran.json["generated"] == {"password": sent}
    assert len(sent) == 32


def test_a_secret_on_the_command_line_is_taken_with_a_warning_that_does_not_show_it(cluster, channels):
    ran = cluster("edit-basic-auth", "crm", "--password", "hunter2")
    assert channels.payload("zato.security.basic-auth.edit")["password"] == "hunter2"
    assert "visible to others" in ran.err
    assert "hunter2" not in ran.err + ran.out


def test_a_secret_may_have_the_name_that_zato_gives_it(cluster, server):
    server.answers["zato.security.apikey.edit"] = {"id": 1, "name": "k", **LIVE}
    cluster("edit-api-key", "k", "--password", "abc")
    assert server.payload("zato.security.apikey.edit")["key"] == "abc"


def test_a_secret_is_given_in_one_way(cluster, channels):
    cluster("edit-basic-auth", "crm", "--password", "a", "--generate-password", code=ExitCode.USAGE)


def test_without_a_secret_and_without_anybody_to_ask_a_warning_says_what_follows(cluster, channels):
    ran = cluster("create-basic-auth", "crm", "--username", "crm")
    assert "While it is empty, nobody is let in." in ran.err
    assert "password" not in channels.payload("zato.security.basic-auth.create")


@pytest.mark.usefixtures("somebody_there")
def test_a_secret_is_asked_for_twice(cluster, channels):
    cluster("create-basic-auth", "crm", "--username", "crm", stdin="hunter2\nhunter2\n")
    assert channels.payload("zato.security.basic-auth.create")["password"] == "hunter2"


@pytest.mark.usefixtures("somebody_there")
def test_no_answer_to_the_question_for_a_secret_means_a_generated_one(cluster, channels):
    ran = cluster("create-basic-auth", "crm", "--username", "crm", stdin="\n\n")
    assert channels.payload("zato.security.basic-auth.create")["password"] in ran.out


@pytest.mark.usefixtures("somebody_there")
def test_an_edit_asks_for_a_secret_only_when_the_option_has_no_value(cluster, channels):
    cluster("edit-basic-auth", "crm", "--realm", "x")
    assert "password" not in channels.payload("zato.security.basic-auth.edit")
    channels.calls.clear()
    cluster("edit-basic-auth", "crm", "--password", stdin="hunter2\nhunter2\n")
    assert channels.payload("zato.security.basic-auth.edit")["password"] == "hunter2"


def test_nobody_can_be_asked_without_a_terminal(cluster, channels):
    cluster("edit-basic-auth", "crm", "--password", code=ExitCode.USAGE)


def test_get_shows_units_and_whether_a_secret_is_set(cluster, server):
    server.answers["zato.channel-rest.get"] = {"id": 4, "name": "orders", "timeout": 30, "is_active": True}
    server.answers["zato.security.basic-auth.get"] = {
        "id": 4,
        "name": "crm",
        "secrets": {"password": "abcdef"},
    }
    out = cluster("get-channel-rest", "orders").out
    assert "30 s" in out
    assert "yes" in out
    assert "set (fingerprint abcdef)" in cluster("get-basic-auth", "--id", "4").out
    server.answers["zato.security.basic-auth.get"] = {"id": 4, "name": "crm", "secrets": {"password": ""}}
    assert "not set" in cluster("get-basic-auth", "crm").out


def listing(count):
    items = [{"id": n, "name": f"c{n}", "url_path": f"/{n}", "is_active": True} for n in range(count)]

    def answer(payload):
        page = items[payload["offset"] : payload["offset"] + payload["limit"]]
        return {"items": page, "total": count}

    return answer


def test_a_list_is_a_table_with_the_fields_that_tell_objects_apart(cluster, server):
    server.answers["zato.channel-rest.get-list"] = listing(2)
    lines = cluster("list-channel-rest").out.splitlines()
    assert lines[0].split() == ["Id", "Name", "Active", "URL", "path", "Service", "Security"]
    assert lines[1].split() == ["0", "c0", "yes", "/0"]


def test_a_long_list_is_fetched_page_by_page(cluster, server):
    server.answers["zato.channel-rest.get-list"] = listing(2500)
    assert len(cluster("list-channel-rest", "--json").json["items"]) == 2500
    assert len(server.calls) == 3


def test_a_list_is_cut_where_it_was_asked_to_be_and_says_so(cluster, server):
    server.answers["zato.channel-rest.get-list"] = listing(2500)
    out = cluster("list-channel-rest", "--limit", "1200", "--offset", "10").out
    assert "1200 of 2500." in out
    assert "c1209" in out
    assert "c1210" not in out


def test_a_list_passes_on_what_it_searches_for(cluster, server):
    server.answers["zato.channel-rest.get-list"] = {"items": [], "total": 0}
    assert "0 of 0." in cluster("list-channel-rest", "-q", "ord", "--internal").out
    assert server.calls[0][1] == {"query": "ord", "internal": True, "offset": 0, "limit": 1000}


def test_a_list_shows_the_columns_that_are_named(cluster, server):
    server.answers["zato.channel-rest.get-list"] = listing(1)
    assert cluster("list-channel-rest", "--columns", "url-path,name").out.splitlines()[1].split() == [
        "0",
        "/0",
        "c0",
    ]
    cluster("list-channel-rest", "--columns", "nothing", code=ExitCode.USAGE)
    assert "Match slash" in cluster("list-channel-rest", "--columns", "all").out


def test_escape_sequences_in_names_do_not_reach_the_terminal(cluster, server):
    server.answers["zato.channel-rest.get-list"] = {"items": [{"id": 1, "name": "\x1b[2Jx"}], "total": 1}
    assert "\x1b" not in cluster("list-channel-rest").out


def test_a_wrong_password_is_told_with_a_code_of_its_own(server, junctor, tmp_path):
    (tmp_path / "p").write_text("wrong\n")
    options = ("--address", server.address, "--password-file", str(tmp_path / "p"))
    ran = junctor("list-channel-rest", *options, code=ExitCode.UNAUTHORIZED)
    assert "wrong" not in ran.err


def test_an_address_where_nobody_listens_is_told_with_a_hint(junctor, tmp_path):
    (tmp_path / "p").write_text("x\n")
    options = ("--address", "127.0.0.1:1", "--password-file", str(tmp_path / "p"))
    assert "junctor start" in junctor("list-channel-rest", *options, code=ExitCode.UNREACHABLE).err


def test_verbose_says_who_is_asked(cluster, channels):
    assert f"Asking {channels.address} as admin.invoke." in cluster("-v", "delete-channel-rest", "orders").err


def parsed(info, *arguments, edit=False):
    command = click.Command("x", params=field_options(info, edit=edit))
    return given_values(info, command.make_context("x", list(arguments)).params)


def test_a_list_field_is_given_item_by_item():
    info = type_of(field("scope", "list", default=[]))
    assert parsed(info, "--scope", "a", "--scope", "b") == {"scope": ["a", "b"]}
    assert parsed(info, "--scope", "", edit=True) == {"scope": []}
    assert parsed(info) == {}


def test_a_block_of_text_is_read_from_a_file(tmp_path):
    (tmp_path / "text").write_text("one\ntwo\n")
    info = type_of(field("body", block=True))
    assert parsed(info, "--body", f"@{tmp_path / 'text'}") == {"body": "one\ntwo\n"}
    assert parsed(info, "--body", "text") == {"body": "text"}


def test_a_line_that_begins_with_an_at_sign_is_itself():
    assert parsed(type_of(field("line")), "--line", "@x") == {"line": "@x"}


def test_a_field_whose_name_is_an_option_of_every_command_gets_another():
    assert parsed(type_of(field("path")), "--field-path", "/x") == {"path": "/x"}


def test_a_field_that_only_the_server_sets_has_no_option():
    assert not field_options(type_of(field("digest", read_only=True)), edit=True)


def test_help_tells_units_limits_defaults_and_what_is_required(junctor):
    out = " ".join(junctor("create-channel-rest", "--help").out.split())
    for text in ("[1 to 3600 s; default: 30]", "[required]", "[default: true]", "--data-format"):
        assert text in out


@pytest.mark.parametrize("info", manifest.load(), ids=[info.kind for info in manifest.load()])
def test_every_type_has_a_command_for_each_verb_under_each_of_its_names(info, junctor):
    for verb in info.all_verbs:
        for name in (info.command, *info.command_aliases):
            assert info.label in junctor(f"{verb}-{name}", "--help").out
