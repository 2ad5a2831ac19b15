"""Every error of Junctor.

    JunctorError
    +-- InvalidInput            what was given is wrong; lists every problem with its field
    |   +-- UnknownKind         there is no such object type
    +-- NotFound                no such object
    |   +-- ServiceNotFound     no such service
    |   |   +-- ServiceInactive ... or it is switched off
    |   +-- ConnectionNotFound  no such connection; suggests those whose names are close
    +-- Inactive                what was called is switched off
    +-- TimedOut                ... or took longer than it may
    +-- AlreadyExists           the name is taken
    +-- InUse                   other objects refer to it
    +-- EditConflict            somebody else changed it in the meantime
    +-- StoreUnavailable        the object database cannot be reached
    +-- SchemaOutdated          the object database needs 'junctor odb upgrade'
    +-- SecretUnreadable        a secret was encrypted with a key that is not here
    +-- DeploymentRefused       a service file does not load; says the line and the reason
    +-- CallFailed              a service could not be invoked or did not finish
    |   +-- CallTimeout         it took longer than it may
    |   +-- CallRefused         the service's accept() said no
    |   +-- RemoteCallFailed    another cluster answered a call with an error; has its status and CID
    +-- InvalidOutput           a service's response does not match its own declaration
    +-- ConnectionFailed        an outgoing connection failed
    |   +-- ConnectionTimeout   ... or did not answer in time
    |   +-- ConnectionInactive  ... or is switched off
    |   +-- MailRefused         ... or a mail server did not take a message
    |   +-- WebSocketClosed     ... or a WebSocket that has closed was to send something
    |       +-- SlowConsumer    ... which does not take what it is sent
    +-- AddressUnavailable      a channel cannot listen on its address
    +-- EnvironmentProblem      an environment's directory or one of its files is not what it must be
    |   +-- ProcessFailed       a process of the environment did not start or stop; says what its log says
    +-- NotInTime               what was waited for did not happen in time
    +-- ClientGone              the client closed its connection before it had the whole response
    +-- RequestRefused          a client's request is answered with an HTTP status of its own
        +-- BadRequest 400, Unauthorized 401, Forbidden 403 (CredentialsRefused), MethodNotAllowed 405, NotAcceptable 406,
            ResourceNotFound 404, RequestTimeout 408, Conflict 409, PayloadTooLarge 413, UriTooLong 414,
            ExpectationFailed 417, UpgradeRequired 426, TooManyRequests 429, HeadersTooLarge 431, InternalServerError 500,
            ServiceUnavailable 503; DuplicateMessage is a BadRequest: a message of this id is stored already

The docstring of a class is its message when none is given.  ``server/http_errors.py`` maps them to HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class JunctorError(Exception):
    """Something went wrong.

    Two arguments are a CID and a message: ``ZatoException`` is this class, so that services written for Zato
    both raise it and catch everything with it.
    """

    def __init__(self, message: object = "", msg: object = None) -> None:
        text = str(message or "") if msg is None else str(msg)
        self.cid = "" if msg is None else str(message or "")
        self.message = text or (type(self).__doc__ or "").partition("\n")[0]
        self.msg: object = self.message
        super().__init__(self.message)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with an input: the field it is about ('' = the input as a whole) and a sentence."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class InvalidInput(JunctorError):
    """The input is not valid."""

    def __init__(self, problems: Iterable[Problem], message: str = "") -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__(message or "; ".join(str(problem) for problem in self.problems))

    @classmethod
    def one(cls, field: str, message: str) -> InvalidInput:
        """The error for a single problem."""
        return cls([Problem(field, message)])


class UnknownKind(InvalidInput):
    """There is no such object type."""

    def __init__(self, kind: str, known: Sequence[str]) -> None:
        super().__init__(
            [Problem("kind", f"There is no object type {kind!r}; there are: {', '.join(known)}.")]
        )


class NotFound(JunctorError):
    """There is no such object."""

    def __init__(self, what: str = "", name: object = "") -> None:
        self.what, self.name = what, name
        super().__init__(f"There is no {what} {name!r}." if what else "")


class ServiceNotFound(NotFound):
    """There is no such service."""

    def __init__(self, name: str) -> None:
        super().__init__("active service", name)


class Inactive(JunctorError):
    """The object is not active."""


class ServiceInactive(ServiceNotFound, Inactive):
    """The service is not active."""


class ConnectionNotFound(NotFound, KeyError):
    """There is no such connection.

    A ``KeyError`` as well: services look connections up in mappings.
    """

    def __init__(self, what: str, name: str, similar: Sequence[str] = ()) -> None:
        super().__init__(what, name)
        self.similar = tuple(similar)
        if similar:
            self.message += f" Did you mean {' or '.join(map(repr, similar))}?"

    def __str__(self) -> str:
        return self.message


class AlreadyExists(JunctorError):
    """An object of this name exists already."""

    def __init__(self, what: str, name: object) -> None:
        self.what, self.name = what, name
        super().__init__(f"{what} {name!r} exists already.")


class InUse(JunctorError):
    """The object is in use."""

    def __init__(self, what: str, name: str, users: Sequence[str]) -> None:
        self.users = tuple(users)
        shown = ", ".join(self.users[:10]) + (f" and {len(users) - 10} more" if len(users) > 10 else "")
        super().__init__(f"{what} {name!r} is in use by {shown}.")


class EditConflict(JunctorError):
    """The object was changed by somebody else in the meantime."""

    def __init__(self, what: str, name: str, *, given: int, current: int) -> None:
        self.given, self.current = given, current
        super().__init__(
            f"{what} {name!r} was changed by somebody else: you edited version {given}, it is at {current} now. "
            "Read it again and repeat your change."
        )


class StoreUnavailable(JunctorError):
    """The object database cannot be reached."""


class SchemaOutdated(JunctorError):
    """The object database does not have the current schema; run 'junctor odb upgrade'."""


class SecretUnreadable(JunctorError):
    """A secret was encrypted with a key that is not in this environment's key file."""


