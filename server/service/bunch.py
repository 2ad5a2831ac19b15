"""Dictionaries whose keys are attributes as well: what services read their data from."""

from __future__ import annotations

import copy
from typing import Any, Self

from junctor.sql.errors import InvalidInput

_CONTAINERS = (dict, list)


class Bunch(dict[str, Any]):
    """A dictionary with its keys as attributes; dictionaries inside it, and inside its lists, are found as ``Bunch``.

    A key named like a method of ``dict`` (``items``, ``get``) is reached as ``bunch["items"]`` only.
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        try:
            value = self[name]
        except KeyError:
            raise AttributeError(
                f"There is no {name!r}; there are: {', '.join(map(str, self)) or 'none'}."
            ) from None
        if value.__class__ in _CONTAINERS:
            value = self[name] = bunchify(value)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict.__repr__(self)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)

    def copy(self) -> Self:
        """A shallow copy, of the same class."""
        return type(self)(self)


class Input(Bunch):
    """``self.request.input``: what the service's declaration made of the request."""

    __slots__ = ()

    def deepcopy(self) -> Self:
        """A copy that shares nothing with this input."""
        return copy.deepcopy(self)

    def require_any(self, *names: str) -> None:
        """Passes if at least one of ``names`` has a value other than None and ''.  Raises ``InvalidInput`` if none has."""
        if all(self.get(name) in (None, "") for name in names):
            raise InvalidInput.one("", f"At least one of these is required: {', '.join(names)}.")


def bunchify(value: Any) -> Any:
    """``value`` with every dictionary in its dictionaries and lists turned into a ``Bunch``; the rest is not copied."""
    if isinstance(value, dict):
        return Bunch((key, bunchify(item)) for key, item in value.items())
    if isinstance(value, list):
        return [bunchify(item) for item in value]
    return value
