"""Telling the other workers that there is a new version of the configuration."""

from __future__ import annotations

import logging

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

CONNECT_TIMEOUT = 2.0  # seconds
log = logging.getLogger(__name__)


def topic(cluster_id: int) -> str:
    """The Redis channel of a cluster's versions."""
    return f"junctor:{cluster_id}:config"


def sessions_topic(cluster_id: int) -> str:
    """The Redis channel on which workers tell each other whose sessions of Single Sign-On have ended or changed."""
    return f"junctor:{cluster_id}:sso"


def connect(url: str, *, timeout: float | None = CONNECT_TIMEOUT) -> redis.Redis:
    """A client with one connection; ``timeout`` is in seconds, None to wait for ever."""
    return redis.Redis.from_url(
        url,
        single_connection_client=False,
        socket_connect_timeout=CONNECT_TIMEOUT,
        socket_timeout=timeout,
        health_check_interval=0,
        retry=Retry(NoBackoff(), 1),
        client_name="junctor",
    )


class Publisher:
    """Publishes news.  Redis only makes changes arrive sooner: when it is away, workers find them by themselves."""

    def __init__(self, url: str, cluster_id: int) -> None:
        self._redis = connect(url) if url else None
        self._topic = topic(cluster_id)
        self._sessions_topic = sessions_topic(cluster_id)
        self._is_down = False

    def publish(self, version: int) -> None:
        """Says that ``version`` is there, which must have been committed."""
        self._publish(self._topic, str(version))

    def publish_sessions(self, users: str) -> None:
        """Says whose sessions have ended or changed, as ``SessionUpkeep`` writes it."""
        self._publish(self._sessions_topic, users)

    def _publish(self, topic: str, message: str) -> None:
        if self._redis is None:
            return
        try:
            self._redis.publish(topic, message)
            self._is_down = False
        except redis.RedisError as error:
            if not self._is_down:
                log.warning(
                    "Redis cannot be reached (%s): changes take effect a little later until it is back.",
                    error,
                )
            self._is_down = True
