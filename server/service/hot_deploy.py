"""From the source of a deployed file to a module and its services.

Each version is a new module object, ``orders@<version>`` in ``sys.modules``, so that calls under way keep the code they
began with, and pickles, tracebacks and ``inspect`` find theirs.  ``publish`` then makes a version the one that other files
get with ``import orders``.  Nothing here touches the services that run: ``service/store.py`` replaces them.
"""

from __future__ import annotations

import ast
import importlib.util
import linecache
import logging
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from importlib.abc import InspectLoader
from importlib.machinery import ModuleSpec
from threading import RLock
from types import ModuleType

import gevent

from junctor.server.service.base import Service
from junctor.server.service.info import ServiceInfo, describe, has_handler
from junctor.sql.errors import DeploymentRefused

logger = logging.getLogger("junctor.service")

MAX_SOURCE = 5 * 1024 * 1024
MAX_FILE_NAME = 200
LOAD_TIMEOUT = 60.0
_FILE_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\.py", re.ASCII)
_VERSION = re.compile(r"[A-Za-z0-9_.-]{1,128}", re.ASCII)

_lock = RLock()  # loading runs a module's own code, which may wait; two files are never loaded at once
_published: dict[str, list[LoadedModule]] = {}  # by plain name, newest last


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModule:
    """A loaded version of a deployed file; ``key`` is its name in ``sys.modules``, ``name`` its plain name.

    ``services`` is empty for a helper module, which is only there for other files to import.
    """

    file_name: str
    version: str
    name: str
    key: str
    module: ModuleType = field(repr=False)
    services: tuple[ServiceInfo, ...]


class _SourceLoader(InspectLoader):
    """Gives the source of a deployed module to ``inspect`` and to whoever else asks for it."""

    def __init__(self, code_name: str, source: str) -> None:
        self._code_name, self._source = code_name, source

    def get_source(self, fullname: str) -> str:  # noqa: ARG002 - a loader has one module
        """The source of the module."""
        return self._source

    def get_filename(self, fullname: str) -> str:  # noqa: ARG002 - a loader has one module
        """The name that tracebacks show."""
        return self._code_name


def load_source(
    file_name: str, source: str | bytes, version: str, *, timeout: float = LOAD_TIMEOUT
) -> LoadedModule:
    """The module that the source makes, executed, with its services; nothing that exists is replaced.

    ``file_name`` is that of a plain module, ``source`` has at most 5 MB, in UTF-8 or the encoding that it declares, and
    ``version`` tells the versions of the file apart; the module's own code may take ``timeout`` seconds.
    Raises ``DeploymentRefused``, with the line where there is one, for anything that is wrong with them.
    """
    name, text = _checked(file_name, source, version)
    with _lock:
        key = f"{name}@{version}"
        number = 1
        while key in sys.modules:
            number += 1
            key = f"{name}@{version}.{number}"
        module = _execute(file_name, key, text, timeout)
        try:
            services = _services(file_name, version, module, text)
            if not services and name not in _published and _is_installed(name):
                reason = (
                    f"it has no service, and other files cannot import it: there is a module {name!r} already"
                )
                raise DeploymentRefused(file_name, reason)
        except DeploymentRefused:
            _forget(key)
            raise
    return LoadedModule(file_name, version, name, key, module, services)


def publish(loaded: LoadedModule) -> None:
    """Makes this version the one that ``import <name>`` gives to files which are loaded from now on.

    A name that belongs to an installed module keeps its meaning: a deployed ``json.py`` may have services, but ``import json``
    is Python's own.
    """
    with _lock:
        versions = _published.setdefault(loaded.name, [])
        if loaded in versions:
            versions.remove(loaded)
        if not versions and _is_installed(loaded.name):
            logger.warning(
                "%s cannot be imported by other files: there is a module %r already",
                loaded.file_name,
                loaded.name,
            )
            del _published[loaded.name]
            return
        versions.append(loaded)
        sys.modules[loaded.name] = loaded.module


def unload(loaded: LoadedModule) -> None:
    """Forgets this version; calls that are in it finish.  The version published before it is the one to import again."""
    with _lock:
        _forget(loaded.key)
        versions = _published.get(loaded.name, [])
        if loaded in versions:
            versions.remove(loaded)
            if versions:
                sys.modules[loaded.name] = versions[-1].module
            else:
                del _published[loaded.name]
                sys.modules.pop(loaded.name, None)


def deployment_order(sources: Mapping[str, str | bytes]) -> list[str]:
    """The names of the files, each after those of them which it imports; alphabetical otherwise, or if they import in a ring.

    Files that do not parse come in any place: loading tells what is wrong with them.
    """
    names = {file_name.removesuffix(".py"): file_name for file_name in sorted(sources)}
    imports = {
        file_name: sorted(
            {names[name] for name in _imported(sources[file_name]) if name in names} - {file_name}
        )
        for file_name in sorted(sources)
    }
    try:
        return list(TopologicalSorter(imports).static_order())
    except CycleError:
        return sorted(sources)


