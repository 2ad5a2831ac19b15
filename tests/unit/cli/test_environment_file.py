from dataclasses import replace

import pytest

from junctor.cli.environment_file import (
    LoadBalancerAddress,
    ServerAddress,
    Settings,
    StoreAddress,
    default_servers,
    parse,
    render,
    server_problems,
)
from junctor.sql.errors import EnvironmentProblem

SETTINGS = Settings(
    cluster="quickstart",
    junctor="0.1.0",
    created="2026-11-24T08:00:00+00:00",
    servers=default_servers(2),
    load_balancer=LoadBalancerAddress(),
    odb=StoreAddress(port=25432),
    redis=StoreAddress(url="redis://cache.example.com:6379/0"),
)


def test_what_is_written_is_read_back():
    assert parse(render(SETTINGS)) == SETTINGS


def test_comments_unknown_keys_and_order_stay_when_settings_change():
    text = "# mine\n" + render(SETTINGS).replace("[odb]", "[odb] # the truth\nnote = 'keep'")

    changed = render(replace(SETTINGS, odb=StoreAddress(port=25433)), text)

    assert changed == text.replace("25432", "25433")


def test_a_changed_list_of_servers_replaces_the_old_one():
    fewer = replace(SETTINGS, servers=(ServerAddress("only", 17099, "127.0.0.1"),))

    assert parse(render(fewer, render(SETTINGS))) == fewer


def test_every_problem_is_named_with_its_place():
    text = """
        format = 1
        load_balancer = {port = 70000, host = "a b"}
        odb = {url = 5}
        haproxy = {command = 1}
        [[servers]]
        name = "../x"
        port = true
    """

    with pytest.raises(EnvironmentProblem) as caught:
        parse(text)

    for place in (
        "cluster:",
        "load_balancer.port:",
        "load_balancer.host:",
        "odb.url:",
        "redis:",
        "haproxy.command:",
    ):
        assert place in str(caught.value)
    assert "servers[0].port:" in str(caught.value)
    assert "'../x' is not a name" in str(caught.value)


@pytest.mark.parametrize(
    "servers", ["", "servers = 5", "servers = []", "servers = ['x']", "servers = {name = 'x'}"]
)
def test_a_file_without_servers_is_refused(servers):
    with pytest.raises(EnvironmentProblem, match=r"at least one \[\[servers\]\]"):
        parse(f"format = 1\n{servers}")


def test_a_file_of_another_format_is_refused_with_both_numbers():
    with pytest.raises(EnvironmentProblem, match="format 2, this version of Junctor reads 1"):
        parse("format = 2")


def test_a_file_that_is_not_toml_is_refused_with_the_line():
    with pytest.raises(EnvironmentProblem, match="line 2"):
        parse("format = 1\nport = = 3")


def test_haproxy_is_found_automatically_when_the_file_does_not_say():
    text = render(SETTINGS).replace('[haproxy]\ncommand = "auto"\n', "")

    assert parse(text).haproxy == "auto"


@pytest.mark.parametrize(
    ("servers", "message"),
    [
        ([ServerAddress("a", 1), ServerAddress("a", 2)], "the same name"),
        ([ServerAddress("a", 1), ServerAddress("b", 1)], "the same port"),
        ([ServerAddress("postgres", 1)], "'postgres' is not a name"),
        ([ServerAddress("", 1)], "'' is not a name"),
        ([ServerAddress(".x", 1)], "'.x' is not a name"),
    ],
)
def test_servers_that_would_clash_are_refused(servers, message):
    assert message in str(server_problems(servers)[0])
