"""``import zato...`` for services written for Zato 3.x: modules that exist in ``sys.modules`` only.

The server and the test kit call ``install``.  The real ``zato`` namespace, of which the PyPI package ``zato-client``
installs ``zato.client``, stays as it is.  A module that is listed here and installed, too (``zato.common``, which comes with
that package), keeps its other names.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final, NoReturn

from junctor.server.email.message import SMTPMessage
from junctor.server.service import bunch, channel, hook_services, types, websocket_gateway
from junctor.server.service.base import Service
from junctor.server.sso import api, codes
from junctor.server.sso.errors import InvalidTOTPError, ValidationError
from junctor.server.sso.search import SearchCtx
from junctor.server.sso.signup import SignupCtx
from junctor.sql import errors

logger = logging.getLogger("junctor.service")


class BROKER:
    """``DEFAULT_EXPIRATION``: of messages to other servers, in seconds."""

    DEFAULT_EXPIRATION: Final = 15


class ParsingException(errors.InvalidInput):
    """The message could not be parsed."""

    def __init__(self, cid: object = None, msg: object = "") -> None:
        super().__init__([errors.Problem("", str(msg))])
        self.cid = str(cid or "")


_TYPES: Final = {
    name: getattr(types, name)
    for name in (
        *(
            "AsIs",
            "Bool",
            "Boolean",
            "CSV",
            "Date",
            "DateTime",
            "Decimal",
            "Dict",
            "DictList",
            "Elem",
            "Float",
        ),
        *(
            "ForceType",
            "Int",
            "Integer",
            "List",
            "ListOfDicts",
            "Nested",
            "Opaque",
            "Secret",
            "Text",
            "Unicode",
        ),
        *("UTC", "UUID"),
    )
}

_EXCEPTIONS: Final[dict[str, Any]] = {
    "BadRequest": errors.BadRequest,
    "ClientHTTPError": errors.RequestRefused,
    "Conflict": errors.Conflict,
    "Forbidden": errors.Forbidden,
    "InternalServerError": errors.InternalServerError,
    "MethodNotAllowed": errors.MethodNotAllowed,
    "NotFound": errors.ResourceNotFound,
    "RemoteCallFailed": errors.RemoteCallFailed,
    "Reportable": errors.RequestRefused,
    "ServiceUnavailable": errors.ServiceUnavailable,
    "TooManyRequests": errors.TooManyRequests,
    "Unauthorized": errors.Unauthorized,
    "ZatoException": errors.JunctorError,
}

_COMMON: Final[dict[str, Any]] = {
    "BROKER": BROKER,
    "CHANNEL": channel.CHANNEL,
    "DATA_FORMAT": channel.DATA_FORMAT,
    "Inactive": errors.Inactive,
    "PARAMS_PRIORITY": channel.PARAMS_PRIORITY,
    "ParsingException": ParsingException,
    "SMTPMessage": SMTPMessage,
    "TimeoutException": errors.TimedOut,
    "WEB_SOCKET": channel.WEB_SOCKET,
    "ZATO_NOT_GIVEN": "ZATO_NOT_GIVEN",
    "ZATO_OK": "ZATO_OK",
    "ZatoException": errors.JunctorError,
}

_SSO: Final[dict[str, Any]] = {
    "InvalidTOTPError": InvalidTOTPError,
    "RequestCtx": api.RequestCtx,
    "SearchCtx": SearchCtx,
    "Session": api.Session,
    "SignupCtx": SignupCtx,
    "User": api.User,
    "ValidationError": ValidationError,
    "const": codes.const,
    "status_code": codes.status_code,
}

# Every module and what it holds; a module with others below it is a package.
MODULES: Final[Mapping[str, Mapping[str, Any]]] = {
    "zato.common": _COMMON,
    "zato.common.api": _COMMON,
    "zato.common.exception": {**_COMMON, **_EXCEPTIONS},
    "zato.common.log_message": {"CID_LENGTH": 24},
    "zato.input_output": _TYPES,
    "zato.server": {},
    "zato.server.connection": {},
    "zato.server.connection.http_soap": _EXCEPTIONS,
    "zato.server.service": {
        **_TYPES,
        "ChannelInfo": channel.ChannelInfo,
        "ChannelSecurityInfo": channel.ChannelSecurityInfo,
        "PubSubHook": hook_services.PubSubHook,
        "Service": Service,
        "WSXAdapter": hook_services.WSXAdapter,
        "WSXHook": hook_services.WSXHook,
        "dataclass": dataclasses.dataclass,
    },
    "zato.server.service.internal": {"AdminService": hook_services.AdminService},
    "zato.server.service.internal.helpers": {
        "WebSocketsGateway": websocket_gateway.WebSocketsGateway,
        "WebSocketsPubSubGateway": websocket_gateway.WebSocketsPubSubGateway,
    },
    "zato.simpleio": {**_TYPES, "Bunch": bunch.Bunch},
    "zato.sso": _SSO,
    "zato.sso.api": _SSO,
    "zato.sso.common": _SSO,
}
_PACKAGES: Final = frozenset(name.rpartition(".")[0] for name in MODULES)


class _Loader(Loader):
    """Gives a module its names, on top of what it has if it is installed as well."""

    def __init__(self, installed: Loader | None = None) -> None:
        self._installed = installed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._installed, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """What the installed module's loader makes; None, for a module of the usual kind, without one."""
        return self._installed.create_module(spec) if self._installed is not None else None

    def exec_module(self, module: ModuleType) -> None:
        """Fills the module; an installed one that does not import is only logged, for services do not need it."""
        names = MODULES[module.__name__]
        if self._installed is not None:
            try:
                self._installed.exec_module(module)
            except Exception:
                logger.warning("The installed module %s does not import", module.__name__, exc_info=True)
        else:
            module.__dict__["__all__"] = sorted(names)
            module.__dict__["__getattr__"] = _missing(module.__name__)
        module.__dict__.update(names)


def _missing(module: str) -> Callable[[str], NoReturn]:
    def missing(name: str) -> NoReturn:
        raise AttributeError(f"Junctor has no {name!r} in {module!r}")

    return missing


class _Finder(MetaPathFinder):
    """Finds the modules of the table; asked first, since an installed module needs its names replaced."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's spec, if it is one of the table."""
        if fullname not in MODULES:
            return None
        for finder in sys.meta_path:
            spec = finder.find_spec(fullname, path, target) if finder is not self else None
            if spec is not None and spec.loader is not None:
                spec.loader = _Loader(spec.loader)
                return spec
        return ModuleSpec(fullname, _Loader(), origin="junctor", is_package=fullname in _PACKAGES)


_FINDER: Final = _Finder()


def install() -> None:
    """Makes the modules importable; calling it again does nothing."""
    if _FINDER in sys.meta_path:
        return
    sys.meta_path.insert(0, _FINDER)
    if "zato" not in sys.modules:
        if importlib.util.find_spec("zato") is not None:
            importlib.import_module("zato")
        else:
            package = ModuleType("zato", "The names of Zato, served by Junctor.")
            package.__path__ = []
            sys.modules["zato"] = package
    for name in MODULES.keys() & sys.modules.keys():  # imported before, by zato.client
        sys.modules[name].__dict__.update(MODULES[name])


def uninstall() -> None:
    """Takes the modules away again; for tests."""
    if _FINDER in sys.meta_path:
        sys.meta_path.remove(_FINDER)
    for name in MODULES:
        if isinstance(getattr(sys.modules.get(name), "__loader__", None), _Loader):
            del sys.modules[name]
    if getattr(sys.modules.get("zato"), "__path__", None) == []:
        del sys.modules["zato"]
