"""Searching users by parts of their names.

An index of pieces of two and three characters, made by a function of our own: pg_trgm has no index for two characters, tells the four
names apart only by four indexes, and not every database lets its users create extensions.
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# 'b=anna' for a whole name, 'ban', 'bann', ... for its pieces; the first letter says which of the names it is: a for the first line.
# It takes long, which the planner must know: what the index can answer is not to be computed row by row.
FUNCTION = r"""
CREATE FUNCTION sso_name_grams(names text) RETURNS text[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE COST 5000 AS $$
SELECT coalesce(array_agg(DISTINCT gram), '{}') FROM (
    SELECT chr(96 + place::integer) || '=' || name AS gram
    FROM unnest(string_to_array(names, E'\n')) WITH ORDINALITY AS lines (name, place)
    WHERE name <> ''
    UNION ALL
    SELECT chr(96 + place::integer) || substr(name, start, size)
    FROM unnest(string_to_array(names, E'\n')) WITH ORDINALITY AS lines (name, place),
        generate_series(2, 3) AS size,
        generate_series(1, length(name) - size + 1) AS start
) AS grams
$$
"""


def upgrade() -> None:
    op.execute(FUNCTION)
    op.execute(
        "CREATE INDEX ix_sso_user_search ON sso_user USING gin (sso_name_grams(search_names)) WITH (fastupdate = off)"
    )


def downgrade() -> None:
    op.drop_index("ix_sso_user_search", "sso_user")
    op.execute("DROP FUNCTION sso_name_grams(text)")
