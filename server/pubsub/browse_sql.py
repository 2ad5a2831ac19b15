"""The statements by which administrators look at messages: none of them takes, locks or changes anything.

Pages are by key: the next one begins behind the last row of the one before, however much has come or gone meanwhile.  A search looks at
a bounded number of rows for each page, and so takes a bounded time; a page may then have fewer rows than it could, and there is a next one.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import text

PREFIX: Final = 2048  # characters of the data that a list shows
SCANNED: Final = 10_000  # rows that one page looks at

_SHOWN: Final = f"""
    m.id, m.topic_id, m.msg_id, left(m.data, {PREFIX}) AS data, length(m.data) > {PREFIX} AS is_cut, m.data_type, m.size, m.mime_type,
    m.pub_time, m.ext_pub_time, m.expiration, m.expires_at, m.keep_until, m.endpoint_name, m.pub_pattern, m.correl_id,
    m.in_reply_to, m.ext_client_id, m.group_id, m.position_in_group, m.reply_to_sk, m.deliver_to_sk
"""
_MATCHES: Final = """
    (:msg_id = '' OR m.msg_id = :msg_id) AND (:correl_id = '' OR m.correl_id = :correl_id)
    AND (:query = '' OR m.data ILIKE :query)
    AND (CAST(:since AS timestamptz) IS NULL OR m.pub_time >= :since) AND (CAST(:until AS timestamptz) IS NULL OR m.pub_time < :until)
"""
# Messages of a topic, newest first, and in how many queues each is.
# The last two columns say how far a search has come.
_TOPIC: Final = """
    WITH scanned AS MATERIALIZED (
        SELECT m.id FROM pubsub_message m WHERE m.topic_id = :topic_id AND m.cluster_id = :cluster_id AND {place}
        ORDER BY m.id DESC LIMIT :scanned
    )
    SELECT {shown}, m.priority,
           (SELECT count(*) FROM unnest(CAST(:subs AS bigint[])) AS sub_id CROSS JOIN generate_series(1, 9) AS priority
            WHERE EXISTS (SELECT FROM pubsub_queue q WHERE q.sub_id = sub_id.sub_id AND q.priority = priority.priority
                                                       AND q.message_id = m.id)) AS queues,
           (SELECT min(id) FROM scanned) AS last_scanned, (SELECT count(*) FROM scanned) AS scanned
    FROM (SELECT 1) one LEFT JOIN (
        SELECT m.* FROM scanned JOIN pubsub_message m ON m.id = scanned.id WHERE {matches} ORDER BY m.id DESC LIMIT :limit
    ) m ON true
    ORDER BY m.id DESC
"""
TOPIC: Final = text(_TOPIC.format(shown=_SHOWN, matches=_MATCHES, place="(:after = 0 OR m.id < :after)"))
# With an id there is an index, and nothing to search.
TOPIC_BY_MSG_ID: Final = text(
    _TOPIC.format(
        shown=_SHOWN, matches=_MATCHES, place="m.msg_id = :msg_id AND (:after = 0 OR m.id < :after)"
    )
)
TOPIC_BY_CORREL_ID: Final = text(
    _TOPIC.format(
        shown=_SHOWN,
        matches=_MATCHES,
        place="m.correl_id = :correl_id AND m.correl_id <> '' AND (:after = 0 OR m.id < :after)",
    )
)

# Messages of a queue, in the order of their delivery.
_QUEUE: Final = """
    WITH scanned AS MATERIALIZED (
        SELECT found.* FROM generate_series(CAST(:priority AS int), 1, -1) AS level (priority)
        CROSS JOIN LATERAL (
            SELECT q.* FROM pubsub_queue q
            WHERE q.sub_id = :sub_id AND q.priority = level.priority {place}
              AND q.message_id > CASE WHEN level.priority = :priority THEN :after ELSE 0 END
            ORDER BY q.message_id LIMIT :scanned
        ) found
        ORDER BY found.priority DESC, found.message_id
        LIMIT :scanned
    ), last AS (
        SELECT priority, message_id FROM scanned ORDER BY priority, message_id DESC LIMIT 1
    )
    SELECT {shown}, m.q_priority AS priority, m.q_expires_at, m.not_before, m.attempts, m.last_error, m.first_failed_at,
           (SELECT priority FROM last) AS last_priority, (SELECT message_id FROM last) AS last_scanned,
           (SELECT count(*) FROM scanned) AS scanned
    FROM (SELECT 1) one LEFT JOIN (
        SELECT m.*, q.priority AS q_priority, q.expires_at AS q_expires_at, q.not_before, q.attempts, q.last_error, q.first_failed_at
        FROM scanned q JOIN pubsub_message m ON m.id = q.message_id
        WHERE {matches}
        ORDER BY q.priority DESC, q.message_id LIMIT :limit
    ) m ON true
    ORDER BY m.q_priority DESC, m.id