class DeploymentRefused(JunctorError):
    """The service file cannot be deployed."""

    def __init__(self, file_name: str, reason: str, *, line: int | None = None) -> None:
        self.file_name, self.reason, self.line = file_name, reason, line
        super().__init__(f"{file_name}{f', line {line}' if line else ''}: {reason}")


class CallFailed(JunctorError):
    """The service could not be invoked."""


class TimedOut(JunctorError):
    """It took longer than it may."""


class CallTimeout(CallFailed, TimedOut):
    """The service did not finish in time."""


class CallRefused(CallFailed):
    """The service did not accept the request."""


class RemoteCallFailed(CallFailed):
    """The remote end answered with an error.

    ``status`` is its HTTP status, ``reason`` its message, and ``remote_cid`` the CID to look for in its log.
    """

    def __init__(self, message: str, *, status: int, reason: str = "", remote_cid: str = "") -> None:
        self.status, self.reason, self.remote_cid = status, reason, remote_cid
        super().__init__(message)


class InvalidOutput(JunctorError):
    """The service's response does not match its declaration."""

    def __init__(self, service: str, problems: Iterable[Problem]) -> None:
        self.service = service
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__(f"{service}: {'; '.join(str(problem) for problem in self.problems)}")


class ConnectionFailed(JunctorError):
    """The outgoing connection failed."""


class ConnectionTimeout(ConnectionFailed, TimedOut):
    """The remote end did not answer in time."""


class ConnectionInactive(ConnectionFailed, Inactive):
    """The outgoing connection is not active."""


