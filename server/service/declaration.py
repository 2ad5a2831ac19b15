"""From what a service's class says about its input and output to a ``ServiceIO``, once, when it is deployed.

Both forms are understood, in the class itself or in its nested ``SimpleIO``: ``input = 'a', '-b', Int('c')`` (with
``output``), and ``input_required``, ``input_optional``, ``output_required`` and ``output_optional``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from junctor.server.service.io import IOOptions, ServiceIO
from junctor.server.service.types import NO_DEFAULT, Elem, by_convention
from junctor.sql.errors import DeploymentRefused

logger = logging.getLogger("junctor.service")

MAX_ELEMENTS = 1_000
_IGNORED = frozenset(
    ("encrypt_secrets", "namespace", "request_elem", "use_text")
)  # of XML, or done by other means
_KNOWN = frozenset(
    (
        "allow_empty_required",
        "default_input_value",
        "default_output_value",
        "default_value",
        "force_empty_keys",
        "input",
        "input_optional",
        "input_required",
        "output",
        "output_optional",
        "output_repeated",
        "output_required",
        "response_elem",
        "skip_empty_keys",
        "use_channel_params_only",
        "SkipEmpty",
    )
)


def compile_io(cls: type, owner: str) -> ServiceIO | None:
    """The compiled declaration of a service's class; None if it declares nothing.

    ``owner`` is the service's implementation name.  Raises ``DeploymentRefused`` for what is wrong with the declaration.
    """
    simple_io = getattr(cls, "SimpleIO", None)
    if simple_io is not None:
        _warn_of_unknown(owner, simple_io)
    declared = {side: _elements(owner, cls, simple_io, side) for side in ("input", "output")}
    if declared == {"input": None, "output": None}:
        return None
    elements = {side: found or () for side, found in declared.items()}
    options = _options(owner, simple_io, elements)
    return ServiceIO(owner, elements["input"], elements["output"], options)


def _elements(owner: str, cls: type, simple_io: type | None, side: str) -> tuple[Elem, ...] | None:
    """The elements of one side, 'input' or 'output'; None if it is not declared at all."""
    given = _given(owner, cls, simple_io, side)
    if not given:
        return None
    if side in given and len(given) > 1:
        raise DeploymentRefused(
            owner, f"SimpleIO has both {side} and {side}_required or {side}_optional; one is needed"
        )
    found: dict[str, Elem] = {}
    for name, value in given.items():
        for item in _items(owner, name, value):
            elem = _element(owner, name, item)
            if elem.name in found:
                raise DeploymentRefused(owner, f"{elem.name!r} is declared twice in the {side}")
            found[elem.name] = elem
    if len(found) > MAX_ELEMENTS:
        raise DeploymentRefused(owner, f"the {side} has {len(found)} elements, more than {MAX_ELEMENTS}")
    return tuple(found.values())


def _given(owner: str, cls: type, simple_io: type | None, side: str) -> dict[str, Any]:
    """The attributes which declare one side: the class's own or those of its SimpleIO, whichever is nearer to the class."""
    nested = {name: getattr(simple_io, name, None) for name in (side, f"{side}_required", f"{side}_optional")}
    given = {name: value for name, value in nested.items() if value is not None}
    direct = getattr(cls, side, None)
    if direct is None or (
        callable(direct) and not isinstance(direct, type)
    ):  # or a method that has this name by chance
        return given
    if given and _depth(cls, side) == _depth(cls, "SimpleIO"):
        raise DeploymentRefused(owner, f"both the class and its SimpleIO declare the {side}")
    return {side: direct} if not given or _depth(cls, side) < _depth(cls, "SimpleIO") else given


def _depth(cls: type, name: str) -> int:
    """How far up its ancestors the class has the attribute: the nearer declaration is the one that counts."""
    return next(index for index, ancestor in enumerate(cls.__mro__) if name in vars(ancestor))


def _items(owner: str, name: str, value: Any) -> list[Any]:
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    if isinstance(value, Elem):
        return [value]
    if isinstance(value, type):
        raise DeploymentRefused(
            owner, f"{name} is the class {value.__name__}; models are not supported, name the elements"
        )
    if not isinstance(value, Iterable):
        raise DeploymentRefused(
            owner, f"{name} must be a name, an element or a tuple of these, not {value!r}"
        )
    return list(value)


def _element(owner: str, name: str, item: Any) -> Elem:
    if isinstance(item, str):
        elem = by_convention(item)
    elif isinstance(item, Elem):
        elem = item
    elif isinstance(item, type) and issubclass(item, Elem):
        raise DeploymentRefused(
            owner, f"{name} has {item.__name__} without a name; write {item.__name__}('name')"
        )
    else:
        raise DeploymentRefused(owner, f"{name} has {item!r}, which is neither a name nor an element")
    if not elem.name or elem.name != elem.name.strip() or not elem.name.isprintable():
        raise DeploymentRefused(owner, f"{name} has {elem.name!r}, which is not a name")
    if name.endswith("_optional") or elem.default is not NO_DEFAULT:
        return elem.with_required(False)
    return elem


def _options(owner: str, simple_io: Any, elements: dict[str, tuple[Elem, ...]]) -> IOOptions:
    def get(name: str, default: Any) -> Any:
        return getattr(simple_io, name, default)

    response_elem = get("response_elem", None)
    if response_elem is not None and not isinstance(response_elem, str):
        raise DeploymentRefused(owner, f"response_elem must be text or None, not {response_elem!r}")
    default = get("default_value", "")
    skip = get("SkipEmpty", None)
    skip_output = getattr(skip, "output_def", get("skip_empty_keys", False))
    force_output = getattr(skip, "force_empty_output", get("force_empty_keys", ()))
    return IOOptions(
        response_elem=response_elem or None,
        default_input_value=get("default_input_value", default),
        default_output_value=getattr(skip, "empty_output_value", get("default_output_value", default)),
        skip_empty_input=_names(
            elements["input"], getattr(skip, "input", False), getattr(skip, "force_empty_input", ())
        ),
        skip_empty_output=_names(elements["output"], skip_output, force_output),
        allow_empty_required=bool(get("allow_empty_required", False)),
        use_channel_params_only=bool(get("use_channel_params_only", False)),
        output_repeated=bool(get("output_repeated", False)),
    )


def _names(elements: tuple[Elem, ...], skip: Any, force: Any) -> frozenset[str]:
    """The elements left out when they are empty: all of them, or those named, without those that are forced."""
    every = frozenset(elem.name for elem in elements)
    chosen = every if skip is True else frozenset((skip,) if isinstance(skip, str) else skip or ())
    forced = every if force is True else frozenset((force,) if isinstance(force, str) else force or ())
    return (chosen & every) - forced


def _warn_of_unknown(owner: str, simple_io: Any) -> None:
    unknown = sorted(
        name for name in dir(simple_io) if not name.startswith("_") and name not in _KNOWN | _IGNORED
    )
    if unknown:
        logger.warning("%s: SimpleIO has attributes that have no meaning: %s", owner, ", ".join(unknown))
