"""What is known of a deployed service: found out once, so that a call has nothing to look up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from junctor.server.service.base import Service
from junctor.server.service.declaration import compile_io
from junctor.server.service.io import ServiceIO
from junctor.server.service.naming import problem_with_name
from junctor.sql.errors import DeploymentRefused

Handler = Callable[[Service], Any]
_VERB = "handle_"


@dataclass(frozen=True, slots=True)
class Hooks:
    """The hooks that a service overrides; None for each that it does not."""

    before_handle: Handler | None = None
    validate_input: Handler | None = None
    validate_output: Handler | None = None
    after_handle: Handler | None = None
    finalize_handle: Handler | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ServiceInfo:
    """A deployed service.

    ``io`` is None if it declares nothing, ``hooks`` if it overrides none, ``accept`` and ``handle`` if it has none.
    ``verbs`` are its handlers by HTTP method.  ``version`` is that of its module and ``file_name`` the module's file, ''
    for a built-in service.
    """

    name: str
    impl_name: str
    cls: type[Service]
    file_name: str = ""
    version: str = ""
    is_internal: bool = False
    io: ServiceIO | None = None
    hooks: Hooks | None = None
    accept: Handler | None = None
    handle: Handler | None = None
    verbs: Mapping[str, Handler] = field(default_factory=lambda: MappingProxyType({}))


def describe(
    cls: type[Service], *, file_name: str = "", version: str = "", is_internal: bool = False
) -> ServiceInfo:
    """The service that ``cls`` is; gives the class its ``name``, ``impl_name`` and ``logger``.

    Raises ``DeploymentRefused`` if its name or declaration is wrong or it has no ``handle``.
    """
    impl_name = cls.get_impl_name()
    name = cls.get_name()
    if problem := problem_with_name(name):
        raise DeploymentRefused(impl_name, problem)
    if not has_handler(cls):
        raise DeploymentRefused(
            impl_name,
            "there is no handle(); if this is a base class for services, set zato_dont_import = True in it",
        )
    declared = compile_io(cls, impl_name)
    cls.name, cls.impl_name, cls.logger = name, impl_name, logging.getLogger(impl_name)
    if declared is not None:
        cls._secrets = frozenset(elem.name for elem in declared.input + declared.output if elem.is_secret)
    hooks = {hook: _overridden(cls, hook) for hook in Hooks.__dataclass_fields__}
    return ServiceInfo(
        name=name,
        impl_name=impl_name,
        cls=cls,
        file_name=file_name,
        version=version,
        is_internal=is_internal,
        io=declared,
        hooks=Hooks(**hooks) if any(hooks.values()) else None,
        accept=_overridden(cls, "accept"),
        handle=_overridden(cls, "handle"),
        verbs=MappingProxyType(_verbs(cls)),
    )


def has_handler(cls: type[Service]) -> bool:
    """Does the class have ``handle`` or ``handle_GET`` or the like?"""
    return _overridden(cls, "handle") is not None or bool(_verbs(cls))


def _overridden(cls: type[Service], name: str) -> Handler | None:
    """The method of this name, as a function of the instance; None if it is still that of ``Service``."""
    method = getattr(cls, name)
    return None if method is getattr(Service, name) else method


def _verbs(cls: type[Service]) -> dict[str, Handler]:
    names = (name for name in dir(cls) if name.startswith(_VERB) and name[len(_VERB) :].isupper())
    return {name[len(_VERB) :]: getattr(cls, name) for name in names}
