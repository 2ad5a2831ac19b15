"""What holds for the whole cluster, as this worker has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from junctor.server.runtime.live import Live
from junctor.sql.config import Config

if TYPE_CHECKING:
    from junctor.server.context import Context


class ClusterSettings(Live):
    """The cluster's settings; ``context.cluster`` is always the current one."""

    kind = "cluster"

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self.error_format: str = config["error_format"]
        self.max_body_size: int = config["max_body_size"]
        self.access_log_sample: int = config["access_log_sample"]

    def take_over(self, previous: Live | None) -> None:
        """Becomes the settings that requests go by."""
        del previous
        self.context.cluster = self
