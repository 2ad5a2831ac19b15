"""What has expired is deleted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import func, insert, select, text

from junctor.sql.tables.sso import SsoAttribute, SsoSession, SsoToken
from tests.helpers.sso import SsoUnderTest

PAST = datetime.now(UTC) - timedelta(hours=1)


def count(sso: SsoUnderTest, cls: type) -> int:
    with sso.store.engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(cls)).scalar_one()


def test_what_has_expired_goes_and_what_has_not_stays(sso: SsoUnderTest) -> None:
    alice = sso.user()
    for _ in range(3):
        sso.log_in()
    with sso.store.engine.begin() as connection:
        ids = list(connection.scalars(select(SsoSession.id).where(SsoSession.user_id == alice.id)))
        statement = text("UPDATE sso_session SET expiration_time = :past WHERE id = ANY(:ids)")
        connection.execute(statement, {"past": PAST, "ids": ids[:2]})
        for number, expires in enumerate((PAST, None, datetime.now(UTC) + timedelta(hours=1))):
            values = {"user_id": alice.id, "name": f"a{number}", "value": "1", "expiration_time": expires}
            connection.execute(insert(SsoAttribute).values(values))
        kept = sso.sso.one_time.issue(connection, alice.id, "confirm", minutes=5)
        sso.sso.one_time.issue(connection, alice.id, "reset", minutes=-1)

    deleted = sso.sso.maintenance.clean()

    assert (deleted["sso_session"], deleted["sso_attribute"], deleted["sso_token"]) == (2, 1, 1)
    with sso.store.engine.begin() as connection:
        assert sso.sso.one_time.use(connection, "confirm", kept) is not None
        names = select(SsoAttribute.name).where(SsoAttribute.user_id == alice.id).order_by(SsoAttribute.name)
        assert list(connection.scalars(names)) == ["a1", "a2"]
    assert not any(sso.sso.maintenance.clean().values())


def test_a_cluster_cleans_after_itself_alone(sso: SsoUnderTest) -> None:
    sso.user()
    sso.age(sso.log_in(), expiration_time=timedelta(days=1))
    before = count(sso, SsoSession), count(sso, SsoToken)
    other = SsoUnderTest(type(sso.store).create(sso.store.engine, "another cluster", sso.store.keyring))

    other.sso.maintenance.clean()

    assert (count(sso, SsoSession), count(sso, SsoToken)) == before
