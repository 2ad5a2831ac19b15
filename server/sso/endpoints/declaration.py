"""How an endpoint of the REST API is declared: its paths, who may call it, what it takes and answers, and what it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from junctor.server.sso.caller import Caller

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn

BASE: Final = "/zato/sso"
MAX_TEXT: Final = 1000  # characters
MAX_PASSWORD: Final = 4096  # characters; what is a good length is the settings' business
MAX_ITEMS: Final = 1000


class Type(StrEnum):
    """What a value is in JSON; a query string has all of them as text."""

    TEXT = "text"
    BOOLEAN = "true or false"
    INTEGER = "number"
    TEXTS = "list of texts"
    OBJECTS = "list of objects"
    NAMES_OR_OBJECTS = "list of texts or objects"
    OBJECT = "object"
    TIME = "time"
    ANY = "any JSON"
    ANY_RESULT = "list or object"


class Who(StrEnum):
    """Who may call; all of them through an application that the cluster knows."""

    ANYBODY = "anybody"
    USER = "users, about themselves"
    OWNER_OR_SUPER_USER = "users about themselves, super-users about anybody"
    SUPER_USER = "super-users"
    APPLICATION = "applications with a secret"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """Something that an endpoint takes.

    ``aliases`` are other names that it is taken by; of several that are given, the first one counts.  ``max`` is in characters, or in
    items of a list, or the largest number.  ``is_nullable`` says that null means something, which otherwise is as if it were not there.
    A secret is never taken from a query string, unless the settings say so.  ``choices`` are all values that a text may have.
    """

    name: str
    help: str
    type: Type = Type.TEXT
    is_required: bool = False
    is_secret: bool = False
    is_nullable: bool = False
    aliases: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    min: int = 0
    max: int = MAX_TEXT

    @property
    def names(self) -> tuple[str, ...]:
        """All names that it is taken by, the documented one first."""
        return (self.name, *self.aliases)


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Something that an endpoint answers, beside the envelope; what has no value is left out, unless it is ``kept``."""

    name: str
    help: str
    type: Type = Type.TEXT
    is_kept: bool = False


@dataclass(slots=True)
class Given:
    """A request that passed the checks of the table: ``values`` has the fields that were given, by their documented names."""

    sso: SingleSignOn
    caller: Caller
    values: Mapping[str, Any]

    def text(self, name: str, default: str = "") -> str:
        """A text, or the default for one that is not given or null."""
        value = self.values.get(name)
        return default if value is None else str(value)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A boolean, or the default."""
        value = self.values.get(name)
        return default if value is None else bool(value)

    def only(self, *names: str) -> dict[str, Any]:
        """The given ones of these fields."""
        return {name: self.values[name] for name in names if name in self.values}

    def but(self, *names: str) -> dict[str, Any]:
        """All given fields but these."""
        return {name: value for name, value in self.values.items() if name not in names}


@dataclass(frozen=True, slots=True)
class Answer:
    """What an action answers if it is more than its fields: ``warnings`` are codes, with which the status is 'warning'."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


type_of_action = Callable[[Given], "Answer | Mapping[str, Any] | None"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One method of one path.

    ``action`` does it and returns the outputs; it raises ``ValidationError``.  ``codes`` are the sub-status codes that it can answer
    beside those of all: E004001 and E005001.  ``since`` is the version of Zato that had it first, 'Junctor' for those of our own.
    ``aliases`` are other paths, each with its method if that is another one.
    """

    method: str
    path: str
    summary: str
    who: Who
    action: type_of_action
    fields: tuple[Field, ...] = ()
    outputs: tuple[Output, ...] = ()
    codes: tuple[str, ...] = ()
    since: str = "3.0"
    aliases: tuple[tuple[str, str], ...] = ()
    description: str = ""

    @property
    def ways(self) -> tuple[tuple[str, str], ...]:
        """Each method and path that leads here, the documented one first."""
        return ((self.method, self.path), *self.aliases)

    def field(self, name: str) -> Field | None:
        """The field of this name or alias."""
        return next((item for item in self.fields if name in item.names), None)
