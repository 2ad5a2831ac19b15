"""Writes ``docs/sso_api.md`` anew: every endpoint of Single Sign-On, from the table that requests are parsed by.

python docs/render_sso.py           writes it
python docs/render_sso.py --check   exits with 1 when it is not what it would write
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from junctor.server.sso.codes import status_code
from junctor.server.sso.endpoints import GROUPS, Endpoint, Field, Type

PAGE = Path(__file__).with_name("sso_api.md")
HEAD = """# The REST API of Single Sign-On

Written by `python docs/render_sso.py` from the table in `server/sso/endpoints/`; do not edit it. The same as an OpenAPI document is at
`GET /zato/sso/openapi.json` of a running cluster.

## In common

**Requests.** Fields are in the JSON body, in the query string, or some here and some there, whatever the method, GET and DELETE included. A
field that is in both must be the same. Tokens, passwords and codes are not taken from a query string, which ends up in logs (400), unless
`allow_token_in_query` of the settings is on. The token of the caller's session may also be in the header `Authorization: Bearer`; `ust` and
`current_ust` are two names of it, and either is taken everywhere. Fields that an endpoint does not know are ignored. `null` is as if the
field were not there, but for those that it empties. In a query string, a list is the name several times over, or JSON.

**Answers** are JSON objects with `status` ('ok', 'warning' or 'error'), `cid`, the id of the call for logs and the audit trail, and
`sub_status`, a list of codes, unless the status is 'ok'. With 'warning' it was done all the same. Fields without a value are left out.
Times are ISO 8601 in UTC, without an offset.

| HTTP status | when |
|---|---|
| 200 | done; or, with status 'error', `current_app` is no application of the cluster (E004001, or E005001 if the settings say so) |
| 400 | the request cannot be read, or lacks a required field: `{"result": "Error", "cid", "details", "problems"}` |
| 403 | refused, with the codes that the caller may know; E005001 if that is none. The header `Retry-After` tells how many seconds to wait |
| 404 | Single Sign-On is switched off |
| 503, 504 | the server cannot answer at the moment |

## Codes
"""


def page() -> str:
    """The whole page."""
    lines = [HEAD, "| code | name |\n|---|---|", *_codes(), ""]
    for name, endpoints in GROUPS.items():
        lines.append(f"## {name}\n")
        for endpoint in endpoints:
            lines += _endpoint(endpoint)
    return "\n".join(lines)


def _codes() -> Iterator[str]:
    """A line for each code, in their order."""
    found = {
        code: f"{group}.{name}"
        for group, cls in vars(status_code).items()
        if isinstance(cls, type)
        for name, code in vars(cls).items()
        if isinstance(code, str) and code[:1] in "EW" and code[1:].isdecimal()
    }
    for code in sorted(found, key=lambda code: code[1:]):
        yield f"| {code} | `{found[code]}` |"


def _endpoint(endpoint: Endpoint) -> Iterator[str]:
    yield f"### {endpoint.method} {endpoint.path}\n"
    sentences = [f"{endpoint.summary}.", f"For {endpoint.who}."]
    if endpoint.description:
        sentences.insert(1, endpoint.description)
    if endpoint.aliases:
        sentences.append(f"Also {', '.join(f'`{method} {path}`' for method, path in endpoint.aliases)}.")
    sentences.append("Junctor's own." if endpoint.since == "Junctor" else f"Since Zato {endpoint.since}.")
    yield " ".join(sentences)
    yield "\n| field | type | what |\n|---|---|---|"
    for field in endpoint.fields:
        yield f"| `{field.name}` | {_type(field)} | {_what(field)} |"
    if endpoint.outputs:
        yield "\n| answer | type | what |\n|---|---|---|"
        for output in endpoint.outputs:
            yield f"| `{output.name}` | {output.type} | {output.help} |"
    codes = ", ".join(sorted(set(endpoint.codes)))
    yield f"\nCodes: {codes or 'none of its own'}.\n"


def _type(field: Field) -> str:
    if field.choices:
        return ", ".join(f"`{choice}`" for choice in field.choices)
    if field.type is Type.TEXT:
        return f"text, up to {field.max}"
    if field.type is Type.INTEGER:
        return f"number, {field.min} to {field.max}"
    return str(field.type)


def _what(field: Field) -> str:
    sentences = ["**Required.** " if field.is_required else "", field.help]
    if field.is_nullable:
        sentences.append(" `null` = no value.")
    if field.aliases:
        sentences.append(f" Also `{'`, `'.join(field.aliases)}`.")
    return "".join(sentences)


def main(arguments: list[str]) -> int:
    """The exit code."""
    if arguments == ["--check"]:
        return int(not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
