import pytest

from junctor.cli.exit_codes import ExitCode

MISSING = [{"server": "server1", "pid": 7, "applied_version": 2}]


def test_ping_says_how_fast_a_cluster_answers(junctor, server):
    assert junctor("ping", "--address", server.address, "--json").json["milliseconds"] > 0
    assert f"{server.address} answers in" in junctor("ping", "--address", server.address).out


def test_ping_fails_when_the_answer_is_not_200(junctor, server):
    assert (
        "HTTP status 404"
        in junctor("ping", "--address", server.address, "--url-path", "/x", code=ExitCode.UNREACHABLE).err
    )


def test_wait_returns_when_a_cluster_answers(junctor, server):
    assert junctor("wait", "--address", server.address).out == f"{server.address} answers.\n"
    assert junctor("wait", "--address", server.address, "--silent").out == ""


def test_wait_gives_up_in_time_and_says_why(junctor):
    ran = junctor(
        "wait",
        "--address",
        "127.0.0.1:1",
        "--timeout",
        "0.05",
        "--interval",
        "0.01",
        code=ExitCode.UNREACHABLE,
    )
    assert "does not answer after 0.05 s: Connection refused" in ran.err


def test_wait_for_a_version_asks_again_until_every_worker_has_it(cluster, server):
    answers = iter(
        [
            {"version": 3, "converged": False, "missing": MISSING},
            {"version": 3, "converged": True, "missing": []},
        ]
    )
    server.answers["junctor.cluster.wait"] = lambda payload: next(answers)
    assert "Version 3 is live on all workers." in cluster("wait", "--version", "3").out
    assert server.calls[0][1]["version"] == 3
    assert 59 < server.calls[0][1]["timeout"] <= 60


def test_wait_for_a_version_names_the_workers_that_do_not_have_it_in_time(cluster, server):
    server.answers["junctor.cluster.wait"] = {"version": 3, "converged": False, "missing": MISSING}
    ran = cluster("wait", "--version", "3", "--timeout", "0", code=ExitCode.UNREACHABLE)
    assert "server1 (pid 7, version 2)" in ran.err


@pytest.mark.parametrize("arguments", [["--version", "0"], ["--interval", "0"]])
def test_wait_refuses_numbers_that_make_no_sense(junctor, arguments):
    junctor("wait", *arguments, code=ExitCode.USAGE)
