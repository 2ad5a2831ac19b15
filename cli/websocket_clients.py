"""Clients of WebSocket channels: ``list-``, ``disconnect-`` and ``invoke-websocket-client``."""

from __future__ import annotations

from typing import Any

import click

from junctor.cli import output
from junctor.cli.command import ClusterCommand, pass_session
from junctor.cli.services import parse_payload
from junctor.cli.session import Session

PREFIX = "zato.channel.web-socket"
PAGE = 500  # clients that are asked for at a time
MAX_LIMIT = 100_000
MAX_TIMEOUT = 300.0  # seconds; a call of an administrative service ends a little later
COLUMNS = {
    "Client": "pub_client_id",
    "Calls itself": "ext_client_id",
    "Name": "ext_client_name",
    "Channel": "channel",
    "From": "peer_address",
    "For": "peer_forwarded_for",
    "Connected": "connection_time",
    "Server": "server_name",
    "Pid": "server_proc_pid",
}


@click.command(cls=ClusterCommand)
@click.option("--channel", metavar="NAME", help="Only clients of this channel.")
@click.option(
    "--query", metavar="TEXT", help="Only clients that have this in one of their ids or in their name."
)
@click.option(
    "--limit",
    type=click.IntRange(1, MAX_LIMIT),
    default=1000,
    show_default=True,
    metavar="NUMBER",
    help="At most so many.",
)
@pass_session
def list_clients(session: Session, channel: str | None, query: str | None, limit: int) -> None:
    """Lists the connected WebSocket clients.

    Those of all servers, the ones first that connected last.
    """
    given = {"name": channel, "query": query}
    asked = {name: value for name, value in given.items() if value is not None}
    items: list[dict[str, Any]] = []
    total = limit
    while len(items) < min(limit, total):
        page = {"offset": len(items), "limit": min(PAGE, limit - len(items))}
        answer = session.invoke(f"{PREFIX}.get-connection-list", asked | page)
        total = answer["total"]
        if not answer["items"]:
            break
        items += answer["items"]

    def show() -> None:
        output.print_table(tuple(COLUMNS), [_row(item) for item in items])
        if total > len(items):
            session.say(f"{len(items)} of {total}; see --limit and --query.")

    session.answer({"items": items, "total": total}, show)


def _row(item: dict[str, Any]) -> list[Any]:
    shown = item | {"connection_time": str(item["connection_time"])[:19]}
    return [shown[field] for field in COLUMNS.values()]


@click.command(cls=ClusterCommand)
@click.argument("client", metavar="PUB_CLIENT_ID")
@click.option("--reason", metavar="TEXT", help="What the client is told.")
@pass_session
def disconnect_client(session: Session, client: str, reason: str | None) -> None:
    """Closes the connection of a WebSocket client.

    'junctor list-websocket-clients' shows the id.  Nothing keeps the client from connecting again.
    """
    request = {"pub_client_id": client} | ({} if reason is None else {"reason": reason})
    answer = session.invoke(f"{PREFIX}.disconnect-connection", request)
    session.answer(answer, lambda: session.say(f"Disconnected {client}."))


@click.command(cls=ClusterCommand)
@click.argument("client", metavar="PUB_CLIENT_ID")
@click.option(
    "--payload",
    metavar="JSON",
    help="What the client gets: JSON or text, '@FILE' for a file's content, '-' for standard input.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, MAX_TIMEOUT),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the client may take.",
)
@pass_session
def invoke_client(session: Session, client: str, payload: str | None, timeout: float) -> None:
    """Sends a message to a WebSocket client and prints its response.

    'junctor list-websocket-clients' shows the id.
    """
    request = {"pub_client_id": client, "request_data": parse_payload(payload), "timeout": timeout}
    answer = session.invoke(f"{PREFIX}.invoke-wsx", request, wait=timeout)["response_data"]
    if isinstance(answer, str) and not session.as_json:
        click.echo(answer or "(None)")
    else:
        output.print_json(answer)
