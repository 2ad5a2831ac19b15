"""How fast users are searched and listed, among 1,000,000 of them.

    python tests/bench/sso_search.py [--users 1000000] [--pages 40]

The users are made by the database itself; names are frequent and rare as names of people are, some of them at the end of the order.  Each
kind of search is made ``--pages`` times, as a super-user makes it, with everything: the session, the audit event, addresses decrypted.
Prints a line of ``name=value`` for each kind, with its median and p99 in milliseconds.  Fails when p99 of all is more than 100 ms.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent)]

from sqlalchemy import text

from junctor.server.sso.caller import Caller
from junctor.server.sso.search import SearchCtx
from junctor.sql import engine as engines
from junctor.sql import schema
from junctor.sql.secrets import Keyring, new_key_line, parse_keys
from junctor.sql.store import Store
from tests.helpers.postgres import PostgresServer
from tests.helpers.sso import SsoUnderTest

MOST_P99 = 100.0  # milliseconds
BATCH = 100_000
SYLLABLES = [
    "an",
    "ma",
    "ri",
    "el",
    "jo",
    "ka",
    "lu",
    "wi",
    "li",
    "am",
    "be",
    "so",
    "da",
    "ni",
    "th",
    "or",
    "zo",
    "he",
    "pe",
    "ga",
    "vi",
    "qu",
    "xe",
    "ul",
]
FILL = """
INSERT INTO sso_user (cluster_id, user_id, username, username_key, password, approval_status, approval_status_mod_by, sign_up_status,
    email_sealed, email_mac, display_name, first_name, middle_name, last_name, search_names, totp_key_sealed, creation_ctx, app_list)
SELECT :cluster_id, 'zusr' || left(md5(n::text), 26), 'user' || n, 'user' || n, repeat('p', 330),
    CASE WHEN mod(n, 500) = 0 THEN 'before_decision' WHEN mod(n, 99) = 0 THEN 'rejected' ELSE 'approved' END, 'auto',
    CASE WHEN mod(n, 400) = 0 THEN 'before_confirmation' ELSE 'final' END,
    :sealed, decode(md5(n::text) || md5('x' || n), 'hex'), first || ' ' || last, first, middle, last,
    lower(first || ' ' || last || E'\\n' || first || E'\\n' || middle || E'\\n' || last), repeat('t', 97),
    '{"remote_addr": "203.0.113.7", "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:148.0) Gecko/20100101 Firefox/148.0"}', '["CRM"]'
