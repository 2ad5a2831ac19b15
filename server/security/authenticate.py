"""Who is calling: a request against the security definition of its channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from junctor.server.security.definitions import Definition
from junctor.server.service.channel import NO_SECURITY, ChannelSecurityInfo
from junctor.sql.errors import Unauthorized

if TYPE_CHECKING:
    from junctor.server.runtime.registry import Registry


def authenticate(
    registry: Registry, security_id: int | None, environ: Mapping[str, Any]
) -> ChannelSecurityInfo:
    """The caller.  Raises ``Unauthorized``, which is the same for every reason.

    ``security_id`` is the channel's definition, None when anybody may call.  The definition is looked up at each request, so a
    changed password holds from the next one on.  A definition that does not work lets nobody in.
    """
    if security_id is None:
        return NO_SECURITY
    definition = registry.live("security", security_id)
    if not isinstance(definition, Definition):
        raise Unauthorized
    if not definition.admits(environ):
        raise Unauthorized(challenge=definition.challenge_to(environ))
    return definition.info
