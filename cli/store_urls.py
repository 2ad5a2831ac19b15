"""URLs of the two stores, with and without their password."""

from __future__ import annotations

from urllib.parse import quote, unquote, urlsplit, urlunsplit

from junctor.sql.errors import EnvironmentProblem

ODB_SCHEMES = {
    "postgresql": "postgresql+psycopg2",  # SQLAlchemy 2.1 takes the bare name for another driver
    "postgres": "postgresql+psycopg2",
    "postgresql+psycopg2": "postgresql+psycopg2",
}
REDIS_SCHEMES = {"redis": "redis", "rediss": "rediss"}


def odb_url(url: str) -> str:
    """``url`` with the scheme that SQLAlchemy needs; raises ``EnvironmentProblem`` if it is not PostgreSQL's."""
    return _with_scheme(url, ODB_SCHEMES, "the object database")


def redis_url(url: str) -> str:
    """``url``, which is one of Redis; raises ``EnvironmentProblem`` if it is not."""
    return _with_scheme(url, REDIS_SCHEMES, "Redis")


def without_password(url: str) -> tuple[str, str]:
    """``url`` without its password, and the password, '' if there is none."""
    parts = urlsplit(url)
    user, _, _ = (parts.username or "").partition(":")
    netloc = parts.netloc.rpartition("@")[2]
    if user:
        netloc = f"{user}@{netloc}"
    return urlunsplit(parts._replace(netloc=netloc)), unquote(parts.password or "")


def with_password(url: str, password: str) -> str:
    """``url`` with ``password``; as it is if that is ''."""
    if not password:
        return url
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:{quote(password, safe='')}@{host}"))


def host_and_port(url: str, default_port: int) -> tuple[str, int]:
    """Where the store at ``url`` listens."""
    parts = urlsplit(url)
    return parts.hostname or "localhost", parts.port or default_port


def _with_scheme(url: str, schemes: dict[str, str], what: str) -> str:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in schemes and parts.port != 0
    except ValueError:  # the port is no number
        valid = False
    if not valid:
        # The URL itself may contain a password, so it is not shown.
        raise EnvironmentProblem(
            f"The URL of {what} must begin with {' or '.join(schemes)}:// and have a valid port."
        )
    return urlunsplit(parts._replace(scheme=schemes[parts.scheme]))
