"""What the command's exit code says.  Codes are never changed or given another meaning."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

SERVER_ERROR = 500


class ExitCode(IntEnum):
    """The exit codes of every command."""

    OK = 0
    NO = 1
    USAGE = 2
    INVALID = 3
    NOT_FOUND = 4
    CONFLICT = 5
    UNREACHABLE = 6
    UNAUTHORIZED = 7
    ENVIRONMENT = 8
    PROCESS = 9
    DATABASE = 10
    REMOTE = 11
    USER_EXISTS = 20
    SSO_REFUSED = 21
    NO_SUCH_USER = 22
    BUG = 70
    INTERRUPTED = 130


MEANING: Final[Mapping[ExitCode, str]] = {
    ExitCode.OK: "done",
    ExitCode.NO: "done, and the answer is no: not healthy, not up to date, there are differences",
    ExitCode.USAGE: "the command line is wrong",
    ExitCode.INVALID: "what was given is not valid; each problem is named",
    ExitCode.NOT_FOUND: "there is no such object, service or version",
    ExitCode.CONFLICT: "it exists already, is in use, or was changed by somebody else",
    ExitCode.UNREACHABLE: "no server answers, or not in time",
    ExitCode.UNAUTHORIZED: "the credentials are not accepted",
    ExitCode.ENVIRONMENT: "the environment's directory is not what it must be",
    ExitCode.PROCESS: "a process did not start or stop",
    ExitCode.DATABASE: "the object database cannot be used, or its secrets cannot be read",
    ExitCode.REMOTE: "the server or the service failed; its log has the details",
    ExitCode.USER_EXISTS: "there is a user of this name or e-mail address already",
    ExitCode.SSO_REFUSED: "Single Sign-On refused it; the message has its codes",
    ExitCode.NO_SUCH_USER: "there is no such user",
    ExitCode.BUG: "an error in the command itself; the message says where the details are",
    ExitCode.INTERRUPTED: "interrupted, or a question was not answered",
}

# By name: importing the classes of junctor.server.client would cost every command the import of requests.
_BY_ERROR: Final[Mapping[str, ExitCode]] = {
    "DeploymentRefused": ExitCode.INVALID,
    "InvalidInput": ExitCode.INVALID,
    "UnknownKind": ExitCode.INVALID,
    "NotFound": ExitCode.NOT_FOUND,
    "ServiceNotFound": ExitCode.NOT_FOUND,
    "ServiceInactive": ExitCode.NOT_FOUND,
    "AlreadyExists": ExitCode.CONFLICT,
    "InUse": ExitCode.CONFLICT,
    "EditConflict": ExitCode.CONFLICT,
    "ClusterUnreachable": ExitCode.UNREACHABLE,
    "CallTimeout": ExitCode.UNREACHABLE,
    "NotInTime": ExitCode.UNREACHABLE,
    "Unauthorized": ExitCode.UNAUTHORIZED,
    "ProcessFailed": ExitCode.PROCESS,
    "EnvironmentProblem": ExitCode.ENVIRONMENT,
    "StoreUnavailable": ExitCode.DATABASE,
    "SchemaOutdated": ExitCode.DATABASE,
    "SecretUnreadable": ExitCode.DATABASE,
    "UserExists": ExitCode.USER_EXISTS,
    "SsoRefused": ExitCode.SSO_REFUSED,
    "NoSuchUser": ExitCode.NO_SUCH_USER,
    "RemoteError": ExitCode.REMOTE,
    "JunctorError": ExitCode.REMOTE,
}
_BY_STATUS: Final[Mapping[int, ExitCode]] = {
    400: ExitCode.INVALID,
    401: ExitCode.UNAUTHORIZED,
    403: ExitCode.UNAUTHORIZED,
    404: ExitCode.NOT_FOUND,
    409: ExitCode.CONFLICT,
    413: ExitCode.INVALID,
    429: ExitCode.UNREACHABLE,
    502: ExitCode.UNREACHABLE,
    503: ExitCode.UNREACHABLE,
    504: ExitCode.UNREACHABLE,
}


def code_of(error: BaseException) -> ExitCode:
    """The exit code for an error; ``BUG`` for one that is not Junctor's.

    A remote error counts as what it was at the server, or else by its HTTP status.
    """
    remote = getattr(error, "error", "")
    if isinstance(remote, str) and remote in _BY_ERROR:
        return _BY_ERROR[remote]
    for cls in type(error).__mro__:
        found = _BY_ERROR.get(cls.__name__)
        if found is ExitCode.REMOTE:
            return _BY_STATUS.get(getattr(error, "status", SERVER_ERROR), ExitCode.REMOTE)
        if found is not None:
            return found
    return ExitCode.BUG


def table() -> str:
    """The exit codes and their meanings, a line each."""
    return "\n".join(f"{code.value:>3}  {meaning}" for code, meaning in MEANING.items())
