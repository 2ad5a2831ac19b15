import click
import pytest

from junctor.cli.environment import Environment, Plan
from junctor.cli.exit_codes import ExitCode
from junctor.cli.secret import agree
from junctor.cli.session import Session
from junctor.sql.secrets import parse_keys

LIVE = {"id": 1, "name": "k", "config_version": 7, "converged": True, "missing": []}


@pytest.fixture
def keys(server):
    server.answers["zato.security.apikey.edit"] = LIVE
    return server


@pytest.fixture
def environment(tmp_path):
    plan = Plan(odb_url="postgresql://a:b@127.0.0.1:1/c", redis_url="redis://127.0.0.1")
    made = Environment.create(tmp_path / "env", plan, lambda: "k:1\n")
    made.complete()
    return made


def test_a_secret_is_set_from_standard_input(cluster, keys):
    assert "has another key" in cluster("secret", "set", "api-key", "k", "--stdin", stdin="abc\n").out
    assert keys.payload("zato.security.apikey.edit") == {"name": "k", "key": "abc", "wait": 5.0}


def test_a_secret_is_set_from_a_file_with_its_field_named(cluster, keys, tmp_path):
    (tmp_path / "f").write_text("abc")
    cluster("secret", "set", "security_api_key", "k", "key", "--file", str(tmp_path / "f"))
    assert keys.payload("zato.security.apikey.edit")["key"] == "abc"


def test_a_generated_secret_is_shown(cluster, keys):
    ran = cluster("secret", "set", "api-key", "k", "--generate")
    assert keys.payload("zato.security.apikey.edit")["key"] in ran.out


@pytest.mark.usefixtures("somebody_there")
def test_a_secret_is_asked_for(cluster, keys):
    cluster("secret", "set", "api-key", "k", stdin="abc\nabc\n")
    assert keys.payload("zato.security.apikey.edit")["key"] == "abc"


@pytest.mark.parametrize(
    "arguments", [["nothing", "k"], ["channel-rest", "k"], ["api-key", "k", "header"], ["api-key", "k"]]
)
def test_what_has_no_such_secret_or_gives_none_is_refused(cluster, keys, arguments):
    cluster("secret", "set", *arguments, code=ExitCode.USAGE)
    assert not keys.calls


def test_a_new_key_is_a_line_for_a_key_file(junctor):
    assert len(parse_keys(junctor("secret", "new-key").out)) == 1
    assert junctor("secret", "new-key", "--json").json["key"]


def test_keys_that_are_in_a_variable_are_not_rotated(junctor, environment, monkeypatch):
    monkeypatch.setenv("JUNCTOR_SECRET_KEYS", "k:abc")
    junctor("secret", "rotate", "--path", str(environment.path), code=ExitCode.ENVIRONMENT)


def test_what_users_lose_with_a_key_is_agreed_to_first():
    with pytest.raises(click.UsageError, match=r"end: 3 sessions, 2 recovery codes\. Wait"):
        agree(Session(), {"sessions": 3, "recovery codes": 2}, yes=False)
    agree(Session(), {"sessions": 3}, yes=True)
    agree(Session(), {"seals of audit events": 9}, yes=False)


def test_no_key_is_made_when_the_database_does_not_answer(junctor, environment):
    before = environment.read_secret("keyring")
    junctor("secret", "rotate", "--path", str(environment.path), code=ExitCode.DATABASE)
    assert environment.read_secret("keyring") == before
