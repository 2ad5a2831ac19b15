"""The REST API as an OpenAPI document, made from the table of endpoints."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import orjson

from junctor.server.service.base import Service
from junctor.server.sso.endpoints import BASE, GROUPS, Endpoint, Field, Output, Type
from junctor.server.sso.http import OFF, PREFIX
from junctor.sql.errors import ResourceNotFound

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn

OPENAPI_PATH: Final = f"{BASE}/openapi.json"
TOKENS: Final = ("ust", "current_ust")
"""Fields that the header Authorization can take the place of."""

TIME: Final = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?$"
DESCRIPTION: Final = """Single Sign-On and user management.

Fields may be in the JSON body, in the query string, or some here and some there, whatever the method; tokens, passwords and codes are not
taken from a query string, unless an administrator switches that on. The token of the caller's session may also be in the header
`Authorization: Bearer`. Times are in UTC and without an offset. Fields without a value are left out of answers."""
STATUSES: Final = {
    "200": "Done, if status is 'ok' or 'warning'. With 'error', the application is unknown.",
    "400": "The request cannot be read, or lacks a required field.",
    "403": "Refused; sub_status says why, as far as the caller may know. Retry-After says for how long to wait, if that is why.",
    "404": "Single Sign-On is switched off in this cluster.",
    "413": "The body is too large.",
    "414": "The URL is too long.",
    "431": "The headers are too long.",
    "503": "The server cannot answer at the moment.",
    "504": "The answer took too long.",
}


class OpenApi(Service):
    """The OpenAPI document of Single Sign-On."""

    name = f"{PREFIX}openapi"

    def handle(self) -> None:
        """No input."""
        sso: SingleSignOn = self.server.sso
        if not sso.is_active:
            raise ResourceNotFound(self.cid, OFF)
        self.response.payload = rendered()


@cache
def rendered() -> bytes:
    """The document as JSON."""
    return orjson.dumps(document())


def document() -> dict[str, Any]:
    """The document; paths that are aliases are named in the descriptions alone."""
    paths: dict[str, dict[str, Any]] = {}
    for tag, endpoints in GROUPS.items():
        for endpoint in endpoints:
            paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, tag)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Single Sign-On", "version": version("junctor"), "description": DESCRIPTION},
        "tags": [{"name": tag} for tag in GROUPS],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "session": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The token of the caller's session, which may also be a field.",
                }
            },
            "schemas": {"Refusal": _refusal(), "Unreadable": _unreadable()},
        },
    }


def _operation(endpoint: Endpoint, tag: str) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": operation_id(endpoint),
        "tags": [tag],
        "summary": endpoint.summary,
        "description": description(endpoint),
        "responses": _responses(endpoint),
    }
    if any(field.name in TOKENS for field in endpoint.fields):
        operation["security"] = [{"session": []}, {}]
    in_query = [field for field in endpoint.fields if endpoint.method == "GET" and not field.is_secret]
    in_body = [field for field in endpoint.fields if field not in in_query]
    if endpoint.method == "GET":  # for which generated clients seldom send a body
        in_body = [field for field in in_body if field.name not in TOKENS]
    if in_query:
        operation["parameters"] = [
            {
                "name": field.name,
                "in": "query",
                "required": field.is_required,
                "description": field.help,
                "schema": _input(field),
            }
            for field in in_query
        ]
    if in_body:
        operation["requestBody"] = {"required": True, "content": _json(_inputs(in_body))}
    return operation


def operation_id(endpoint: Endpoint) -> str:
    """What generated clients call it, e.g. post_user_login."""
    rest = endpoint.path.removeprefix(f"{BASE}/").replace("/", "_").replace("-", "_")
    return f"{endpoint.method.lower()}_{rest}"


def description(endpoint: Endpoint) -> str:
    """What there is to say about an endpoint beside its fields."""
    sentences = [endpoint.description] if endpoint.description else []
    sentences.append(f"For {endpoint.who}.")
    if endpoint.aliases:
        sentences.append(f"Also {', '.join(f'{method} {path}' for method, path in endpoint.aliases)}.")
    return " ".join(sentences)


def _inputs(fields: list[Field]) -> dict[str, Any]:
    required = [field.name for field in fields if field.is_required and field.name not in TOKENS]
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {field.name: {**_input(field), "description": field.help} for field in fields},
    }
    return {**schema, "required": required} if required else schema


def _input(field: Field) -> dict[str, Any]:
    schema = _input_type(field)
    if field.is_nullable and "type" in schema:
        schema["type"] = [schema["type"], "null"]
    return schema


def _input_type(field: Field) -> dict[str, Any]:
    text = {"type": "string"}
    if field.choices:
        return {**text, "enum": list(field.choices)}
    match field.type:
        case Type.TEXT:
            return {**text, "maxLength": field.max}
        case Type.TIME:
            return {**text, "pattern": TIME}
        case Type.INTEGER:
            return {"type": "integer", "minimum": field.min, "maximum": field.max}
        case Type.TEXTS:
            return {"type": "array", "items": text, "maxItems": field.max}
        case Type.OBJECTS:
            return {"type": "array", "items": {"type": "object"}, "maxItems": field.max}
        case Type.NAMES_OR_OBJECTS:
            return {"type": "array", "items": {"type": ["string", "object"]}, "maxItems": field.max}
        case _:
            return _plain_type(field.type)


def _output_type(output: Output) -> dict[str, Any]:
    match output.type:
        case Type.TIME:
            return {"type": "string", "pattern": TIME}
        case Type.TEXTS:
            return {"type": "array", "items": {"type": "string"}}
        case Type.OBJECTS:
            return {"type": "array", "items": {"type": "object"}}
        case Type.ANY_RESULT:
            return {"type": ["array", "object", "boolean"]}
        case _:
            return _plain_type(output.type)


def _plain_type(type_: Type) -> dict[str, Any]:
    names = {
        Type.TEXT: "string",
        Type.BOOLEAN: "boolean",
        Type.INTEGER: "integer",
        Type.OBJECT: "object",
    }
    return {"type": names[type_]} if type_ in names else {}


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    def answer(status: str, schema: dict[str, Any]) -> dict[str, Any]:
        return {"description": STATUSES[status], "content": _json(schema)}

    outputs = {
        output.name: {**_output_type(output), "description": output.help} for output in endpoint.outputs
    }
    done = {
        "type": "object",
        "properties": {**_envelope(endpoint), **outputs},
        "required": ["status", "cid"],
        "additionalProperties": False,
    }
    unreadable = {"$ref": "#/components/schemas/Unreadable"}
    return {
        "200": answer("200", done),
        "403": answer("403", {"$ref": "#/components/schemas/Refusal"}),
        **{status: answer(status, unreadable) for status in STATUSES if status not in ("200", "403")},
    }


def _envelope(endpoint: Endpoint) -> dict[str, Any]:
    codes = ", ".join(sorted(set(endpoint.codes)))
    return {
        "status": {"enum": ["ok", "warning", "error"], "description": "Whether it was done."},
        "cid": {"type": "string", "description": "Id of the call, for logs and the audit trail."},
        "sub_status": {
            "type": "array",
            "items": {"type": "string"},
            "description": f"What was wrong, unless status is 'ok': E004001, E005001{', ' if codes else ''}{codes}.",
        },
    }


def _refusal() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "status": {"enum": ["error", "warning"]},
            "cid": {"type": "string"},
            "sub_status": {
                "type": "array",
                "items": {"type": "string", "pattern": r"^[EW]\d{6}$"},
                "minItems": 1,
            },
        },
        "required": ["status", "cid", "sub_status"],
        "additionalProperties": False,
    }


def _unreadable() -> dict[str, Any]:
    problem = {"field": {"type": "string"}, "message": {"type": "string"}}
    return {
        "type": "object",
        "properties": {
            "result": {"const": "Error"},
            "cid": {"type": "string"},
            "details": {"type": "string"},
            "problems": {"type": "array", "items": {"type": "object", "properties": problem}},
            "error": {"type": "string"},
        },
        "required": ["result", "cid", "details"],
    }


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
