"""Requests of every kind to a running server, made from the OpenAPI document: none ends in an error of the server's.

Half of them fit the document and half do not.  ``EXAMPLES=200 python -m pytest tests/integration/sso/test_sso_fuzz.py`` looks further.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Final

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from junctor.server.sso.endpoints import ENDPOINTS, Endpoint
from junctor.server.sso.openapi import document
from tests.helpers.cluster import ClusterUnderTest
from tests.helpers.sso import APP, PASSWORD, SsoUnderTest

EXAMPLES: Final = int(os.environ.get("EXAMPLES", "4"))
CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
UNLIMITED: Final = {
    "throttle_free_failures": 50,
    "throttle_address_limit": 1_000_000,
    "throttle_app_limit": 10_000_000,
    "throttle_signup_limit": 1_000_000,
}


class Callers:
    """A super-user and a user, each with a session, whatever a request has done to those before."""

    def __init__(self, cluster: ClusterUnderTest) -> None:
        self.url = cluster.servers[0].url
        self._sso = SsoUnderTest(cluster.store())
        self._sso.application(APP, signup_allowed=True)
        changes = {
            "hash_secret_rounds": 1000,
            "webauthn_rp_id": "localhost",
            "webauthn_origins": ["http://localhost"],
        }
        cluster.write("zato.sso.edit", name="sso", **UNLIMITED, **changes)
        self.session = requests.Session()
        self.session.trust_env = False

    def of(self, role: str) -> tuple[str, str]:
        """The token and the user id of one of them."""
        if not self._sso.store_has(role):
            self._sso.user(role, is_super_user=role == "root", email=f"{role}@example.com")
        ust = self._sso.log_in(role)
        return ust, self._sso.session(ust).user.user_id

    def close(self) -> None:
        """Ends the connections."""
        self.session.close()
        self._sso.stop()
        self._sso.store.engine.dispose()


@pytest.fixture(scope="module")
def callers(cluster: ClusterUnderTest) -> Iterator[Callers]:
    """Those who call the cluster."""
    made = Callers(cluster)
    yield made
    made.close()


SCHEMA: Final = schemathesis.openapi.from_dict(document())


def known(case: Case, values: dict[str, Any], which: frozenset[str]) -> None:
    """Gives some fields of a request values that mean something, which chance alone never has."""
    for part in (case.body, case.query):
        if isinstance(part, dict):
            part.update({name: value for name, value in values.items() if name in which and name in part})


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda item: f"{item.method} {item.path}")
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_no_request_ends_in_an_error_of_the_servers(
    callers: Callers, endpoint: Endpoint, mode: GenerationMode
) -> None:
    operation = SCHEMA[endpoint.path][endpoint.method]
    names = st.frozensets(st.sampled_from(["user_id", "username", "password", "old_password", "target_ust"]))
    tokens = {role: callers.of(role) for role in ("root", "alice")}

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        case=operation.as_strategy(generation_mode=mode),
        role=st.sampled_from(["root", "alice", ""]),
        which=names,
        is_known_app=st.sampled_from([True, True, True, False]),
    )
    def ask(case: Case, role: str, which: frozenset[str], is_known_app: bool) -> None:
        ust, user_id = tokens.get(role) or ("", "")
        other_ust, other_id = tokens["alice"]
        values = {
            "user_id": other_id or user_id,
            "username": "alice",
            "password": PASSWORD,
            "old_password": PASSWORD,
            "target_ust": other_ust,
            "current_app": APP,
        }
        known(case, values, which | ({"current_app"} if is_known_app else set()))
        headers = {"Authorization": f"Bearer {ust}"} if ust else {}
        answer = case.call(base_url=callers.url, session=callers.session, headers=headers)
        case.validate_response(answer, checks=CHECKS)

    ask()
