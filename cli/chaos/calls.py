"""Calls to the cluster, and what became of them: done, refused for good, or unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson
import requests

CONNECT_TIMEOUT, TIMEOUT = 2.0, 6.0  # seconds
DUPLICATE: Final = "Duplicate msg_id"
PASSING: Final = frozenset({408, 425, 429, 502, 503, 504})  # HTTP statuses that ask for another attempt
SHOWN = 200  # characters of an error


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call came to: ``is_done``, or else ``is_refused`` for good, or else nobody knows.

    ``answer`` is the body, parsed when it is JSON; ``text`` says what went wrong.
    """

    is_done: bool
    is_refused: bool = False
    answer: Any = None
    text: str = ""

    @property
    def is_duplicate(self) -> bool:
        """Whether it was refused because it was done before."""
        return self.is_refused and DUPLICATE in self.text


class Caller:
    """Calls of one user to one address, one after the other, on a connection that is kept while it lasts."""

    def __init__(self, address: str, user: tuple[str, str]) -> None:
        self._address = address
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.auth = user

    def post(self, path: str, body: Any, *, timeout: float = TIMEOUT) -> Outcome:
        """What became of a POST with a JSON body; ``timeout`` is for each wait, in seconds.  Never raises for what the cluster does."""
        try:
            response = self._session.post(
                f"{self._address}{path}",
                data=orjson.dumps(body),
                headers={"Content-Type": "application/json"},
                timeout=(CONNECT_TIMEOUT, timeout),
            )
            content = response.content
        except requests.RequestException as error:
            return Outcome(is_done=False, text=type(error).__name__)
        answer = _parsed(content)
        if response.ok:
            return Outcome(is_done=True, answer=answer)
        text = f"{response.status_code} {_details(answer)}"[:SHOWN]
        return Outcome(
            is_done=False, is_refused=response.status_code not in PASSING, answer=answer, text=text
        )

    def close(self) -> None:
        """Closes the connection."""
        self._session.close()


def _parsed(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return content.decode("utf-8", "replace")


def _details(answer: Any) -> str:
    """The message of an error, whichever of the cluster's error formats it has."""
    if isinstance(answer, dict):
        nested = answer.get("zato_env")
        fields = nested if isinstance(nested, dict) else answer
        return str(fields.get("details") or fields.get("result") or answer)
    return str(answer)
