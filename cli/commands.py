"""What commands there are, and where: the modules are imported when a command of theirs is run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

SECTIONS: Final = (
    "Quickstart",
    "Processes",
    "Services",
    "Configuration",
    "WebSockets",
    "Publish/subscribe",
    "Single Sign-On",
    "Maintenance",
)


class Entry(NamedTuple):
    """A command: 'module:object', the section of the help it is in ('' = not shown there), and its first sentence."""

    target: str
    section: str
    help: str


COMMANDS: Final[Mapping[str, Entry]] = {
    "quickstart": Entry(
        "quickstart:quickstart", "Quickstart", "Makes and runs a whole cluster on this machine."
    ),
    "start": Entry("processes:start", "Processes", "Starts an environment, or one component of it."),
    "stop": Entry("processes:stop", "Processes", "Stops an environment, or one component of it."),
    "reload": Entry(
        "processes:reload_", "Processes", "Replaces the workers of running servers without losing a request."
    ),
    "status": Entry(
        "processes:status",
        "Processes",
        "Shows servers, workers, what they have applied, and what does not work.",
    ),
    "wait": Entry(
        "reachability:wait", "Processes", "Waits until a cluster answers, or has applied a version."
    ),
    "ping": Entry("reachability:ping", "Processes", "Says whether a cluster answers, and how fast."),
    "deploy": Entry("services:deploy", "Services", "Deploys service files on all servers."),
    "invoke": Entry("services:invoke", "Services", "Invokes a service and prints its response."),
    "rollback": Entry("services:rollback", "Services", "Deploys an earlier version of a service file again."),
    "service": Entry("services:service", "Services", "Services: deploy, undeploy, invoke, versions."),
    "enmasse": Entry("enmasse:enmasse", "Configuration", "Exports, compares and imports objects in bulk."),
    "history": Entry("history:history", "Configuration", "Shows who changed what, newest first."),
    "list-websocket-clients": Entry(
        "websocket_clients:list_clients", "WebSockets", "Lists the connected WebSocket clients."
    ),
    "invoke-websocket-client": Entry(
        "websocket_clients:invoke_client",
        "WebSockets",
        "Sends a message to a WebSocket client and prints its response.",
    ),
    "disconnect-websocket-client": Entry(
        "websocket_clients:disconnect_client", "WebSockets", "Closes the connection of a WebSocket client."
    ),
    "pubsub": Entry(
        "pubsub:pubsub",
        "Publish/subscribe",
        "Messages of publish/subscribe: publish, pull, browse, explain, replay.",
    ),
    "sso": Entry(
        "sso:sso",
        "Single Sign-On",
        "Users of Single Sign-On: made, found, locked, approved; their passwords and sessions.",
    ),
    "audit": Entry(
        "audit:audit",
        "Single Sign-On",
        "The audit trail: who did what to whom, and whether anybody has changed it since.",
    ),
    "hash": Entry(
        "hash_rounds:hash_", "Single Sign-On", "Hashes of passwords: how many rounds take how long."
    ),
    "chaos": Entry(
        "chaos.command:chaos",
        "Maintenance",
        "Verifies that publish/subscribe keeps its promises while things fail.",
    ),
    "odb": Entry("odb:odb", "Maintenance", "The schema of the object database: check, upgrade, downgrade."),
    "secret": Entry("secret:secret", "Maintenance", "Secrets of objects, and the keys that encrypt them."),
    "info": Entry("reachability:info", "Maintenance", "Shows what an environment consists of, and where."),
    "version": Entry("reachability:version", "Maintenance", "Shows the version of Junctor."),
    "completion": Entry("completion:completion", "Maintenance", "Prints a script for completion in a shell."),
}
