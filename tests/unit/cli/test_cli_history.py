import click

from junctor.cli.history import change_lines


def lines(**change):
    return [
        click.unstyle(line) for line in change_lines({"kind": "security_basic_auth", "name": "crm", **change})
    ]


def test_a_new_object_is_shown_without_what_goes_without_saying():
    differences = {
        "id": [None, 4], "name": [None, "crm"], "owner": [None, ""], "is_active": [None, True], "realm": [None, "R"],
        "username": [None, "crm"], "secrets": [None, {"password": "abc"}],
    }  # fmt: skip
    assert lines(verb="create", differences=differences) == [
        "+ security_basic_auth crm",
        "    password: secret abc",
        "    realm: R",
        "    username: crm",
    ]


def test_an_edit_shows_each_field_before_and_after():
    differences = {
        "realm": ["a", "b"],
        "secrets": [{"password": "x"}, {"password": "y"}],
        "is_active": [True, False],
    }
    assert lines(verb="edit", differences=differences) == [
        "~ security_basic_auth crm",
        "    is_active: true -> false",
        "    password: secret x -> secret y",
        "    realm: a -> b",
    ]


def test_a_deleted_object_is_one_line():
    assert lines(verb="delete", differences={"realm": ["a", None]}) == ["- security_basic_auth crm"]


def test_a_long_value_is_cut_and_control_characters_are_shown():
    (_, line) = lines(verb="edit", differences={"realm": ["", "\x1b" + "x" * 100]})
    assert "\x1b" not in line
    assert line.endswith("...")


def test_the_history_is_listed_newest_first(cluster, server):
    change = {"kind": "channel_rest", "name": "a", "verb": "delete", "differences": {}, "who": "me"}
    items = [change | {"version": n, "at": "2026-01-01T00:00:00.5+00:00"} for n in (3, 2)]
    server.answers["junctor.config.history"] = {"items": items}
    out = cluster("history", "--limit", "2", "--before", "4").out.splitlines()
    assert out[0] == "Version 3  2026-01-01T00:00:00  me"
    assert server.payload("junctor.config.history") == {"limit": 2, "before": 4}
