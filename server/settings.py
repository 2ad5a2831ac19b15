"""The settings of one server: declared once, read from ``server.toml`` and from ``JUNCTOR_*`` environment variables.

What holds for a whole cluster is not here but in the object database, where it can be changed without a restart.
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Mapping, MutableMapping
from dataclasses import Field, dataclass, field, fields
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from junctor.sql.errors import InvalidInput, Problem

FILE = "server.toml"
PREFIX = "JUNCTOR_"
ODB_URL, REDIS_URL = "JUNCTOR_ODB_URL", "JUNCTOR_REDIS_URL"


def setting(
    help: str, default: Any, *, unit: str = "", low: float | None = None, high: float | None = None
) -> Any:
    """A setting: what it does, its default, its unit and its limits."""
    metadata = {"help": help, "unit": unit, "low": low, "high": high}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one server.  Each can be given in ``server.toml`` or as ``JUNCTOR_<NAME>``, which wins."""

    directory: Path
    odb_url: str = field(repr=False)
    redis_url: str = field(default="", repr=False)
    cluster: str = setting("The cluster that the server belongs to.", "junctor")
    server_name: str = setting("The server's name, unique in its cluster.", "server1")
    host: str = setting("The address to listen on.", "0.0.0.0")  # noqa: S104 - as DESIGN section 2 says
    port: int = setting("The TCP port to listen on.", 17010, low=1, high=65535)
    address: str = setting(
        "The host name or address at which other processes reach this server.", "127.0.0.1"
    )
    workers: int = setting("Worker processes.", 1, low=1, high=128)
    worker_class: str = setting("The HTTP worker: 'junctor', or 'gevent' for gunicorn's own.", "junctor")
    worker_timeout: int = setting(
        "A worker that is silent for longer is replaced.", 60, unit="s", low=5, high=3600
    )
    graceful_timeout: int = setting(
        "What a stopping worker lets its calls take.", 30, unit="s", low=1, high=3600
    )
    drain_delay: float = setting(
        "How long readiness fails before a stopping server closes.", 0.0, unit="s", low=0, high=300
    )
    max_connections: int = setting(
        "Open connections of a worker at the most.", 10_000, low=10, high=1_000_000
    )
    trusted_proxies: list[str] = setting(
        "Addresses whose X-Forwarded-For is believed.", ["127.0.0.1/32", "::1/128"]
    )
    proxy_protocol: str = setting("PROXY protocol on the HTTP port: off, v1, v2 or auto.", "off")
    odb_pool_size: int = setting(
        "Database connections of a worker, twice as many at a peak.", 5, low=1, high=100
    )
    poll_interval: float = setting(
        "How often a worker asks for changes unprompted.", 2.0, unit="s", low=0.1, high=60
    )
    heartbeat: float = setting("How often a worker reports its state.", 2.0, unit="s", low=0.2, high=10)
    log_level: str = setting("DEBUG, INFO, WARNING or ERROR.", "INFO")
    log_file_size: int = setting("Size at which a log file is rotated.", 20_000_000, unit="B", low=10_000)
    log_file_count: int = setting("Rotated log files to keep.", 10, low=1, high=1000)
    access_log: bool = setting("Whether requests are logged.", True)
    metrics_public: bool = setting(
        "Whether /metrics answers everybody, not the loopback interface alone.", False
    )
    secret_keys: str = field(
        default="", repr=False, metadata={"help": "The secret keys, or the path of their file."}
    )

    @property
    def run_directory(self) -> Path:
        """Where sockets and pid files are."""
        return self.directory / "run"

    @property
    def log_directory(self) -> Path:
        """Where log files are."""
        return self.directory / "logs"

    @property
    def pickup_directory(self) -> Path:
        """Where service files are dropped to be deployed."""
        return self.directory / "pickup" / "incoming" / "services"


def load(directory: Path, environ: MutableMapping[str, str] | None = None) -> Settings:
    """The settings of the server in ``directory``; raises ``InvalidInput`` with everything that is wrong.

    URLs with passwords and keys are taken out of the environment, so that nothing that the server starts, or a service that
    prints its environment, sees them.
    """
    environ = os.environ if environ is None else environ
    given = _from_file(directory / FILE)
    declared = {item.name: item for item in fields(Settings)}
    for name in declared:
        if (value := environ.get(PREFIX + name.upper())) is not None:
            given[name] = value
    for name in ("odb_url", "redis_url", "secret_keys"):
        environ.pop(PREFIX + name.upper(), None)
    problems = [Problem(name, f"is not a setting; see {FILE}.") for name in given if name not in declared]
    values: dict[str, Any] = {"directory": directory.resolve()}
    for name, value in given.items():
        if name in declared and name != "directory":
            try:
                values[name] = _parse(declared[name], value)
            except ValueError as error:
                problems.append(Problem(name, str(error)))
    if not values.get("odb_url"):
        problems.append(Problem(ODB_URL, "must be the URL of the object database; 'junctor start' sets it."))
    problems += _consistency(values)
    if problems:
        raise InvalidInput(problems)
    return Settings(**values)


def _from_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise InvalidInput.one(str(path), f"cannot be read: {error}.") from error


def _parse(declared: Field[Any], value: Any) -> Any:
    """``value`` as the setting's type; strings, as environment variables are, are converted."""
    kind = str(declared.type)
    if kind == "bool":
        if str(value).lower() not in ("true", "false", "1", "0", "yes", "no"):
            raise ValueError("must be true or false.")
        return str(value).lower() in ("true", "1", "yes")
    if kind in ("int", "float"):
        return _number(declared.metadata, int if kind == "int" else float, value)
    if kind.startswith("list"):
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise ValueError("must be a list of texts.")
        return [item.strip() for item in items if item.strip()]
    if not isinstance(value, str):
        raise ValueError("must be text.")
    return value


def _number(metadata: Mapping[str, Any], kind: type[int] | type[float], value: Any) -> float:
    try:
        number = kind(value)
        is_exact = not isinstance(value, bool) and math.isfinite(number) and number == float(value)
    except (TypeError, ValueError, OverflowError):
        is_exact = False
    if not is_exact:
        raise ValueError("must be a whole number." if kind is int else "must be a number.")
    low, high = metadata.get("low"), metadata.get("high")
    if (low is not None and number < low) or (high is not None and number > high):
        raise ValueError(
            f"must be from {low} to {high if high is not None else 'any number'} {metadata['unit']}".rstrip()
            + "."
        )
    return number


def _consistency(values: Mapping[str, Any]) -> list[Problem]:
    problems = []
    if values.get("worker_class", "junctor") not in ("junctor", "gevent"):
        problems.append(Problem("worker_class", "must be 'junctor' or 'gevent'."))
    if values.get("proxy_protocol", "off") not in ("off", "v1", "v2", "auto"):
        problems.append(Problem("proxy_protocol", "must be off, v1, v2 or auto."))
    if values.get("log_level", "INFO") not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        problems.append(Problem("log_level", "must be DEBUG, INFO, WARNING or ERROR."))
    for address in values.get("trusted_proxies", ()):
        try:
            ip_network(address)
        except ValueError as error:
            problems.append(Problem("trusted_proxies", f"must be IP addresses and networks: {error}."))
    return problems
