"""What can be wrong with the audit trail as a whole."""

from __future__ import annotations

from junctor.sql.errors import JunctorError


class ChainBroken(JunctorError):
    """Where the audit trail begins and ends cannot be believed, so that nothing is added to its chain."""