FROM (
    SELECT n, initcap(s[1 + mod(f, 24)] || s[1 + mod(f / 24, 24)] || chr(97 + mod(f, 7))) AS first,
        CASE WHEN mod(n, 3) = 0 THEN initcap(s[1 + mod(l, 24)] || s[1 + mod(f, 24)]) ELSE '' END AS middle,
        initcap(s[1 + mod(l, 24)] || s[1 + mod(l / 24, 24)] || s[1 + mod(l / 7, 24)] || chr(97 + mod(l, 11))) AS last
    FROM (
        SELECT n, floor(576 * pow(random(), 2))::int AS f, floor(8000 * pow(random(), 2))::int AS l,
            string_to_array(:syllables, ' ') AS s
        FROM generate_series(CAST(:start AS int), CAST(:end AS int)) AS n
    ) AS numbers
) AS people
"""


def fill(store: Store, users: int, sealed: str) -> None:
    """Makes users; their index of names last, which is several times as fast."""
    with store.engine.begin() as connection:
        index = connection.execute(
            text("SELECT pg_get_indexdef('ix_sso_user_search'::regclass)")
        ).scalar_one()
        connection.execute(text("DROP INDEX ix_sso_user_search"))
    for start in range(1, users + 1, BATCH):
        with store.engine.begin() as connection:
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            values = {"cluster_id": store.cluster_id, "start": start, "end": min(start + BATCH - 1, users)}
            connection.execute(text(FILL), {**values, "syllables": " ".join(SYLLABLES), "sealed": sealed})
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text(index))
        connection.execute(text("VACUUM ANALYZE sso_user"))


def names(store: Store, count: int) -> list[tuple[str, str, str]]:
    """Names of users here and there: user name, first and last name."""
    statement = text(
        "SELECT username, first_name, last_name FROM sso_user WHERE first_name <> '' ORDER BY md5(user_id) LIMIT :n"
    )
    with store.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(statement, {"n": count})]


def kinds(people: list[tuple[str, str, str]], users: int) -> dict[str, Callable[[int], SearchCtx]]:
    """What is measured: for each kind, the search of a number."""
    pieces = [one + other for one in SYLLABLES for other in SYLLABLES]
    chosen = random.Random(7)  # the same searches each time
    return {
        "list_first_page": lambda n: SearchCtx(),
        "list_any_page": lambda n: SearchCtx(cur_page=chosen.randint(1, min(users, 250_000) // 50)),
        "username": lambda n: SearchCtx(username=people[n][0]),
        "first_name": lambda n: SearchCtx(first_name=people[n][1]),
        "last_name": lambda n: SearchCtx(last_name=people[n][2]),
        "both_names": lambda n: SearchCtx(first_name=people[n][1], last_name=people[n][2]),
        "either_name": lambda n: SearchCtx(first_name=people[n][1], last_name=people[n][2], name_op="or"),
        "part_of_first_name": lambda n: SearchCtx(first_name=people[n][1][:4], is_name_exact=False),
        "part_of_last_name": lambda n: SearchCtx(last_name=people[n][2][1:5], is_name_exact=False),
        "part_of_display_name": lambda n: SearchCtx(display_name=chosen.choice(pieces), is_name_exact=False),
        "two_letters": lambda n: SearchCtx(last_name=people[n][2][2:4], is_name_exact=False),
        "no_such_part": lambda n: SearchCtx(display_name=f"xq{n}zz", is_name_exact=False),
        "waiting_for_approval": lambda n: SearchCtx(approval_status="before_decision"),
        "approved": lambda n: SearchCtx(approval_status="approved"),
        "approved_part": lambda n: SearchCtx(
            approval_status="approved", last_name=people[n][2][:4], is_name_exact=False
        ),
    }


def measured(sso: SsoUnderTest, pages: int, users: int) -> Iterator[tuple[str, list[float]]]:
    """The milliseconds of each search, by kind; then those of following cursors."""
    people = names(sso.store, pages + 1)
    caller = sso.super_user_caller()
    for name, search in kinds(people, users).items():
        sso.sso.search.search(caller, search(pages))
        yield name, [_timed(sso, caller, search(n)) for n in range(pages)]
    followed: list[float] = []
    ctx = SearchCtx(first_name=people[0][1][:3], is_name_exact=False)
    for _ in range(pages):
        followed.append(_timed(sso, caller, ctx))
        ctx.cursor = sso.sso.search.search(caller, ctx)["next_cursor"] or ""
    yield "next_cursor", followed


def _timed(sso: SsoUnderTest, caller: Caller, search: SearchCtx) -> float:
    began = time.perf_counter()
    sso.sso.search.search(caller, search)
    return (time.perf_counter() - began) * 1000


def _p99(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]


def main() -> int:
    """Measures, and prints."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--users", type=int, default=1_000_000)
    options.add_argument("--pages", type=int, default=40)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="junctor-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "postgres").mkdir()
        server = PostgresServer(directory / "postgres", durable=True)
        server.create()
        server.start()
        try:
            return _run(server.url(), given.users, given.pages)
        finally:
            server.stop()


def _run(url: str, users: int, pages: int) -> int:
    engine = engines.connect(url)
    schema.upgrade(engine)
    sso = SsoUnderTest(Store.create(engine, "bench", Keyring(parse_keys(new_key_line()))))
    began = time.perf_counter()
    fill(sso.store, users, sso.sso.protection.seal("alice@example.com", "sso_user.email"))
    print(f"users={users} seconds={time.perf_counter() - began:.0f}", flush=True)
    everything: list[float] = []
    for name, values in measured(sso, pages, users):
        everything += values
        median, p99 = sorted(values)[len(values) // 2], _p99(values)
        print(f"search={name} median_ms={median:.1f} p99_ms={p99:.1f} worst_ms={max(values):.1f}", flush=True)
    worst = _p99(everything)
    print(f"search=all p99_ms={worst:.1f}", flush=True)
    sso.stop()
    engine.dispose()
    return int(worst > MOST_P99)


if __name__ == "__main__":
    sys.exit(main())
