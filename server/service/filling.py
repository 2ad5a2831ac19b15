"""From declared elements to a function that takes them out of a message: made once, when a service is deployed.

A loop over the elements would ask the same questions of each in each request, and was measured as the dearest part of one; a function
with a few lines for each element takes a third of the time.  It leaves everything but the ordinary case to the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from junctor.server.service.types import Plain
from junctor.sql.errors import InvalidInput

# name, conversion (None: as it is), does '' come under the element's rule, as None does
Step = tuple[str, Callable[[Any], Any] | None, bool]
# Takes the message's ``get`` and the dictionary to be filled; returns the steps that it has left to others.
Filler = Callable[[Callable[[str], Any], dict[str, Any]], Sequence[Step]]


def filler(steps: Sequence[Step]) -> Filler:
    """A function that fills in the elements that are there and convert, in their order."""
    lines = ["def fill(get, result):", "    left = ()"]
    names: dict[str, Any] = {"InvalidInput": InvalidInput, "steps": tuple(steps)}
    for number, (name, conversion, is_ruled) in enumerate(steps):
        names[f"convert_{number}"] = conversion
        lines += [f"    value = get({name!r})", *_lines(number, name, conversion, is_ruled=is_ruled)]
    lines.append("    return left")
    # Names of elements are in it as literals alone, so there is nothing in this text that is not from here.
    exec(compile("\n".join(lines), "<declared input>", "exec"), names)  # noqa: S102 - as dataclasses does it
    made: Filler = names["fill"]
    return made


def _lines(
    number: int, name: str, conversion: Callable[[Any], Any] | None, *, is_ruled: bool
) -> Sequence[str]:
    leave = f"left += (steps[{number}],)"
    if isinstance(getattr(conversion, "__self__", None), Plain):
        return (
            "    if value.__class__ is str and value:",
            f"        result[{name!r}] = value",
            "    else:",
            f"        {leave}",
        )
    is_left = "value is None or value == ''" if is_ruled else "value is None"
    head = (f"    if {is_left}:", f"        {leave}", "    else:")
    if conversion is None:
        return (*head, f"        result[{name!r}] = value")
    return (
        *head,
        "        try:",
        f"            result[{name!r}] = convert_{number}(value)",
        "        except InvalidInput:",
        f"            {leave}",
    )
