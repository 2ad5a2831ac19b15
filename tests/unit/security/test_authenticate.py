"""Authentication: a request against the definition of its channel."""

from __future__ import annotations

from typing import Any, cast

import pytest

from junctor.server.runtime.live import Live
from junctor.server.runtime.registry import Registry
from junctor.server.security.authenticate import authenticate
from junctor.server.service.channel import NO_SECURITY
from junctor.sql.errors import Unauthorized

from .conftest import Make


class Definitions:
    """The part of a registry that authentication asks."""

    def __init__(self, live: object) -> None:
        self.found = live
        self.asked: list[tuple[str, int]] = []

    def live(self, space: str, object_id: int) -> Live | None:
        self.asked.append((space, object_id))
        return cast(Live, self.found)


def caller(live: object, security_id: int | None, environ: dict[str, Any]) -> Any:
    """Who the caller is."""
    return authenticate(cast(Registry, Definitions(live)), security_id, environ)


def test_a_channel_without_a_definition_is_for_everybody() -> None:
    nobody = Definitions(None)
    assert authenticate(cast(Registry, nobody), None, {}) is NO_SECURITY
    assert nobody.asked == []


def test_a_caller_with_the_credentials_is_known(make: Make) -> None:
    definition = make("security_api_key", key="right")
    registry = Definitions(definition)
    assert authenticate(cast(Registry, registry), 7, {"HTTP_X_API_KEY": "right"}) is definition.info
    assert registry.asked == [("security", 7)]


def test_a_caller_without_them_is_refused_with_the_challenge(make: Make) -> None:
    with pytest.raises(Unauthorized) as refused:
        caller(make("security_basic_auth", username="a", password="b"), 7, {})
    assert refused.value.challenge == 'Basic realm="Junctor", charset="UTF-8"'
    assert str(refused.value) == "You are not authorized to access this resource."


@pytest.mark.parametrize("live", [None, object()])
def test_a_definition_that_is_missing_or_broken_lets_nobody_in(live: object) -> None:
    with pytest.raises(Unauthorized):
        caller(live, 7, {"HTTP_X_API_KEY": "right"})
