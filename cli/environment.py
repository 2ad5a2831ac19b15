"""An environment: a directory that holds a cluster of this machine, with its settings and secrets.

Only the owner of the directory may work with it.  ``environment_layout`` draws what is in it.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

from junctor.cli import environment_file, environment_layout, process_table, store_urls
from junctor.cli.environment_file import (
    LoadBalancerAddress,
    ServerAddress,
    Settings,
    StoreAddress,
    default_servers,
)
from junctor.cli.environment_layout import (
    CREATING,
    FILE,
    LOAD_BALANCER,
    LOCK,
    REDIS,
    SECRETS,
    SERVER,
    SERVER_FILE,
    Component,
    State,
)
from junctor.cli.ports import LOOPBACK, free_port, reachable_host
from junctor.cli.private_files import make_directory, replace_file
from junctor.sql.errors import EnvironmentProblem, InvalidInput

LOCK_TIMEOUT = 60.0  # seconds
SECRET_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}")
ODB_PASSWORD, ODB_ADMIN_PASSWORD, REDIS_PASSWORD = "odb-password", "odb-admin-password", "redis-password"
KEYRING = "keyring"
DATABASE = ROLE = "junctor"
SERVER_HEADING = """\
# Settings of this server.  The ones below are written by Junctor at every start, from environment.toml; all others are yours.
"""
DEFAULT_SERVERS = default_servers(2)
DEFAULT_LOAD_BALANCER = LoadBalancerAddress()


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be created.  A store whose URL, password included, is given is not embedded."""

    cluster: str = "quickstart"
    servers: tuple[ServerAddress, ...] = DEFAULT_SERVERS
    load_balancer: LoadBalancerAddress = DEFAULT_LOAD_BALANCER
    odb_url: str = ""
    redis_url: str = ""
    haproxy: str = "auto"


