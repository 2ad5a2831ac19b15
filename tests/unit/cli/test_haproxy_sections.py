import pytest

from junctor.cli.embedded.haproxy_sections import Line, explain, flatten, merge, parse
from junctor.sql.errors import EnvironmentProblem

OURS = """\
global
    maxconn 100
    log stdout format raw daemon

defaults
    timeout client 60s
    timeout server 10s

frontend front_http_plain
    bind :80
    default_backend bck_http_plain
    acl is_websocket_1 path /ws
    use_backend websockets if is_websocket_1

backend websockets
    balance leastconn
    server one 127.0.0.1:1
"""
LOCAL = "haproxy.local.cfg"


def merged(local):
    return [line.text for line in flatten(merge(parse(OURS), parse(local, LOCAL)))]


def added(local):
    """What ``local`` adds, and what it takes away."""
    before, after = OURS.splitlines(), merged(local)
    return [line for line in after if line not in before], [line for line in before if line not in after]


def test_without_a_local_file_nothing_changes():
    assert merged("") == OURS.splitlines()
    assert merged("# only a comment\n\n") == OURS.splitlines()


def test_lines_go_into_the_section_of_the_same_name():
    lines = merged("backend websockets\n    stick-table type ip size 1k\n")

    assert lines[-2:] == ["    # From haproxy.local.cfg:", "    stick-table type ip size 1k"]


def test_an_administrators_choice_of_a_backend_comes_before_ours_and_may_use_our_conditions():
    lines = merged("frontend front_http_plain\n    use_backend canary if is_websocket_1\n")

    assert (
        lines.index("    use_backend canary if is_websocket_1")
        == lines.index("    use_backend websockets if is_websocket_1") - 1
    )
    assert lines.index("    acl is_websocket_1 path /ws") < lines.index(
        "    use_backend canary if is_websocket_1"
    )


@pytest.mark.parametrize(
    ("local", "lost"),
    [
        ("global\n maxconn 7", ["    maxconn 100"]),
        ("defaults\n timeout client 1h", ["    timeout client 60s"]),
        ("frontend front_http_plain\n default_backend mine", ["    default_backend bck_http_plain"]),
        ("global\n log 10.0.0.1 local0", []),
        ("defaults\n timeout queue 1s", []),
        ("defaults other\n timeout client 1h", []),
    ],
)
def test_what_can_be_said_once_replaces_ours_and_all_else_is_added(local, lost):
    new, gone = added(local)

    assert gone == lost
    assert local.splitlines()[1] in new


def test_other_sections_are_added_as_they_are():
    local = "listen stats\n\tbind :8404  # for us\n\n    stats enable\npeers mine\n  peer a 1.2.3.4:5\n"

    assert merged(local) == [*OURS.splitlines(), *local.splitlines()]


def test_one_section_may_be_written_in_several_places():
    new, _ = added(
        "global\n    nbthread 1\nbackend websockets\n    hash-type consistent\nglobal\n    daemon\n"
    )

    assert {"    nbthread 1", "    daemon", "    hash-type consistent"} <= set(new)


def test_lines_end_where_haproxy_ends_them():
    [section] = parse("global\r\n    daemon \x0c x\u2028y\r\n", LOCAL)

    assert [line.text for line in section.lines] == ["    daemon \x0c x\u2028y"]


def test_what_is_in_no_section_is_refused_with_its_place():
    with pytest.raises(
        EnvironmentProblem, match=r"haproxy\.local\.cfg, line 2: 'maxconn 7' is in no section"
    ):
        parse("# mine\n  maxconn 7\nglobal\n", LOCAL)


@pytest.mark.parametrize("text", ["global\0", "global\n" + "#" * 1_000_001])
def test_what_is_no_configuration_is_refused(text):
    with pytest.raises(EnvironmentProblem, match="is not a configuration of HAProxy"):
        parse(text, LOCAL)


REPORT = """\
[NOTICE]   (1) : haproxy version is 2.8.25
[ALERT]    (1) : config : parsing [haproxy.cfg.new:2] : unknown keyword 'foo' in 'global' section
[WARNING]  (1) : config : parsing [haproxy.cfg.new:1] : careful
[ALERT]    (1) : config : parsing [haproxy.cfg.new:1] : also bad
[ALERT]    (1) : config : Proxy 'f': unable to find required use_backend: 'nix'.
[ALERT]    (1) : config : parsing [elsewhere.map:9] : not ours
[ALERT]    (1) : config : parsing [haproxy.cfg.new:99] : beyond
[ALERT]    (1) : config : Error(s) found in configuration file : haproxy.cfg.new
[ALERT]    (1) : config : Fatal errors found in configuration.
"""


def test_errors_are_told_with_the_line_of_whoever_wrote_it():
    lines = [Line("global"), Line("    foo bar", LOCAL, 17)]

    assert explain(REPORT, lines, "haproxy.cfg.new").splitlines() == [
        "  haproxy.local.cfg, line 17 (foo bar) : unknown keyword 'foo' in 'global' section",
        "  haproxy.cfg.new, line 1 (global) : also bad",
        "  Proxy 'f': unable to find required use_backend: 'nix'.",
        "  [elsewhere.map:9] : not ours",
        "  [haproxy.cfg.new:99] : beyond",
    ]


def test_many_errors_are_cut_short():
    report = "\n".join(f"[ALERT]    (1) : config : bad {n}" for n in range(30))

    assert explain(report, [], "x").splitlines()[-2:] == ["  bad 19", "  ... and 10 more"]


def test_a_report_in_another_form_is_told_as_it_is():
    assert explain("cannot load libssl", [], "x") == "  cannot load libssl"
    assert explain("", [], "x") == "  it does not say why"
