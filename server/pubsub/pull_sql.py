"""The statements of pulling: taking messages out of a queue, acknowledging and rejecting them.

Any number of workers, and of clients of one subscription, do so at the same time: whoever comes second skips the rows that somebody else
has locked.  A row is found by its place (``ctid``), which its lock keeps where it is; a queue is in one partition.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import text

from junctor.server.pubsub.exchange_sql import MESSAGE

# Plans must fit queues of any size, also one that was empty when it was last counted: so only by way of the indexes.
_BY_INDEX: Final = """
    SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_hashjoin = off;
    SET LOCAL enable_mergejoin = off; SET LOCAL jit = off;
"""
MAX_BYTES: Final = 8 * 2**20  # of data in one hand-over; a single message may be larger
_PRIORITIES: Final = (
    "ARRAY[1, 2, 3, 4, 5, 6, 7, 8, 9]::smallint[]"  # so that the index is used for messages by their ids
)

_DUE: Final = """
    (q.expires_at IS NULL OR q.expires_at > statement_timestamp())
    AND (q.not_before IS NULL OR q.not_before <= statement_timestamp())
"""
_OLDEST: Final = f"""
    SELECT q.ctid AS place, q.priority, q.message_id
    FROM pubsub_queue q
    WHERE q.sub_id = :sub_id AND {_DUE}
    ORDER BY q.priority DESC, q.message_id
    LIMIT :most
    FOR UPDATE SKIP LOCKED
"""  # noqa: S608 - made of constants
# One after the other, the priorities, each from its end: no index has that order, but each step follows one.
_NEWEST: Final = f"""
    SELECT found.* FROM generate_series(9, 1, -1) AS level (priority)
    CROSS JOIN LATERAL (
        SELECT q.ctid AS place, q.priority, q.message_id
        FROM pubsub_queue q
        WHERE q.sub_id = :sub_id AND q.priority = level.priority AND {_DUE}
        ORDER BY q.message_id DESC
        LIMIT :most
        FOR UPDATE SKIP LOCKED
    ) found
    LIMIT :most
