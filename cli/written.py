"""After a change: which version of the configuration has it, and whether every worker does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

from junctor.cli.session import Session

DEFAULT_WAIT = 5.0  # seconds
MAX_WAIT = 300.0  # seconds
SHOWN_WORKERS = 10

WAIT = click.Option(
    ["--wait"],
    type=click.FloatRange(0, MAX_WAIT),
    default=DEFAULT_WAIT,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait until every worker has the change.",
)
NO_WAIT = click.Option(["--no-wait"], is_flag=True, help="Do not wait for that.")


def wait_seconds(options: Mapping[str, Any]) -> float:
    """How long the options say to wait."""
    return 0.0 if options["no_wait"] else float(options["wait"])


def tell_version(session: Session, answer: Mapping[str, Any]) -> None:
    """Says which version a change became and who, of those that were waited for, has not applied it yet."""
    version = answer.get("config_version")
    missing = answer.get("missing") or []
    if answer.get("converged"):
        session.say(f"Version {version} is live on all workers.")
    elif missing:
        session.say(f"Version {version} is stored.")
        session.warn(
            f"It is not live yet on: {workers(missing)}. 'junctor wait --version {version}' waits for it."
        )
    else:
        session.say(f"Version {version} is stored; workers apply it by themselves.")


def workers(missing: Iterable[Mapping[str, Any]]) -> str:
    """Workers as words: server, process, the version that they have."""
    named = [
        f"{item.get('server')} (pid {item.get('pid')}, version {item.get('applied_version')})"
        for item in missing
    ]
    more = len(named) - SHOWN_WORKERS
    return ", ".join(named[:SHOWN_WORKERS]) + (f" and {more} more" if more > 0 else "")
