"""Calls between clusters: how far one has come, so that clusters that call each other do not do so for ever."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final

from junctor.sql.errors import CallFailed

LINK: Final = "junctor.link"  # the key in the environ of a call that came from another cluster
MAX_HOPS: Final = 8

# What the call that runs in this greenlet came with; None when no other cluster made it.
current_link: ContextVar[Mapping[str, Any] | None] = ContextVar("junctor_link", default=None)


def onward(cluster: str) -> dict[str, Any]:
    """What a call from ``cluster`` to another one says of its way: ``origin``, the first cluster, and ``hops``, the links with this one.

    Raises ``CallFailed`` when it has come over ``MAX_HOPS`` links already.
    """
    link = current_link.get() or {}
    origin, hops = link.get("origin"), link.get("hops")
    taken = hops if isinstance(hops, int) and hops > 0 else 0
    if taken >= MAX_HOPS:
        raise CallFailed(
            f"The call came over {taken} links between clusters already, from cluster {origin!r}: they seem to call each other "
            "in a circle. Check which services their gateways lead to."
        )
    return {"origin": origin if isinstance(origin, str) and origin else cluster, "hops": taken + 1}