class MailRefused(ConnectionFailed):
    """The mail server did not take the message.

    ``code`` is its answer, from 400 if it may take the message later and from 500 if not, 0 if it was not asked.  ``refused`` has the
    code and the reason for each recipient that it does not take; nobody got the message then.
    """

    def __init__(
        self, message: str = "", *, code: int = 0, refused: Mapping[str, tuple[int, str]] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.refused = dict(refused or {})

    @property
    def is_permanent(self) -> bool:
        """Whether there is no use in trying again."""
        return not 400 <= self.code < 500


class WebSocketClosed(ConnectionFailed):
    """The WebSocket is closed."""


class SlowConsumer(WebSocketClosed):
    """Too many messages wait for the peer, which does not take them."""


class AddressUnavailable(JunctorError):
    """The address cannot be listened on."""


class ClientGone(JunctorError):
    """The client closed its connection before it had the whole response."""


class EnvironmentProblem(JunctorError):
    """The environment's directory is not what it must be."""


class ProcessFailed(EnvironmentProblem):
    """A process of the environment did not start or stop."""


class NotInTime(JunctorError):
    """It did not happen in time."""


class RequestRefused(JunctorError):
    """The request was refused; ``status`` is the HTTP status of the answer.

    ``cid`` and ``msg`` are the arguments that services written for Zato give.
    """

    status = 400

    def __init__(self, cid: str = "", msg: object = "", *_: Any, **__: Any) -> None:
        super().__init__(str(msg))
        self.cid, self.msg = cid, msg


class BadRequest(RequestRefused):
    """Bad request."""


class Unauthorized(RequestRefused):
    """Authentication is required; ``challenge`` is the value of WWW-Authenticate."""

    status = 401

    def __init__(self, cid: str = "", msg: object = "", challenge: str = "zato") -> None:
        self.challenge = challenge
        super().__init__(cid, msg or "You are not authorized to access this resource.")


class Forbidden(RequestRefused):
    """You may not do this."""

    status = 403


class CredentialsRefused(Forbidden):
    """You are not authorized to access this resource.

    What publish/subscribe answers to wrong credentials, as Zato does; ``challenge`` is the value of WWW-Authenticate.
    """

    def __init__(self, cid: str = "", msg: object = "", challenge: str = "zato") -> None:
        self.challenge = challenge
        super().__init__(cid, msg or "You are not authorized to access this resource.")


class DuplicateMessage(BadRequest):
    """Duplicate msg_id."""

    def __init__(self, cid: str = "", msg: object = "") -> None:
        super().__init__(cid, msg or "Duplicate msg_id")  # to the letter, since clients look for it


class MethodNotAllowed(RequestRefused):
    """The HTTP method is not allowed here; ``allowed`` lists those that are."""

    status = 405

    def __init__(self, cid: str = "", msg: object = "", allowed: Sequence[str] = ()) -> None:
        self.allowed = tuple(allowed)
        super().__init__(cid, msg or "Method not allowed.")


class ResourceNotFound(RequestRefused):
    """There is no such resource; what a service raises, unlike ``NotFound``, which is about Junctor's objects."""

    status = 404


class NotAcceptable(RequestRefused):
    """The channel does not produce what the client accepts."""

    status = 406


class RequestTimeout(RequestRefused):
    """The client took too long to send its request."""

    status = 408


class Conflict(RequestRefused):
    """The request conflicts with the current state."""

    status = 409


class PayloadTooLarge(RequestRefused):
    """The request body is larger than the channel allows."""

    status = 413


class UriTooLong(RequestRefused):
    """The request line is too long."""

    status = 414


class ExpectationFailed(RequestRefused):
    """The Expect header asks for something that is not supported."""

    status = 417


class UpgradeRequired(RequestRefused):
    """The client must speak another protocol, or another version of it."""

    status = 426


class TooManyRequests(RequestRefused):
    """Too many requests."""

    status = 429


class InternalServerError(RequestRefused):
    """The request could not be processed."""

    status = 500


class HeadersTooLarge(RequestRefused):
    """The request has too many headers, or they are too large."""

    status = 431


class ServiceUnavailable(RequestRefused):
    """The service is not available now; try again later."""

    status = 503
