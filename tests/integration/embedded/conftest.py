import itertools
import subprocess
import sys
import textwrap

import pytest

from junctor.cli import cluster
from junctor.cli.cluster import Cluster
from junctor.cli.database import opened_engine
from junctor.cli.environment import Environment, Plan
from junctor.cli.environment_file import LoadBalancerAddress, ServerAddress
from junctor.sql import schema
from junctor.sql.secrets import Keyring, new_key_line
from junctor.sql.store import Store
from tests.helpers.ports import free_port

_numbers = itertools.count(1)

STAND_IN = """
import http.server, os, pathlib, signal, sys, tomllib

directory = pathlib.Path(sys.argv[-1])
if (directory / "broken").exists():
    sys.exit("ImportError: no module named orders")
address = tomllib.loads((directory / "server.toml").read_text())

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = directory.name.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
http.server.ThreadingHTTPServer((address["host"], address["port"]), Handler).serve_forever()
"""


@pytest.fixture
def plan():
    return Plan(
        servers=tuple(ServerAddress(f"server{n}", free_port(), "127.0.0.1") for n in (1, 2)),
        load_balancer=LoadBalancerAddress(free_port(), "127.0.0.1"),
    )


@pytest.fixture
def path(public_directory):
    return public_directory / f"env{next(_numbers)}"


@pytest.fixture(scope="session")
def pristine(public_directory):
    """An environment whose database has the cluster and does not run, to be copied."""
    environment = Environment.create(public_directory / "pristine", Plan(), new_key_line)
    cluster.create_stores(environment)
    database = Cluster(environment).postgres
    database.start()
    with opened_engine(environment.odb_url()) as engine:
        schema.upgrade(engine)
        Store.create(engine, environment.settings.cluster, Keyring.load(environment.keyring_path))
    database.stop()
    environment.complete()
    yield environment
    environment.remove()


@pytest.fixture
def environment(path, plan, pristine):
    """An environment with stores that do not run yet."""
    environment = Environment.create(path, plan, new_key_line)
    try:
        for secret in ("odb-password", "odb-admin-password", "keyring"):
            environment.write_secret(secret, pristine.read_secret(secret))
        subprocess.run(["cp", "-a", pristine.path / "postgres", path / "postgres"], check=True)
        environment.complete()
        yield environment
    finally:
        environment.abandon()
        environment.remove()


@pytest.fixture
def parts(environment):
    return Cluster(environment)


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Servers run a program that answers every GET with its server's name; every other module runs as it is."""
    script = tmp_path / "server.py"
    script.write_text(STAND_IN)
    python = tmp_path / "python"
    python.write_text(
        textwrap.dedent(f"""\
        #!/bin/sh
        [ "$2" = junctor.server.main ] || exec '{sys.executable}' "$@"
        exec '{sys.executable}' '{script}' "$@"
        """)
    )
    python.chmod(0o755)
    monkeypatch.setattr("junctor.cli.server_process.sys.executable", str(python))
