"""The statements of the exchange: what one worker tells the queues of its subscriptions, and takes from them, in one round trip.

They are prepared once for a connection and sent together, as one query string, which PostgreSQL runs as one transaction; each of them sees
what the ones before it did.  All are fenced: they do nothing for a subscription that is not this worker's with this epoch.  (``IS NOT
DISTINCT FROM`` keeps the planner from looking a state up by its worker, which may own thousands.)
"""

from __future__ import annotations

from typing import Final

# Plans are made once and must fit queues of any size, also one that was empty when they were made: so only by way of the indexes.
SESSION: Final = """
SET plan_cache_mode = force_generic_plan;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET jit = off;
SET statement_timeout = '10s'
"""

# Locks the states of the subscriptions that are still this worker's, always in the same order: who claims one of them waits, and
# finds what this exchange has done.
_HOLD: Final = """
PREPARE pubsub_hold (bigint, bigint[], bigint[]) AS
SELECT s.sub_id
FROM unnest($2, $3) AS given (sub_id, epoch)
JOIN pubsub_state s ON s.sub_id = given.sub_id AND s.epoch = given.epoch AND s.worker_id IS NOT DISTINCT FROM $1
ORDER BY s.sub_id
FOR NO KEY UPDATE OF s
"""

# Deletes what was acknowledged.
_ACKNOWLEDGE: Final = """
PREPARE pubsub_acknowledge (bigint, bigint[], bigint[], smallint[], bigint[]) AS
DELETE FROM pubsub_queue q
USING unnest($2, $3, $4, $5) AS given (sub_id, epoch, priority, message_id), pubsub_state s
WHERE s.sub_id = given.sub_id AND s.epoch = given.epoch AND s.worker_id IS NOT DISTINCT FROM $1
  AND q.sub_id = given.sub_id AND q.priority = given.priority AND q.message_id = given.message_id
"""

# Remembers failures.  Attempts are given as totals, so that the same failure told twice counts once; a delay is in seconds.
_FAIL: Final = """
PREPARE pubsub_fail (bigint, bigint[], bigint[], smallint[], bigint[], int[], float8[], text[]) AS
UPDATE pubsub_queue q
SET attempts = greatest(q.attempts, given.attempts),
    not_before = clock_timestamp() + make_interval(secs => given.delay),
    last_error = coalesce(given.reason, q.last_error),
    first_failed_at = CASE WHEN given.reason IS NULL THEN q.first_failed_at
                           ELSE coalesce(q.first_failed_at, clock_timestamp()) END
FROM unnest($2, $3, $4, $5, $6, $7, $8) AS given (sub_id, epoch, priority, message_id, attempts, delay, reason), pubsub_state s
WHERE s.sub_id = given.sub_id AND s.epoch = given.epoch AND s.worker_id IS NOT DISTINCT FROM $1
  AND q.sub_id = given.sub_id AND q.priority = given.priority AND q.message_id = given.message_id
"""

# Makes dead letters.
_BURY: Final = """
PREPARE pubsub_bury (bigint, bigint[], bigint[], smallint[], bigint[], int[], text[]) AS
WITH dead AS (
    DELETE FROM pubsub_queue q
    USING unnest($2, $3, $4, $5, $6, $7) AS given (sub_id, epoch, priority, message_id, attempts, reason), pubsub_state s
    WHERE s.sub_id = given.sub_id AND s.epoch = given.epoch AND s.worker_id IS NOT DISTINCT FROM $1
      AND q.sub_id = given.sub_id AND q.priority = given.priority AND q.message_id = given.message_id
    RETURNING q.sub_id, q.topic_id, q.message_id, q.priority, greatest(q.attempts, given.attempts) AS attempts,
              given.reason, coalesce(q.first_failed_at, clock_timestamp()) AS first_failed_at
)
INSERT INTO pubsub_dead_letter
    (cluster_id, sub_id, topic_id, message_id, msg_id, message, priority, attempts, reason, first_failed_at)
SELECT m.cluster_id, dead.sub_id, dead.topic_id, dead.message_id, m.msg_id, to_jsonb(m), dead.priority, dead.attempts,
       dead.reason, dead.first_failed_at
FROM dead JOIN pubsub_message m ON m.id = dead.message_id
"""

# What a queued message is made of, in the order of the fields of QueuedMessage; q is its row in a queue.
MESSAGE: Final = """
q.message_id, q.sub_id, q.priority, q.attempts, m.topic_id, m.msg_id, m.data, m.data_type, m.size, m.mime_type,
extract(epoch FROM m.pub_time)::float8, extract(epoch FROM m.ext_pub_time)::float8, m.expiration,
extract(epoch FROM m.expires_at)::float8, m.endpoint_id, m.endpoint_name, m.pub_pattern, m.correl_id, m.in_reply_to,
m.ext_client_id, m.group_id, m.position_in_group, m.reply_to_sk, m.deliver_to_sk
"""
FIELDS: Final = 24  # of them

