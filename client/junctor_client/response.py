"""What a call returns, and how the body of a response is understood."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import requests

from junctor_client.errors import HTTPError, InvalidResponse, for_status

CID_HEADER = "X-Zato-CID"
_FIRST_ERROR = 300  # redirects included: a server of ours sends none, so one means that the address is wrong
_MAX_DETAILS = 1000


@dataclass(frozen=True, slots=True)
class Response:
    """The response to a call that succeeded.

    ``data`` is the body: parsed if it is JSON, text otherwise, None if there is none.  ``headers`` are looked up
    without regard to case.  ``cid`` is the correlation id under which the server logged the call.
    """

    status: int
    cid: str
    data: Any = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


def read(response: requests.Response) -> Response:
    """What the call returns.  Raises ``HTTPError`` for statuses of 300 and above, and ``InvalidResponse``."""
    if response.status_code >= _FIRST_ERROR:
        raise _error(response)
    cid = response.headers.get(CID_HEADER, "")
    return Response(response.status_code, cid, _data(response, cid), response.headers)


def _data(response: requests.Response, cid: str) -> Any:
    if not response.content:
        return None
    if not _is_json(response):
        return response.text
    try:
        return json.loads(response.content)
    except ValueError:
        status = response.status_code
        raise InvalidResponse("The response is not the JSON it says it is", status=status, cid=cid) from None


def _is_json(response: requests.Response) -> bool:
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")


def _error(response: requests.Response) -> HTTPError:
    """The error for a response, with what its body says.

    Servers answer with ``{"result", "cid", "details"}`` or, if so configured, with the same (and other words for
    the result) in ``zato_env``; load balancers and proxies with anything else.
    """
    try:
        body = json.loads(response.content)
    except ValueError:
        body = None
    answer = body.get("zato_env", body) if isinstance(body, dict) else None
    answer = answer if isinstance(answer, dict) and "result" in answer else {}
    cid = response.headers.get(CID_HEADER) or str(answer.get("cid") or "")
    details = answer.get("details", "") if answer else response.text[:_MAX_DETAILS]
    status = response.status_code
    return for_status(status)(
        f"{status} {response.reason or ''}".rstrip(), status=status, cid=cid, details=details
    )
