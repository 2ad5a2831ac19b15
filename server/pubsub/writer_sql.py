"""The statements by which messages are stored: one for whatever waits, however many messages, topics and subscriptions that is.

They are prepared, once for each connection, since planning them takes longer than running them for a few messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# The columns of the document that WRITE takes: fields of NewMessage.
COLUMNS: Final[Mapping[str, str]] = {
    "topic_id": "bigint",
    "msg_id": "text",
    "data": "text",
    "data_type": "text",
    "size": "int",
    "mime_type": "text",
    "priority": "smallint",
    "expiration": "bigint",
    "delay": "bigint",
    "ext_pub_time": "float8",
    "endpoint_id": "bigint",
    "endpoint_name": "text",
    "pub_pattern": "text",
    "correl_id": "text",
    "in_reply_to": "text",
    "ext_client_id": "text",
    "group_id": "text",
    "position_in_group": "int",
    "reply_to_sk": "jsonb",
    "deliver_to_sk": "jsonb",
}
RECEIVING: Final = "active_status IN ('pub-sub', 'pub-only')"  # subscriptions whose queues take new messages

# Stores the messages of a document, a JSON list, and puts them into queues; what has its default is not in the document.
#
# given: the messages, with ids in the order of the document, which is how publishers find their order again in every queue.
# topics, subs: as they are committed now.  targets: what goes into which queue; messages to topics that nobody receives from go into
# the topic's own queue, unless the topic drops them, or they are for certain subscribers.
# Of the rest, only what can be replayed is stored.
# Returns a row for each queue, or one without, with its owner; each row has the first stored id and its msg_id, by which it can be told
# later whether the transaction was committed, the transaction's id, and the topics that are not there any more.
WRITE: Final = f"""
PREPARE pubsub_write (json, bigint) AS
WITH given AS MATERIALIZED (
    SELECT nextval('pubsub_message_id_seq') AS id, ordered.*,
           CASE WHEN expiration > 0 THEN now() + expiration * interval '1 ms' END AS expires_at,
           CASE WHEN delay > 0 THEN now() + delay * interval '1 ms' END AS not_before
    FROM (
        SELECT * FROM ROWS FROM (json_to_recordset($1) AS ({", ".join(f"{n} {t}" for n, t in COLUMNS.items())})) WITH ORDINALITY
        ORDER BY ordinality
    ) ordered
), topics AS MATERIALIZED (
    SELECT id, on_no_subs_pub, limit_retention FROM pubsub_topic WHERE id IN (SELECT topic_id FROM given)
), subs AS MATERIALIZED (
    SELECT id, topic_id, sub_key FROM pubsub_subscription WHERE topic_id IN (SELECT topic_id FROM given) AND {RECEIVING}
), targets AS MATERIALIZED (
    SELECT subs.id AS sub_id, given.id AS message_id, given.topic_id, priority, expires_at, not_before
    FROM given JOIN subs ON subs.topic_id = given.topic_id AND (deliver_to_sk IS NULL OR deliver_to_sk ? subs.sub_key)
    UNION ALL
    SELECT -given.topic_id, given.id, given.topic_id, priority, expires_at, not_before
    FROM given JOIN topics ON topics.id = given.topic_id
    WHERE topics.on_no_subs_pub = 'accept' AND deliver_to_sk IS NULL AND given.topic_id NOT IN (SELECT topic_id FROM subs)
), queued AS (
    INSERT INTO pubsub_queue (sub_id, priority, message_id, topic_id, expires_at, not_before)
    SELECT sub_id, coalesce(priority, 5), message_id, topic_id, expires_at, not_before FROM targets
    RETURNING sub_id
), stored AS (
    INSERT INTO pubsub_message (
        id, cluster_id, topic_id, msg_id, data, data_type, size, mime_type, priority, pub_time, ext_pub_time, expiration, expires_at,
        keep_until, endpoint_id, endpoint_name, pub_pattern, correl_id, in_reply_to, ext_client_id, group_id, position_in_group,
        reply_to_sk, deliver_to_sk
    )
    SELECT given.id, $2, topic_id, msg_id, coalesce(data, ''), coalesce(data_type, 'text'), size, coalesce(mime_type, 'text/plain'),
           coalesce(priority, 5), now(), to_timestamp(ext_pub_time), coalesce(expiration, 0), expires_at,
           CASE WHEN limit_retention > 0 THEN now() + limit_retention * interval '1 s' END,
           endpoint_id, coalesce(endpoint_name, ''), coalesce(pub_pattern, ''), coalesce(correl_id, ''), coalesce(in_reply_to, ''),
           coalesce(ext_client_id, ''), coalesce(group_id, ''), coalesce(position_in_group, 0), reply_to_sk, deliver_to_sk
    FROM given JOIN topics ON topics.id = given.topic_id
    WHERE limit_retention > 0 OR given.id IN (SELECT message_id FROM targets)
    RETURNING id, msg_id
), first AS (
    SELECT id, msg_id FROM stored ORDER BY id LIMIT 1
)
SELECT first.id, first.msg_id, pg_current_xact_id()::text,
       ARRAY (SELECT DISTINCT topic_id FROM given WHERE topic_id NOT IN (SELECT id FROM topics)),
       queues.sub_id, pubsub_state.worker_id
FROM (VALUES (1)) AS always (one)
LEFT JOIN first ON true
LEFT JOIN (SELECT DISTINCT sub_id FROM queued) queues ON true
LEFT JOIN pubsub_state ON pubsub_state.sub_id = queues.sub_id
"""  # noqa: S608 - made of constants

# Reserves ids that publishers gave; those that are not returned are taken.  In the order of the ids, so that two workers with the same
# ids wait for each other, and not in a circle.
CLAIM: Final = """
PREPARE pubsub_claim (bigint, text[]) AS
INSERT INTO pubsub_dedupe (cluster_id, msg_id) SELECT $1, id FROM unnest($2) AS id ORDER BY id
ON CONFLICT DO NOTHING RETURNING msg_id
"""
RELEASE: Final = "DELETE FROM pubsub_dedupe WHERE cluster_id = %s AND msg_id = ANY (%s)"

# How a transaction ended whose COMMIT got no answer.
SETTLED: Final = """
SELECT EXISTS (SELECT FROM pubsub_message WHERE id = %s AND msg_id = %s), pg_xact_status(%s::xid8)
"""