def _checked(file_name: str, source: str | bytes, version: str) -> tuple[str, str]:
    """The plain name of the module and its source as text."""
    match = _FILE_NAME.fullmatch(file_name)
    if match is None or len(file_name) > MAX_FILE_NAME:
        raise DeploymentRefused(
            file_name[:MAX_FILE_NAME],
            "a file's name is letters, digits and underscores, no digit first, and .py",
        )
    if _VERSION.fullmatch(version) is None:
        raise DeploymentRefused(file_name, f"{version[:128]!r} is not a version")
    size = len(source.encode("utf-8", "surrogatepass")) if isinstance(source, str) else len(source)
    if size > MAX_SOURCE:
        raise DeploymentRefused(file_name, f"the file has {size:,} bytes, more than {MAX_SOURCE:,}")
    if isinstance(source, str):
        return match[1], source
    try:
        return match[1], importlib.util.decode_source(source)
    except (SyntaxError, UnicodeDecodeError, LookupError) as error:
        raise DeploymentRefused(
            file_name, f"the encoding is not what the file declares, or UTF-8: {error}"
        ) from None


def _execute(file_name: str, key: str, source: str, timeout: float) -> ModuleType:
    code_name = key.replace("@", ".py@", 1)
    try:
        code = compile(source, code_name, "exec", dont_inherit=True)
    except SyntaxError as error:
        raise DeploymentRefused(
            file_name, f"{type(error).__name__}: {error.msg}", line=error.lineno
        ) from error
    except (ValueError, RecursionError, OverflowError, MemoryError) as error:
        raise DeploymentRefused(file_name, f"it does not compile: {error}") from error
    loader = _SourceLoader(code_name, source)
    module = importlib.util.module_from_spec(ModuleSpec(key, loader, origin=code_name))
    module.__file__ = code_name
    sys.modules[key] = module
    # no modification time: the entry is never checked against a file
    linecache.cache[code_name] = (len(source), None, source.splitlines(keepends=True), code_name)
    with _failure_refused(file_name, key, code_name, timeout):
        exec(code, module.__dict__)  # noqa: S102 - running the deployed code is what this is for
    return module


@contextmanager
def _failure_refused(file_name: str, key: str, code_name: str, timeout: float) -> Iterator[None]:
    timer = gevent.Timeout.start_new(timeout)
    try:
        yield
    except gevent.Timeout as error:
        _forget(key)
        if error is not timer:
            raise
        raise DeploymentRefused(
            file_name, f"it did not finish loading in {timeout:g} s", line=_line(error, code_name)
        ) from None
    except (Exception, SystemExit) as error:
        _forget(key)
        reason = f"{type(error).__name__}: {error}"
        raise DeploymentRefused(file_name, reason, line=_line(error, code_name)) from error
    except BaseException:
        _forget(key)
        raise
    finally:
        timer.close()


def _line(error: BaseException, code_name: str) -> int | None:
    """The last line of the file that the error passed through."""
    lines = [
        line
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_filename == code_name
    ]
    return lines[-1] if lines else None


def _services(file_name: str, version: str, module: ModuleType, source: str) -> tuple[ServiceInfo, ...]:
    classes = list(_service_classes(module))
    found: dict[str, ServiceInfo] = {}
    for cls in classes:
        if not has_handler(cls) and any(other is not cls and issubclass(other, cls) for other in classes):
            continue  # what the services of this file have in common
        with _at_class(file_name, cls, source):
            if not cls.before_add_to_store(logger):
                continue
            service = describe(cls, file_name=file_name, version=version)
            if service.name in found:
                other = found[service.name].cls.__name__
                raise DeploymentRefused(file_name, f"it has the name {service.name!r}, and so has {other}")
            found[service.name] = service
    return tuple(found.values())


def _service_classes(module: ModuleType) -> Iterable[type[Service]]:
    """The classes of services which the module defines itself and does not exclude, in its order."""
    seen: set[type] = set()
    for value in list(vars(module).values()):
        if not isinstance(value, type) or not issubclass(value, Service) or value in seen:
            continue
        seen.add(value)
        if value.__module__ == module.__name__ and not value.__dict__.get("zato_dont_import"):
            yield value


@contextmanager
def _at_class(file_name: str, cls: type, source: str) -> Iterator[None]:
    """Says the file, the class and its line in errors about the class."""
    try:
        yield
    except DeploymentRefused as error:
        raise DeploymentRefused(
            file_name, f"{cls.__name__}: {error.reason}", line=_line_of(cls, source)
        ) from error
    except Exception as error:
        reason = f"{cls.__name__}: {type(error).__name__}: {error}"
        raise DeploymentRefused(file_name, reason, line=_line_of(cls, source)) from error


def _line_of(cls: type, source: str) -> int | None:
    lines = [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef) and node.name == cls.__name__
    ]
    return lines[-1] if lines else None


def _imported(source: str | bytes) -> set[str]:
    """The top-level names of what a source imports."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names


def _is_installed(name: str) -> bool:
    """Is there a module of this name that was not deployed?"""
    if name in sys.modules or name in sys.stdlib_module_names:
        return True
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _forget(key: str) -> None:
    module = sys.modules.pop(key, None)
    if module is not None and module.__file__:
        linecache.cache.pop(module.__file__, None)
