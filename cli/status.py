"""What ``junctor status`` shows: the processes of an environment, and the workers as the cluster knows them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from junctor.cli import output
from junctor.cli.session import Session
from junctor.sql.errors import JunctorError

if TYPE_CHECKING:
    from junctor.cli.cluster import EnvironmentStatus


def cluster_status(session: Session) -> tuple[dict[str, Any] | None, str]:
    """What the cluster says of itself, or None and the reason why it does not."""
    try:
        found: dict[str, Any] = session.invoke("junctor.cluster.status")
    except JunctorError as error:
        return None, error.message
    return found, ""


def show_status(
    session: Session, local: EnvironmentStatus | None, remote: Mapping[str, Any] | None, reason: str
) -> None:
    """Writes both as tables."""
    if local is not None:
        session.say(f"Environment {local.path}, cluster {local.cluster}")
        now = time.time()
        rows = [
            (
                item.name,
                item.state,
                item.address,
                item.pid or None,
                output.duration(now - item.started) if item.started else None,
                output.size(item.memory) if item.memory else None,
            )
            for item in local.components
        ]
        output.print_table(("Component", "State", "Address", "Pid", "Up for", "Memory"), rows)
        for item in local.components:
            if item.problem:
                session.say(f"{item.name}: {item.problem}")
    if remote is None:
        session.say(f"The cluster does not answer: {reason}")
        return
    session.say(f"Cluster {remote['cluster']}, version {remote['config_version']} of its configuration")
    output.print_table(
        ("Server", "Worker", "Pid", "State", "Up for", "Applied", "Behind", "Memory", "Problems"),
        [row for server in remote["servers"] for row in _worker_rows(server)],
    )
    if states := [row for server in remote["servers"] for row in _state_rows(server)]:
        output.print_table(
            ("Connection", "Server", "Pid", "State", "For", "Calls", "Ping (ms)", "Remarks"),
            sorted(states, key=str),
        )


def _worker_rows(server: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    if not server["workers"]:
        return [(server["name"], None, None, "no live worker", None, None, None, None, None)]
    return [
        (
            server["name"],
            worker.get("id"),
            worker.get("pid"),
            worker.get("state"),
            _up_for(worker.get("started")),
            worker.get("applied_version"),
            worker.get("lag") or None,
            output.size(worker["memory"]) if worker.get("memory") else None,
            _problems(worker.get("problems") or {}),
        )
        for worker in server["workers"]
    ]


def _state_rows(server: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """A row for each connection of each worker that has a state: links to other clusters."""
    return [
        (
            key.partition("/")[2],
            server["name"],
            worker.get("pid"),
            state.get("state"),
            _up_for(state.get("since")),
            state.get("calls"),
            state.get("lag_ms"),
            _remarks(state),
        )
        for worker in server["workers"]
        for key, state in (worker.get("states") or {}).items()
    ]


def _remarks(state: Mapping[str, Any]) -> str | None:
    """What is wrong, and whether the worker has the subscriptions of all."""
    remarks = [str(state["error"])] if state.get("error") else []
    if state.get("owner"):
        remarks.append("owns the subscriptions")
    failed = {topic: result for topic, result in (state.get("subscriptions") or {}).items() if result != "ok"}
    remarks += [f"not subscribed to {topic}: {result}" for topic, result in failed.items()]
    return "; ".join(remarks) or None


def _up_for(started: Any) -> str | None:
    from datetime import UTC, datetime

    if isinstance(started, int | float):
        return output.duration(time.time() - started)
    try:
        return output.duration((datetime.now(UTC) - datetime.fromisoformat(str(started))).total_seconds())
    except (ValueError, TypeError):  # no time, or one without a time zone
        return None


def _problems(problems: Any) -> str:
    if isinstance(problems, Mapping):
        return "; ".join(f"{name}: {reason}" for name, reason in problems.items())
    return output.shown(problems)
