"""The names of services, derived from their modules and classes (facts sheet, section 3.2)."""

from __future__ import annotations

import re
import unicodedata

MAX_NAME = 200
_INTERNAL = "server.service.internal."
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

OWN_PREFIXES = ("zato.", "junctor.", "pub.zato.")  # of the names of the server's own services


def implementation_name(module: str, class_name: str) -> str:
    """``module.Class``; the version that a hot-deployed module carries in its name (``orders@3f2a``) is left out."""
    return f"{module.partition('@')[0]}.{class_name}"


def service_name(module: str, class_name: str) -> str:
    """The name of a service that does not set one: ``my_module``, ``MyService`` -> ``my-module.my-service``.

    Acronyms stay together: ``ILikeWSDLDocs`` -> ``i-like-wsdl-docs``.
    """
    plain_module = module.partition("@")[0].replace(_INTERNAL, "")
    words = _WORD_START.sub("-", class_name).lower()
    return f"{plain_module}.{words}".replace("_", "-")


def problem_with_name(name: object) -> str:
    """Why ``name`` cannot be the name of a service; '' if it can: 1 to 200 printable characters without blanks."""
    if not isinstance(name, str) or not name:
        return f"the name of a service is a non-empty string, not {name!r}"
    if len(name) > MAX_NAME:
        return f"the name of a service has at most {MAX_NAME} characters, this one has {len(name)}"
    if any(char.isspace() or unicodedata.category(char).startswith("C") for char in name):
        return f"the name of a service has no blanks or control characters: {name!r}"
    return ""
