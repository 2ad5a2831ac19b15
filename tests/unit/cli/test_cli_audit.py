import json
from datetime import UTC, datetime

import pytest

from junctor.cli.audit import CONTENT
from junctor.cli.exit_codes import ExitCode
from junctor.server.audit.seal import FIELDS, START, content, link

LIST, VERIFY = "zato.audit.get-list", "zato.audit.verify"


def event(number, previous=START):
    """An event as it is exported, with its place in a chain."""
    row = {
        **dict.fromkeys(FIELDS, ""),
        "cluster_id": 1,
        "at": datetime(2026, 11, 24, 10, 0, number, tzinfo=UTC),
        "cid": f"cid{number}",
        "op": "user.login",
        "outcome": "ok",
        "user_agent": "żółw \\ \"x\" \u2028",
        "extra": {"b": [1, 2.5, None], "a": True},
    }  # fmt: skip
    chain = link(previous, number, content(row))
    more = {"id": number, "position": number, "chain": chain.hex(), "mac": "", "key_id": "k"}
    return row | more | {"at": row["at"].isoformat(timespec="microseconds")}


def chain(count):
    events, previous = [], START
    for number in range(1, count + 1):
        events.append(event(number, previous))
        previous = bytes.fromhex(events[-1]["chain"])
    return events


def step(**more):
    return {
        "checked": 2,
        "unknown_keys": 0,
        "problem_count": 0,
        "problems": [],
        "first_position": 1,
        "last_position": 4,
        "unchained": 0,
        "cursor": None,
        **more,
    }


def test_the_content_of_an_event_is_the_same_everywhere():
    assert CONTENT == FIELDS


def test_events_are_listed(cluster, server):
    server.answers[LIST] = {"items": chain(2), "cursor": "c"}
    ran = cluster("audit", "list", "--op", "user.*", "--outcome", "ok", "--since", "1h", "--limit", "2")
    assert "cid1" in ran.out
    assert "There are more" in ran.out
    request = server.payload(LIST)
    assert (request["op"], request["outcome"], request["limit"]) == ("user.*", "ok", 2)


def test_an_event_is_shown(cluster, server):
    server.answers["zato.audit.get"] = event(1)
    assert '{"b": [1, 2.5, null], "a": true}' in cluster("audit", "show", "1").out


def test_events_are_exported_and_verified_without_the_cluster(cluster, junctor, server, tmp_path):
    events = chain(3)
    answers = {"": {"items": events[:2], "cursor": "c"}, "c": {"items": events[2:], "cursor": ""}}
    server.answers[LIST] = lambda payload: answers[payload["cursor"]]
    ran = cluster("audit", "export")
    assert server.calls[0][1] == {"oldest_first": True, "limit": 500, "cursor": ""}
    file = tmp_path / "trail.jsonl"
    file.write_text(ran.out)
    verified = junctor("audit", "verify", "--file", str(file))
    assert "3 events, positions 1 to 3, are as they were written." in verified.out
    assert f"The chain value at position 3 is {events[2]['chain']}." in verified.out


@pytest.mark.parametrize(
    ("change", "kind", "position"),
    [
        (lambda events: events[1].update(actor="x"), "changed", 2),
        (lambda events: events.pop(1), "missing", 3),
        (lambda events: events[2].update(chain="00" * 32), "changed", 3),
    ],
)
def test_a_changed_export_shows(junctor, tmp_path, change, kind, position):
    events = chain(4)
    change(events)
    file = tmp_path / "trail.jsonl"
    file.write_text("".join(json.dumps(item) + "\n" for item in events))
    found = junctor("audit", "verify", "--file", str(file), "--json", code=ExitCode.NO).json
    assert (found["problems"][0]["kind"], found["problems"][0]["position"]) == (kind, position)


@pytest.mark.parametrize("text", ["no json\n", "{}\n", "[1]\n"])
def test_a_file_that_is_no_export_is_refused(junctor, tmp_path, text):
    file = tmp_path / "trail.jsonl"
    file.write_text(text)
    ran = junctor("audit", "verify", "--file", str(file), code=ExitCode.INVALID)
    assert "Line 1" in ran.err
    junctor("audit", "verify", "--file", str(tmp_path / "nothing"), code=ExitCode.INVALID)


def test_a_trail_is_verified_in_many_calls(cluster, server):
    steps = {
        None: step(cursor={"position": 2, "chain": None}),
        2: step(unchained=3, unknown_keys=1),
    }
    server.answers[VERIFY] = lambda payload: steps[payload["cursor"] and payload["cursor"]["position"]]
    ran = cluster("audit", "verify")
    assert "4 events, positions 1 to 4, are as they were written. 3 newer ones wait" in ran.out
    assert "keys of 1 have been retired" in ran.out
    assert cluster("audit", "verify", "--json").json["checked"] == 4


def test_a_trail_that_was_changed_is_told_of(cluster, server):
    problem = {"kind": "changed", "position": 2, "text": "It is not what was linked here."}
    server.answers[VERIFY] = step(problem_count=1, problems=[problem])
    ran = cluster("audit", "verify", code=ExitCode.NO)
    assert "Position 2: It is not what was linked here. [changed]" in ran.out
    assert "1 problems in 2 events" in ran.out


def test_a_new_chain_is_begun_only_expressly(cluster, server):
    server.answers["zato.audit.begin-chain"] = {}
    cluster("audit", "begin-chain", code=ExitCode.USAGE)
    assert not server.calls
    assert "A new chain has begun." in cluster("audit", "begin-chain", "--yes").out