"""  # noqa: S608 - made of constants
# What is more than a hand-over may be large stays in the queue, and is unlocked at the end of the transaction.
_CHOSEN: Final = """
    SELECT picked.place, coalesce(sum(m.size) OVER (ORDER BY picked.priority DESC, picked.message_id {direction}
                                                    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
    FROM picked LEFT JOIN pubsub_message m ON m.id = picked.message_id
"""
# Handed over is acknowledged.
_REMOVE: Final = """
    DELETE FROM pubsub_queue q
    WHERE q.sub_id = :sub_id AND q.ctid = ANY (ARRAY(SELECT place FROM chosen WHERE before < :bytes))
    RETURNING q.*
"""
# Handed over, to be acknowledged: nobody gets it again before the time is over.  The message says how often it was handed over before.
_LEND: Final = """
    UPDATE pubsub_queue q
    SET attempts = q.attempts + 1, not_before = clock_timestamp() + make_interval(secs => :ack_wait)
    WHERE q.sub_id = :sub_id AND q.ctid = ANY (ARRAY(SELECT place FROM chosen WHERE before < :bytes))
    RETURNING q.sub_id, q.priority, q.message_id, q.attempts - 1 AS attempts
"""


def _hand_over(picked: str, action: str, direction: str) -> str:
    return f"""
        {_BY_INDEX}
        WITH picked AS MATERIALIZED ({picked}),
             chosen AS MATERIALIZED ({_CHOSEN.format(direction=direction)}),
             q AS ({action})
        SELECT {MESSAGE} FROM q LEFT JOIN pubsub_message m ON m.id = q.message_id
    """  # noqa: S608 - made of constants


# By (newest first, explicit acknowledgement): :sub_id, :most, :bytes and, if explicit, :ack_wait, in seconds.
HAND_OVER: Final = {
    (is_newest, is_explicit): text(
        _hand_over(
            _NEWEST if is_newest else _OLDEST,
            _LEND if is_explicit else _REMOVE,
            "DESC" if is_newest else "",
        )
    )
    for is_newest in (False, True)
    for is_explicit in (False, True)
}

# The rows of messages that a subscriber names, of :topic_id, by :msg_ids, if they were handed out :attempts times at least.  One look at an
# index for each: OFFSET 0 keeps the planner from turning that round, and + 0 from another index.
_NAMED: Final = f"""
    {_BY_INDEX}
    WITH named AS MATERIALIZED (
        SELECT found.place
        FROM unnest(CAST(:msg_ids AS varchar[])) AS given (msg_id)
        CROSS JOIN LATERAL (
            SELECT m.id FROM pubsub_message m WHERE m.msg_id = given.msg_id AND m.topic_id + 0 = :topic_id OFFSET 0
        ) message
        CROSS JOIN LATERAL (
            SELECT q.ctid AS place FROM pubsub_queue q
            WHERE q.sub_id = :sub_id AND q.priority = ANY ({_PRIORITIES}) AND q.message_id = message.id
              AND q.attempts >= :attempts
            OFFSET 0
        ) found
    )
"""  # noqa: S608 - made of constants
_ROWS_NAMED: Final = "q.sub_id = :sub_id AND q.ctid = ANY (ARRAY(SELECT place FROM named))"
REMOVE: Final = text(f"{_NAMED} DELETE FROM pubsub_queue q WHERE {_ROWS_NAMED}")  # noqa: S608 - made of constants
# For :reason, due again in :delay seconds.  Returns the rows, and of each whether it has failed more often than :max_retry.
REJECT: Final = text(
    f"""
    {_NAMED}
    UPDATE pubsub_queue q
    SET not_before = clock_timestamp() + make_interval(secs => :delay), last_error = :reason,
        first_failed_at = coalesce(q.first_failed_at, clock_timestamp())
    WHERE {_ROWS_NAMED}
    RETURNING q.priority, q.message_id, q.attempts > :max_retry AS is_dead
    """  # noqa: S608 - made of constants
)
# Makes dead letters of messages, by :priorities and :message_ids, for a :reason.
BURY: Final = text(
    f"""
    {_BY_INDEX}
    WITH dead AS (
        DELETE FROM pubsub_queue q
        USING unnest(CAST(:priorities AS smallint[]), CAST(:message_ids AS bigint[])) AS given (priority, message_id)
        WHERE q.sub_id = :sub_id AND q.priority = given.priority AND q.message_id = given.message_id
        RETURNING q.*
    )
    INSERT INTO pubsub_dead_letter
        (cluster_id, sub_id, topic_id, message_id, msg_id, message, priority, attempts, reason, first_failed_at)
    SELECT m.cluster_id, dead.sub_id, dead.topic_id, dead.message_id, m.msg_id, to_jsonb(m), dead.priority, dead.attempts,
           :reason, coalesce(dead.first_failed_at, clock_timestamp())
    FROM dead JOIN pubsub_message m ON m.id = dead.message_id
    """  # noqa: S608 - made of constants
)

# How many messages are in a queue, due or not, up to :most.
DEPTH: Final = text(
    """
    SELECT count(*) FROM (
        SELECT 1 FROM pubsub_queue q
        WHERE q.sub_id = :sub_id AND (q.expires_at IS NULL OR q.expires_at > statement_timestamp())
        LIMIT :most
    ) queued
    """
)
# Which of the queues :sub_ids have messages that can be handed over now.
FILLED: Final = text(
    f"""
    {_BY_INDEX}
    SELECT given.sub_id FROM unnest(CAST(:sub_ids AS bigint[])) AS given (sub_id)
    WHERE EXISTS (SELECT 1 FROM pubsub_queue q WHERE q.sub_id = given.sub_id AND {_DUE})
    """  # noqa: S608 - made of constants
)
# When a subscription was used, for whoever deletes those that are not.
INTERACTION: Final = text(
    """
    INSERT INTO pubsub_state (sub_id, last_interaction, last_interaction_type)
    SELECT id, clock_timestamp(), :type FROM pubsub_subscription WHERE id = :sub_id FOR KEY SHARE
    ON CONFLICT (sub_id) DO UPDATE
    SET last_interaction = excluded.last_interaction, last_interaction_type = excluded.last_interaction_type
    """
)