@dataclass(slots=True)
class Environment:
    """An environment on disk.  ``settings`` is the content of its file, as of when it was read or saved last."""

    path: Path
    settings: Settings
    interrupted: bool = False  # create() found, and removed, a half-created one
    _creating: TextIO | None = field(default=None, repr=False)

    @classmethod
    def create(cls, path: Path, plan: Plan, make_keyring: Callable[[], str] | None = None) -> Environment:
        """A new environment at ``path``, which must not exist or be empty, with directories and secrets but no stores yet.

        ``make_keyring`` returns the content of the secret ``keyring``.  ``complete()`` must follow once all parts are
        there; until then ``open`` refuses it.  A half-created one is removed first, together with its processes.
        Raises ``EnvironmentProblem``, one for each thing that can be wrong with the path, and ``InvalidInput`` for ``plan``.
        """
        path = Path(os.path.abspath(path.expanduser()))
        problems = environment_file.server_problems(plan.servers)
        if problems:
            raise InvalidInput(problems)
        environment_layout.check_path(path)
        interrupted = environment_layout.state_of(path) is State.HALF_CREATED
        environment_layout.make_root(path)
        creating = environment_layout.claim(path)
        try:
            environment_layout.clear(path)
            environment = cls(path, _settings(plan), interrupted, creating)
            environment._lay_out(plan, make_keyring)
        except BaseException:
            creating.close()
            raise
        return environment

    @classmethod
    def open(cls, path: Path) -> Environment:
        """The environment at ``path``; raises ``EnvironmentProblem`` when there is none that is complete and ours."""
        path = Path(os.path.abspath(path.expanduser()))
        state = environment_layout.state_of(path)
        if state is State.HALF_CREATED:
            raise EnvironmentProblem(
                f"The creation of {path} was interrupted. Run 'junctor quickstart create {path}' again: it starts afresh."
            )
        if state is not State.COMPLETE:
            raise EnvironmentProblem(f"{path} is not an environment: {state.value}.")
        environment_layout.check_owner(path)
        return cls(path, environment_file.parse(environment_layout.read(path / FILE)))

    @classmethod
    def locate(cls, path: Path) -> tuple[Environment, Component | None]:
        """The environment that ``path`` is, or that the component at ``path`` belongs to, and that component."""
        path = Path(os.path.abspath(path.expanduser()))
        if (
            environment_layout.state_of(path) is State.FOREIGN
            and environment_layout.state_of(path.parent) is State.COMPLETE
        ):
            environment = cls.open(path.parent)
            for component in environment.components():
                if component.path == path:
                    return environment, component
        return cls.open(path), None

    def complete(self) -> None:
        """The creation is finished: the environment can be opened from now on."""
        (self.path / CREATING).unlink(missing_ok=True)
        if self._creating:
            self._creating.close()
            self._creating = None

    def abandon(self) -> None:
        """The creation failed: what there is stays for a look at its logs, and the next ``create`` removes it."""
        if self._creating:
            self._creating.close()
            self._creating = None

    def remove(self) -> None:
        """Nothing of the environment is left, neither processes, which are killed, nor files."""
        environment_layout.clear(self.path)
        for name in (CREATING, LOCK):
            (self.path / name).unlink(missing_ok=True)
        self.path.rmdir()

    def save(self, settings: Settings) -> None:
        """``settings`` are the environment's now, on disk too."""
        path = self.path / FILE
        replace_file(
            path, environment_file.render(settings, environment_layout.read(path) if path.exists() else "")
        )
        self.settings = settings

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else starts or stops anything of this environment inside the block.

        Raises ``EnvironmentProblem``, naming who does, when it does not become free within 60 seconds.
        """
        with environment_layout.open_lock(self.path / LOCK) as file:
            if not process_table.wait_until(lambda: environment_layout.try_lock(file), LOCK_TIMEOUT):
                file.seek(0)
                raise EnvironmentProblem(
                    f"Another command, process {file.read().strip()}, works on {self.path}; try again later."
                )
            environment_layout.sign(file)
            yield

    def components(self) -> list[Component]:
        """Everything in the environment that has a directory, by kind: stores, servers, load balancer."""
        return environment_layout.find_components(self.path)

    def add_server(self, server: ServerAddress) -> None:
        """There is one more server, with its directory; raises ``InvalidInput`` if its name or port is taken."""
        servers = (*self.settings.servers, server)
        problems = environment_file.server_problems(servers)
        if problems:
            raise InvalidInput(problems)
        self._make_server(server)
        self.save(replace(self.settings, servers=servers))

    def read_secret(self, name: str) -> str:
        """The secret ``name``; raises ``EnvironmentProblem`` if there is none."""
        return environment_layout.read(self._secret_path(name)).rstrip("\n")

    def write_secret(self, name: str, value: str) -> None:
        """The secret ``name`` is ``value`` from now on; its file has mode 0600."""
        replace_file(self._secret_path(name), value if value.endswith("\n") else f"{value}\n")

    def has_secret(self, name: str) -> bool:
        """Whether there is a secret ``name``."""
        return self._secret_path(name).is_file()

    def odb_url(self) -> str:
        """The SQLAlchemy URL of the object database with its password: for use in this process, never on a command line.

        The environment variable JUNCTOR_ODB_URL comes first.
        """
        given = os.environ.get("JUNCTOR_ODB_URL")
        return store_urls.odb_url(given) if given else self._full_url(self.odb_address(), ODB_PASSWORD)

    def redis_url(self) -> str:
        """The URL of Redis with its password, as ``odb_url``; the environment variable JUNCTOR_REDIS_URL comes first."""
        given = os.environ.get("JUNCTOR_REDIS_URL")
        return store_urls.redis_url(given) if given else self._full_url(self.redis_address(), REDIS_PASSWORD)

    def odb_address(self) -> str:
        """The URL of the environment's object database without its password."""
        odb = self.settings.odb
        return odb.url or f"postgresql+psycopg2://{ROLE}@{LOOPBACK}:{odb.port}/{DATABASE}"

    def redis_address(self) -> str:
        """The URL of the environment's Redis without its password."""
        redis = self.settings.redis
        return redis.url or f"redis://{LOOPBACK}:{redis.port}/0"

    @property
    def keyring_path(self) -> Path:
        """The file of the keys that secrets in the object database are encrypted with."""
        return self._secret_path(KEYRING)

    def write_server_file(self, server: ServerAddress) -> None:
        """``server.toml`` of ``server`` says who and where it is, as ``environment.toml`` does; what else is in it stays."""
        import tomlkit  # 30 ms, and most commands do not write

        path = self.path / server.name / SERVER_FILE
        document = tomlkit.parse(environment_layout.read(path) if path.exists() else SERVER_HEADING)
        document.update(
            {
                "cluster": self.settings.cluster,
                "server_name": server.name,
                "host": server.host,
                "port": server.port,
                "address": reachable_host(server.host),
            }
        )
        replace_file(path, tomlkit.dumps(document))

    def server_variables(self) -> dict[str, str]:
        """The environment variables by which a server learns the stores and the keys.

        They are ours, with what the environment itself knows where ours say nothing.
        """
        return {
            **os.environ,
            "JUNCTOR_ODB_URL": self.odb_url(),
            "JUNCTOR_REDIS_URL": self.redis_url(),
            "JUNCTOR_SECRET_KEYS": os.environ.get("JUNCTOR_SECRET_KEYS") or os.fspath(self.keyring_path),
        }

    def _lay_out(self, plan: Plan, make_keyring: Callable[[], str] | None) -> None:
        environment_layout.write_info(self.path, "environment")
        make_directory(self.path / SECRETS)
        for name, store, given in (
            (ODB_PASSWORD, self.settings.odb, plan.odb_url),
            (REDIS_PASSWORD, self.settings.redis, plan.redis_url),
        ):
            self.write_secret(
                name, new_password() if store.embedded else store_urls.without_password(given)[1]
            )
        if self.settings.odb.embedded:
            self.write_secret(ODB_ADMIN_PASSWORD, new_password())
        if make_keyring:
            self.write_secret(KEYRING, make_keyring())
        if self.settings.redis.embedded:
            environment_layout.make_component(self.path / REDIS, REDIS, ("data", "log", "run"))
        if self.settings.haproxy != "external":
            environment_layout.make_component(self.path / LOAD_BALANCER, LOAD_BALANCER, ("logs", "run"))
        for server in self.settings.servers:
            self._make_server(server)
        self.save(self.settings)

    def _make_server(self, server: ServerAddress) -> None:
        parts = ("logs", "pickup", "pickup/incoming", "pickup/incoming/services", "run", "work")
        environment_layout.make_component(self.path / server.name, SERVER, parts)
        self.write_server_file(server)

    def _secret_path(self, name: str) -> Path:
        if not SECRET_NAME.fullmatch(name):
            raise EnvironmentProblem(f"{name!r} is not the name of a secret.")
        return self.path / SECRETS / name

    def _full_url(self, address: str, secret: str) -> str:
        return store_urls.with_password(address, self.read_secret(secret))


def new_password() -> str:
    """A password of 192 random bits, made of letters, digits, '-' and '_'."""
    return secrets.token_urlsafe(24)


def _settings(plan: Plan) -> Settings:
    from importlib.metadata import version  # 10 ms, for creating only

    odb = store_urls.without_password(store_urls.odb_url(plan.odb_url))[0] if plan.odb_url else ""
    redis = store_urls.without_password(store_urls.redis_url(plan.redis_url))[0] if plan.redis_url else ""
    odb_port = 0 if odb else free_port()
    redis_port = 0 if redis else free_port()
    while redis_port and redis_port == odb_port:
        redis_port = free_port()
    return Settings(
        cluster=plan.cluster,
        junctor=version("junctor"),
        created=environment_layout.now(),
        servers=plan.servers,
        load_balancer=plan.load_balancer,
        odb=StoreAddress(odb_port, odb),
        redis=StoreAddress(redis_port, redis),
        haproxy=plan.haproxy,
    )
