"""A service's declared input and output: what a request must have and what a response will have.

``service/declaration.py`` compiles it once, when the service is deployed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from junctor.server.service.bunch import Input
from junctor.server.service.channel import PARAMS_PRIORITY
from junctor.server.service.filling import Filler, filler
from junctor.server.service.filling import Step as _Step
from junctor.server.service.payload import OutputPayload, content
from junctor.server.service.types import NO_DEFAULT, Elem
from junctor.sql.errors import InvalidInput, InvalidOutput, Problem

MAX_PROBLEMS = 100
_SKIP = object()

# what it is when it is missing, is it required, is it left out when empty
_Rule = tuple[Any, bool, bool]


@dataclass(frozen=True, slots=True)
class IOOptions:
    """What a declaration says beside its elements; the names are those of the declaration (facts sheet, section 3.7)."""

    response_elem: str | None = None
    default_input_value: Any = ""
    default_output_value: Any = ""
    skip_empty_input: frozenset[str] = frozenset()
    skip_empty_output: frozenset[str] = frozenset()
    allow_empty_required: bool = False
    use_channel_params_only: bool = False
    output_repeated: bool = False


@dataclass(frozen=True, slots=True)
class ServiceIO:
    """The compiled declaration of ``owner`` (a service's implementation name); ``input`` and ``output`` in its order."""

    owner: str
    input: tuple[Elem, ...] = ()
    output: tuple[Elem, ...] = ()
    options: IOOptions = field(default_factory=IOOptions)
    output_names: frozenset[str] = field(init=False)
    _parse_steps: tuple[_Step, ...] = field(init=False, repr=False, compare=False)
    _render_steps: tuple[_Step, ...] = field(init=False, repr=False, compare=False)
    _fill: Filler = field(init=False, repr=False, compare=False)
    _parse_rules: dict[str, _Rule] = field(init=False, repr=False, compare=False)
    _render_rules: dict[str, _Rule] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        o, put = self.options, object.__setattr__
        put(self, "output_names", frozenset(elem.name for elem in self.output))
        parse_rules = _rules(self.input, o.default_input_value, o.skip_empty_input)
        render_rules = _rules(self.output, o.default_output_value, o.skip_empty_output)
        put(self, "_parse_rules", parse_rules)
        put(self, "_render_rules", render_rules)
        refuses = not o.allow_empty_required
        parses = ((e, "parse", parse_rules[e.name][2] or (e.required and refuses)) for e in self.input)
        renders = ((e, "render", render_rules[e.name][2]) for e in self.output)
        put(self, "_parse_steps", tuple((e.name, _conversion(e, verb), it) for e, verb, it in parses))
        put(self, "_fill", filler(self._parse_steps))
        put(self, "_render_steps", tuple((e.name, _conversion(e, verb), it) for e, verb, it in renders))

    def parse(
        self,
        payload: Any,
        channel_params: Mapping[str, Any] | None = None,
        params_priority: str = PARAMS_PRIORITY.DEFAULT,
    ) -> Input | list[Input]:
        """The input that ``payload`` and the parameters of the URL make: one, or a list if ``payload`` is a list.

        A missing optional element is its default, else the declaration's, else ''.  None stays None.  A required element
        must be there and, unless ``allow_empty_required``, be neither None nor ''.
        Raises ``InvalidInput`` with all problems, the first 100 of them if there are more.
        """
        if self.options.use_channel_params_only:
            payload, channel_params = channel_params or {}, None
        problems: list[Problem] = []
        result: Input | list[Input]
        if isinstance(payload, list):
            result = self._parse_list(payload, channel_params, params_priority, problems)
        else:
            if payload is None or payload in ("", b""):
                payload = {}
            elif type(payload) is not dict and not isinstance(payload, Mapping):
                raise InvalidInput.one("", "The input must be an object or a list of objects")
            result = self._parse_one(_merge(payload, channel_params, params_priority), problems, "")
        if problems:
            raise InvalidInput(problems[:MAX_PROBLEMS])
        return result

    def _parse_list(
        self, items: list[Any], params: Mapping[str, Any] | None, priority: str, problems: list[Problem]
    ) -> list[Input]:
        result = []
        for index, item in enumerate(items):
            if len(problems) >= MAX_PROBLEMS:
                break
            if isinstance(item, Mapping):
                result.append(self._parse_one(_merge(item, params, priority), problems, f"[{index}]."))
            else:
                problems.append(Problem(f"[{index}]", "The item must be an object"))
        return result

    def _parse_one(self, source: Mapping[str, Any], problems: list[Problem], prefix: str) -> Input:
        result = Input()
        left = self._fill(source.get, result)
        if not left:
            return result
        for step in left:
            self._parse_step(step, source, result, problems, prefix)
        return Input((name, result[name]) for name, _, _ in self._parse_steps if name in result)

    def _parse_step(
        self, step: _Step, source: Mapping[str, Any], result: Input, problems: list[Problem], prefix: str
    ) -> None:
        """What becomes of an element that ``_fill`` has left, whatever its value is."""
        name, parse, is_ruled = step
        value = source.get(name)
        if value is None or (is_ruled and value == ""):
            self._parse_empty(name, source, result, problems, prefix)
        elif parse is None:
            result[name] = value
        else:
            try:
                result[name] = parse(value)
            except InvalidInput as error:
                problems += [Problem(prefix + problem.field, problem.message) for problem in error.problems]

    def _parse_empty(
        self, name: str, source: Mapping[str, Any], result: Input, problems: list[Problem], prefix: str
    ) -> None:
        """What becomes of an element that is missing, None or ''."""
        missing, required, skip = self._parse_rules[name]
        if name not in source:
            if required:
                problems.append(Problem(prefix + name, "Missing required element"))
            elif missing is not _SKIP:
                result[name] = _fresh(missing)
        elif required and not self.options.allow_empty_required:
            problems.append(Problem(prefix + name, "Required element is empty"))
        elif not skip:
            result[name] = source[name]

    def render(self, payload: OutputPayload) -> Any:
        """The response as JSON types: a dictionary, a list of such, either under ``response_elem`` if there is one.

        A missing optional element is its default, else the declaration's, else ''; one that is to be skipped when empty
        is left out.  Raises ``InvalidOutput`` with all problems if a required element was not set or a value does not
        convert; None and '' are values.
        """
        values = content(payload)
        problems: list[Problem] = []
        result: Any
        if isinstance(values, list):
            result = [self._render_one(row, problems) for row in values]
        elif self.options.output_repeated:
            result = [self._render_one(values, problems)] if values else []
        else:
            result = self._render_one(values, problems)
        if problems:
            raise InvalidOutput(self.owner, problems[:MAX_PROBLEMS])
        response_elem = self.options.response_elem
        return {response_elem: result} if response_elem else result

    def _render_one(self, values: dict[str, Any], problems: list[Problem]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        get = values.get
        for name, render, is_ruled in self._render_steps:
            value = get(name)
            if value is None or (is_ruled and value == ""):
                missing, required, skip = self._render_rules[name]
                if name in values:
                    if not skip:
                        result[name] = value
                elif required:
                    problems.append(Problem(name, "Required element of the output was not set"))
                elif missing is not _SKIP:
                    result[name] = missing
            elif render is None:
                result[name] = value
            else:
                try:
                    result[name] = render(value)
                except InvalidInput as error:
                    problems += error.problems
        return result


def _merge(message: Mapping[str, Any], params: Mapping[str, Any] | None, priority: str) -> Mapping[str, Any]:
    if not params:
        return message
    if not message:
        return params
    if priority == PARAMS_PRIORITY.MSG_OVER_CHANNEL_PARAMS:
        return {**params, **message}
    return {**message, **params}


def _rules(elements: tuple[Elem, ...], default: Any, skip: frozenset[str]) -> dict[str, _Rule]:
    rules: dict[str, _Rule] = {}
    for elem in elements:
        missing = default if elem.default is NO_DEFAULT else elem.default
        if elem.default is NO_DEFAULT and elem.name in skip:
            missing = _SKIP
        rules[elem.name] = (missing, elem.required, elem.name in skip and not elem.required)
    return rules


def _conversion(elem: Elem, verb: str) -> Callable[[Any], Any] | None:
    """The method of an element that converts values, None when it passes them on as they are."""
    method = getattr(elem, verb)
    return None if getattr(type(elem), verb) in (Elem.parse, Elem.render) else method


def _fresh(value: Any) -> Any:
    """A default that a service may change without changing it for the next call."""
    return copy.deepcopy(value) if isinstance(value, list | dict | set) else value