"""
QUEUE: Final = text(_QUEUE.format(shown=_SHOWN, matches=_MATCHES, place=""))
QUEUE_BY_IDS: Final = text(
    _QUEUE.format(shown=_SHOWN, matches=_MATCHES, place="AND q.message_id = ANY (CAST(:ids AS bigint[]))")
)

# One message with all of its data: the newest of this id.
MESSAGE: Final = text("""
    SELECT m.* FROM pubsub_message m
    WHERE m.cluster_id = :cluster_id AND m.msg_id = :msg_id AND (:topic_id = 0 OR m.topic_id = :topic_id)
    ORDER BY m.id DESC LIMIT 1
""")
# The ids of messages by what there is an index for.
IDS: Final = text("""
    SELECT m.id FROM pubsub_message m
    WHERE m.cluster_id = :cluster_id AND m.topic_id = :topic_id
      AND CASE WHEN :msg_id <> '' THEN m.msg_id = :msg_id ELSE m.correl_id = :correl_id AND m.correl_id <> '' END
    ORDER BY m.id LIMIT :most
""")
# The rows of messages in some queues.
ROWS: Final = text("""
    SELECT q.* FROM unnest(CAST(:subs AS bigint[])) AS given (sub_id) CROSS JOIN generate_series(1, 9) AS level (priority)
    JOIN pubsub_queue q ON q.sub_id = given.sub_id AND q.priority = level.priority AND q.message_id = ANY (CAST(:ids AS bigint[]))
""")
FIND_QUEUE: Final = text("""
    SELECT id, topic_id, name, sub_key FROM pubsub_subscription
    WHERE cluster_id = :cluster_id AND CASE WHEN :sub_key <> '' THEN sub_key = :sub_key ELSE name = :name END
""")
SUBSCRIPTIONS_OF: Final = text("SELECT id FROM pubsub_subscription WHERE topic_id = :topic_id ORDER BY id")

# Whoever delivers one of these queues is waited for, and waits; what it has taken is in flight.
HOLD: Final = text("""
    SELECT s.sub_id, :message_id = ANY (s.in_flight) AS is_in_flight FROM pubsub_state s
    WHERE s.sub_id = ANY (CAST(:subs AS bigint[])) ORDER BY s.sub_id FOR NO KEY UPDATE
""")
UPDATE_MESSAGE: Final = text("""
    UPDATE pubsub_message
    SET data = :data, data_type = :data_type, size = :size, mime_type = :mime_type, priority = :priority, correl_id = :correl_id,
        in_reply_to = :in_reply_to, expiration = :expiration,
        expires_at = CASE WHEN :has_expiration THEN CAST(:expires_at AS timestamptz) ELSE expires_at END
    WHERE id = :id
""")
UPDATE_ROWS: Final = text("""
    UPDATE pubsub_queue q
    SET priority = CASE WHEN :has_priority THEN :priority ELSE q.priority END,
        expires_at = CASE WHEN :has_expiration THEN CAST(:expires_at AS timestamptz) ELSE q.expires_at END
    FROM unnest(CAST(:subs AS bigint[])) AS given (sub_id), generate_series(1, 9) AS level (priority)
    WHERE q.sub_id = given.sub_id AND q.priority = level.priority AND q.message_id = :id
""")
DELETE_ROWS: Final = text("""
    DELETE FROM pubsub_queue q
    USING unnest(CAST(:subs AS bigint[])) AS given (sub_id), generate_series(1, 9) AS level (priority)
    WHERE q.sub_id = given.sub_id AND q.priority = level.priority AND q.message_id = ANY (CAST(:ids AS bigint[]))
""")
FORGET: Final = text(
    "UPDATE pubsub_message SET keep_until = NULL WHERE id = ANY (CAST(:ids AS bigint[])) AND keep_until IS NOT NULL"
)
# Messages of a topic that are kept for replay, and need not be any more.
FORGET_BATCH: Final = text("""
    UPDATE pubsub_message m SET keep_until = NULL
    FROM (
        SELECT id FROM pubsub_message WHERE topic_id = :topic_id AND id <= :last AND keep_until IS NOT NULL LIMIT :batch
    ) page
    WHERE m.id = page.id
""")
