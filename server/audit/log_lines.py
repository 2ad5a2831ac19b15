"""``audit-pii.log``: a line of JSON for each event, once it is committed (facts sheet, section 6)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from junctor.server.audit.seal import timestamp
from junctor.server.log import AUDIT_LOGGER

LEVELS: Final = {"ok": logging.INFO, "refused": logging.WARNING, "error": logging.ERROR}
log = logging.getLogger(AUDIT_LOGGER)


def write_line(row: Mapping[str, Any]) -> None:
    """Logs an event: cid, op, and of the others those that are known."""
    level = LEVELS.get(row["outcome"], logging.INFO)
    if not log.isEnabledFor(level):
        return
    more = {
        "current_app": row["app"],
        "remote_addr": row["remote_addr"],
        "user_agent": row["user_agent"],
        "reason": row["reason"],
    }
    line = {
        "at": timestamp(row["at"]),
        "level": logging.getLevelName(level),
        "cid": row["cid"],
        "op": row["op"],
        "current_user": row["actor"],
        "target_user": row["target"],
        "result": row["outcome"],
        "extra": {name: value for name, value in more.items() if value} | row["extra"],
    }
    log.log(level, "%s", dumped({name: value for name, value in line.items() if value}))


def write_head(position: int, chain: bytes) -> None:
    """Logs where the chain ends, so that a copy of the log elsewhere shows if the trail is cut later."""
    line = {
        "at": timestamp(datetime.now(UTC)),
        "level": "INFO",
        "op": "audit.head",
        "position": position,
        "chain": chain.hex(),
    }
    log.info("%s", dumped(line))


def dumped(line: Mapping[str, Any]) -> str:
    """A line of JSON."""
    return orjson.dumps(line).decode()
