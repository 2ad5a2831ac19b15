import json

import pytest

from junctor.cli.exit_codes import ExitCode
from tests.helpers.admin_server import Refused

LIST = "zato.channel.web-socket.get-connection-list"
DISCONNECT = "zato.channel.web-socket.disconnect-connection"
INVOKE = "zato.channel.web-socket.invoke-wsx"


def client(number):
    return {
        "pub_client_id": f"ws.{number}",
        "ext_client_id": f"crm.{number}",
        "ext_client_name": "CRM\x1b[31m",
        "channel": "orders",
        "peer_address": "127.0.0.1:50000",
        "peer_forwarded_for": "",
        "connection_time": "2026-11-24T10:00:00.123456+00:00",
        "server_name": "server1",
        "server_proc_pid": 4711,
        "attributes": {},
    }


def pages(total):
    def answer(payload):
        numbers = range(payload["offset"], min(total, payload["offset"] + payload["limit"]))
        return {"items": [client(number) for number in numbers], "total": total}

    return answer


def test_clients_are_listed_with_where_they_are(cluster, server):
    server.answers[LIST] = pages(2)
    ran = cluster("list-websocket-clients", "--channel", "orders", "--query", "crm")
    assert server.payload(LIST) == {"name": "orders", "query": "crm", "offset": 0, "limit": 500}
    lines = ran.out.splitlines()
    assert len(lines) == 3
    for text in ("ws.0", "crm.0", "orders", "127.0.0.1:50000", "2026-11-24T10:00:00", "server1", "4711"):
        assert text in lines[1]
    assert "\x1b" not in ran.out


def test_more_clients_than_a_page_has_are_asked_for_page_by_page(cluster, server):
    server.answers[LIST] = pages(1201)
    ran = cluster("list-websocket-clients", "--limit", "1100", "--json")
    assert [item["pub_client_id"] for item in ran.json["items"]] == [f"ws.{n}" for n in range(1100)]
    assert ran.json["total"] == 1201
    assert [payload["limit"] for _, payload in server.calls] == [500, 500, 100]
    assert "1100 of 1201; see --limit" in cluster("list-websocket-clients", "--limit", "1100").out


def test_a_list_that_shrinks_meanwhile_comes_to_an_end(cluster, server):
    server.answers[LIST] = lambda payload: {
        "items": [client(n) for n in range(500)] if not payload["offset"] else [],
        "total": 1000,
    }
    assert len(cluster("list-websocket-clients", "--json").json["items"]) == 500


def test_nobody_is_connected(cluster, server):
    server.answers[LIST] = pages(0)
    assert cluster("list-websocket-clients", "--json").json == {"items": [], "total": 0}
    assert cluster("list-websocket-clients").out.startswith("Client")


def test_a_client_is_disconnected(cluster, server):
    server.answers[DISCONNECT] = {"pub_client_id": "ws.1"}
    ran = cluster("disconnect-websocket-client", "ws.1", "--reason", "Maintenance")
    assert server.payload(DISCONNECT) == {"pub_client_id": "ws.1", "reason": "Maintenance"}
    assert ran.out == "Disconnected ws.1.\n"
    assert cluster("disconnect-websocket-client", "ws.1", "--json").json == {"pub_client_id": "ws.1"}


def test_a_client_that_is_not_connected_is_not_found(cluster, server):
    def refuse(_payload):
        raise Refused(404, "There is no connected WebSocket client 'ws.1'.", error="NotFound")

    server.answers[DISCONNECT] = server.answers[INVOKE] = refuse
    for command in ("disconnect-websocket-client", "invoke-websocket-client"):
        assert "no connected WebSocket client" in cluster(command, "ws.1", code=ExitCode.NOT_FOUND).err


def test_a_client_is_invoked_and_its_response_is_printed(cluster, server):
    server.answers[INVOKE] = {"response_data": {"état": [1]}}
    ran = cluster("invoke-websocket-client", "ws.1", "--payload", '{"n": 1}', "--timeout", "2.5")
    assert server.payload(INVOKE) == {"pub_client_id": "ws.1", "request_data": {"n": 1}, "timeout": 2.5}
    assert ran.json == {"état": [1]}


@pytest.mark.parametrize(
    ("response", "shown"), [("as it is", "as it is\n"), ("", "(None)\n"), (None, "null\n")]
)
def test_a_response_that_is_text_is_printed_as_it_is(cluster, server, response, shown):
    server.answers[INVOKE] = {"response_data": response}
    assert cluster("invoke-websocket-client", "ws.1").out == shown
    assert json.loads(cluster("invoke-websocket-client", "ws.1", "--json").out) == response


def test_a_client_that_does_not_answer_is_not_reached(cluster, server):
    def refuse(_payload):
        raise Refused(504, "The client did not answer within 5 s.", error="CallTimeout")

    server.answers[INVOKE] = refuse
    ran = cluster("invoke-websocket-client", "ws.1", code=ExitCode.UNREACHABLE)
    assert "did not answer within 5 s" in ran.err