# Takes the next messages and records them as in flight, beside those that the worker has already (``held``, the text of an array):
# up to ``most`` for each subscription, and so many bytes ($7 for each, $8 for all; the first message is always taken).
#
# Where the order is kept, a message that has failed and whose time has not come holds up the ones behind it; one that was published with a
# delay does not.  A row has a message, or is the only one of its subscription.  ``wait`` is in how many seconds the next message is due, if
# nothing more is due now; NULL if there is none.  A message whose row is gone from pubsub_message comes with a ``msg_id`` of NULL.
_FETCH: Final = f"""
PREPARE pubsub_fetch (bigint, bigint[], bigint[], int[], boolean[], text[], bigint, bigint) AS
WITH wanted AS MATERIALIZED (
    SELECT given.place, s.sub_id, s.in_flight, given.most, given.is_strict, given.held::bigint[] AS held,
           (SELECT max(id) FROM unnest(given.held::bigint[]) AS id) AS last_held
    FROM unnest($2, $3, $4, $5, $6) WITH ORDINALITY AS given (sub_id, epoch, most, is_strict, held, place)
    JOIN pubsub_state s ON s.sub_id = given.sub_id AND s.epoch = given.epoch AND s.worker_id IS NOT DISTINCT FROM $1
), queued AS MATERIALIZED (
    SELECT wanted.place, wanted.sub_id, found.priority, found.message_id, found.attempts, found.is_held_up
    FROM wanted CROSS JOIN LATERAL (
        SELECT q.priority, q.message_id, q.attempts,
               coalesce(bool_or(q.attempts > 0 AND q.not_before > statement_timestamp())
                            OVER (ORDER BY q.priority DESC, q.message_id), false) AS is_held_up
        FROM pubsub_queue q
        WHERE q.sub_id = wanted.sub_id
          AND (q.expires_at IS NULL OR q.expires_at > statement_timestamp())
          AND (q.not_before IS NULL OR q.not_before <= statement_timestamp() OR (wanted.is_strict AND q.attempts > 0))
          AND (wanted.last_held IS NULL OR q.message_id > wanted.last_held OR NOT q.message_id = ANY (wanted.held))
        ORDER BY q.priority DESC, q.message_id
        LIMIT wanted.most
    ) found
), counted AS MATERIALIZED (
    SELECT place, count(*) AS found, bool_or(is_held_up) AS is_held_up FROM queued GROUP BY place
), sized AS (
    SELECT q.place, q.is_held_up, {MESSAGE},
           coalesce(sum(m.size) OVER (PARTITION BY q.place ORDER BY q.priority DESC, q.message_id
                                      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before,
           coalesce(sum(m.size) OVER (ORDER BY q.place, q.priority DESC, q.message_id
                                      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before_all
    FROM queued q LEFT JOIN pubsub_message m ON m.id = q.message_id
    WHERE NOT q.is_held_up
), taken AS MATERIALIZED (
    SELECT * FROM sized WHERE before < $7 AND before_all < $8
), noted AS (
    UPDATE pubsub_state s
    SET in_flight = fresh.in_flight, last_interaction = clock_timestamp(), last_interaction_type = 'delivery'
    FROM (
        SELECT wanted.sub_id, wanted.held || array(
                   SELECT taken.message_id FROM taken WHERE taken.place = wanted.place) AS in_flight
        FROM wanted
    ) fresh
    WHERE s.sub_id = fresh.sub_id AND s.in_flight IS DISTINCT FROM fresh.in_flight
)
SELECT wanted.sub_id,
       NOT counted.is_held_up AND (
           counted.found >= wanted.most OR counted.found > (SELECT count(*) FROM taken WHERE taken.place = wanted.place)
       ) AS has_more,
       CASE WHEN wanted.most > coalesce(counted.found, 0) OR counted.is_held_up THEN (
           SELECT extract(epoch FROM min(q.not_before) - statement_timestamp())::float8
           FROM pubsub_queue q
           WHERE q.sub_id = wanted.sub_id AND q.not_before > statement_timestamp()
             AND (q.expires_at IS NULL OR q.expires_at > q.not_before)
       ) END AS wait,
       taken.*
FROM wanted LEFT JOIN counted ON counted.place = wanted.place LEFT JOIN taken ON taken.place = wanted.place
ORDER BY wanted.place, taken.priority DESC, taken.message_id
"""  # noqa: S608 - made of constants
PREPARE: Final = (_HOLD, _ACKNOWLEDGE, _FAIL, _BURY, _FETCH)

HOLD: Final = "EXECUTE pubsub_hold (%s, %s::bigint[], %s::bigint[])"
ACKNOWLEDGE: Final = (
    "EXECUTE pubsub_acknowledge (%s, %s::bigint[], %s::bigint[], %s::smallint[], %s::bigint[])"
)
FAIL: Final = "EXECUTE pubsub_fail (%s, %s::bigint[], %s::bigint[], %s::smallint[], %s::bigint[], %s::int[], %s::float8[], %s::text[])"
BURY: Final = "EXECUTE pubsub_bury (%s, %s::bigint[], %s::bigint[], %s::smallint[], %s::bigint[], %s::int[], %s::text[])"
FETCH: Final = "EXECUTE pubsub_fetch (%s, %s::bigint[], %s::bigint[], %s::int[], %s::boolean[], %s::text[], %s::bigint, %s::bigint)"
