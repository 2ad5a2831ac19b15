import pytest

from junctor.cli import store_urls
from junctor.sql.errors import EnvironmentProblem


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2"])
def test_every_spelling_of_postgresql_means_psycopg2(scheme):
    url = store_urls.odb_url(f"{scheme}://u:p@db:5433/x?sslmode=require")

    assert url == "postgresql+psycopg2://u:p@db:5433/x?sslmode=require"


@pytest.mark.parametrize(
    "url", ["mysql://u:hush@db/x", "sqlite:///x", "hush", "postgresql://u:hush@db:port/x"]
)
def test_another_database_is_refused_without_showing_the_url(url):
    with pytest.raises(EnvironmentProblem) as caught:
        store_urls.odb_url(url)

    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("url", ["redis://h:1/0", "rediss://:p@h:1/0"])
def test_urls_of_redis_stay_as_they_are(url):
    assert store_urls.redis_url(url) == url


@pytest.mark.parametrize("password", ["simple", "a/b@c:d?e#f%20 ü"])
@pytest.mark.parametrize(
    "base", ["postgresql+psycopg2://u@db:5433/x", "redis://cache:6379/0", "redis://[::1]:6379/0"]
)
def test_a_password_can_be_put_in_and_taken_out(base, password):
    assert store_urls.without_password(store_urls.with_password(base, password)) == (base, password)


def test_no_password_changes_nothing():
    assert store_urls.with_password("redis://cache:6379/0", "") == "redis://cache:6379/0"
    assert store_urls.without_password("redis://cache:6379/0") == ("redis://cache:6379/0", "")


def test_host_and_port_have_defaults():
    assert store_urls.host_and_port("redis://u@cache", 6379) == ("cache", 6379)
    assert store_urls.host_and_port("redis://[::1]:7000/0", 6379) == ("::1", 7000)
