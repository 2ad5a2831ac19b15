"""JSON Web Tokens in a real cluster: logging in, calling, logging out, on every worker of every server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from junctor.server.client import RemoteInvalidInput
from tests.helpers.cluster import ClusterUnderTest, ServerUnderTest
from tests.helpers.ports import LOOPBACK, free_port
from tests.helpers.rsa_pem import private_pem, public_pem
from tests.helpers.waiting import wait_until
from tests.helpers.websocket_client import ChannelClient, is_refusal

LOG_IN, LOG_OUT = "/zato/jwt/log-in", "/zato/jwt/log-out"
KEY = "the-shared-key-of-at-least-32-bytes"
pytestmark = pytest.mark.usefixtures("services")


@pytest.fixture
def server(cluster: ClusterUnderTest) -> ServerUnderTest:
    """The server with two workers."""
    return cluster.servers[1]


@pytest.fixture(scope="module")
def key() -> RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture
def connect() -> Iterator[Callable[[str], ChannelClient]]:
    """Makes WebSocket clients that are gone after the test."""
    made: list[ChannelClient] = []

    def connect(address: str) -> ChannelClient:
        made.append(ChannelClient(address))
        return made[-1]

    yield connect
    for client in made:
        client.end()


def secured(cluster: ClusterUnderTest, name: str, **fields: Any) -> None:
    """A channel ``/NAME`` with a JWT definition of this name and user name."""
    cluster.write("zato.security.jwt.create", name=name, **({"username": name, "password": "right"} | fields))
    cluster.channel(name, "t.echo", security=name)


def log_in(server: ServerUnderTest, username: str, password: str = "right") -> str:
    answer = server.post(LOG_IN, json={"username": username, "password": password})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["token"])


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def admitted(server: ServerUnderTest, path: str, token: str) -> bool:
    return server.get(path, headers=bearer(token)).status_code == 200


def admitted_by_any(server: ServerUnderTest, path: str, token: str) -> bool:
    """Whether any worker of a server lets a token in; each request is on a connection of its own."""
    found = [
        requests.get(server.url + path, headers=bearer(token) | {"Connection": "close"}, timeout=15)
        for _ in range(6)
    ]
    return any(answer.status_code == 200 for answer in found)


class TestLoggingIn:
    def test_who_logs_in_gets_a_token_that_every_server_takes(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        secured(cluster, "jwt-in")
        answer = server.post(LOG_IN, json={"username": "jwt-in", "password": "right"})
        token = answer.json()["token"]
        assert answer.json() == {"token": token}
        assert answer.headers["Authorization"] == token
        assert answer.headers["Cache-Control"] == "no-store"
        for one in cluster.servers:
            seen = one.get("/jwt-in", headers=bearer(token)).json()
            assert (seen["caller"], seen["caller_type"]) == ("jwt-in", "jwt")
            (line,) = one.logged("access", cid=seen["cid"])
            assert line["caller"] == "jwt-in"

    def test_everybody_else_gets_one_and_the_same_answer(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        secured(cluster, "jwt-refusing")
        secured(cluster, "jwt-empty", password="")
        secured(cluster, "jwt-off", is_active=False)
        before = server.metric("junctor_logins_refused_total", channel="zato.security.jwt.log-in")
        attempts = [
            ("jwt-refusing", "canary-wrong"),
            ("jwt-refusing", ""),
            ("nobody", "right"),
            ("", ""),
            ("jwt-empty", ""),
            ("jwt-off", "right"),
        ]
        for username, password in attempts:
            refused = server.post(LOG_IN, json={"username": username, "password": password})
            assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "JWT")
            assert refused.json() == {
                "result": "Error",
                "cid": refused.headers["X-Zato-CID"],
                "details": "You are not authorized to access this resource.",
                "error": "Unauthorized",
            }
            assert "Authorization" not in refused.headers
        wait_until(
            lambda: (
                server.metric("junctor_logins_refused_total", channel="zato.security.jwt.log-in")
                == before + len(attempts)
            ),
            5,
        )
        assert "canary-wrong" not in server.output()

    @pytest.mark.parametrize(
        "body",
        [b"", b"{}", b"[]", b'"text"', b"no JSON", b'{"username": "a"}', b'{"username": 5, "password": []}'],
    )
    def test_what_is_no_log_in_is_a_bad_request(self, server: ServerUnderTest, body: bytes) -> None:
        assert server.post(LOG_IN, data=body).status_code == 400

    def test_logging_in_takes_posts_of_a_bounded_size(self, server: ServerUnderTest) -> None:
        assert server.get(LOG_IN).status_code == 405
        assert server.get(LOG_OUT).status_code == 405
        assert server.post(LOG_IN, json={"username": "x" * 20_000, "password": ""}).status_code == 413


class TestCalling:
    def test_requests_without_a_valid_token_are_told_what_is_missing(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        secured(cluster, "jwt-calls", signing_key=KEY)
        refused = server.get("/jwt-calls")
        assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, 'Bearer realm="Junctor"')
        told = set()
        for token in (
            "no-token",
            "A" * 8100,
            jwt.encode({"sub": "jwt-calls", "exp": 1}, KEY),
            jwt.encode({"sub": "other", "exp": time.time() + 60}, KEY),
            jwt.encode({"sub": "jwt-calls", "exp": time.time() + 60}, KEY[::-1]),
        ):
            refused = server.get("/jwt-calls", headers=bearer(token))
            assert refused.status_code == 401
            told.add((refused.headers["WWW-Authenticate"], refused.json()["details"]))
            assert "jwt-calls" not in refused.text
        assert told == {
            (
                'Bearer realm="Junctor", error="invalid_token"',
                "You are not authorized to access this resource.",
            )
        }
        assert admitted(server, "/jwt-calls", jwt.encode({"sub": "jwt-calls", "exp": time.time() + 60}, KEY))

    def test_a_foreign_issuer_is_known_by_its_public_key(
        self, cluster: ClusterUnderTest, server: ServerUnderTest, key: RSAPrivateKey
    ) -> None:
        secured(
            cluster,
            "jwt-foreign",
            algorithm="RS256",
            public_keys=public_pem(key),
            issuer="https://issuer.example.com",
            audience="orders",
        )
        claims = {"sub": "jwt-foreign", "exp": time.time() + 60, "iss": "https://issuer.example.com"}
        good = jwt.encode(claims | {"aud": ["orders"]}, key, "RS256", headers={"kid": "theirs"})
        assert admitted(server, "/jwt-foreign", good)
        assert not admitted(server, "/jwt-foreign", jwt.encode(claims | {"aud": ["other"]}, key, "RS256"))
        assert not admitted(server, "/jwt-foreign", jwt.encode(claims, key, "RS256"))
        refused = server.post(LOG_IN, json={"username": "jwt-foreign", "password": "right"})
        assert refused.status_code == 401

    def test_a_new_key_beside_the_old_one_ends_no_token(
        self, cluster: ClusterUnderTest, server: ServerUnderTest, key: RSAPrivateKey
    ) -> None:
        secured(cluster, "jwt-rotated", algorithm="RS256", signing_key=private_pem(key))
        old = log_in(server, "jwt-rotated")
        new_key = rsa.generate_private_key(65537, 2048)
        cluster.write(
            "zato.security.jwt.edit",
            name="jwt-rotated",
            signing_key=private_pem(new_key),
            public_keys=public_pem(key),
        )
        new = log_in(server, "jwt-rotated")
        assert jwt.decode(new, new_key.public_key(), ["RS256"])["sub"] == "jwt-rotated"
        assert admitted(server, "/jwt-rotated", old)
        assert admitted(server, "/jwt-rotated", new)
        cluster.write("zato.security.jwt.edit", name="jwt-rotated", public_keys="")
        assert not admitted(server, "/jwt-rotated", old)
        assert admitted(server, "/jwt-rotated", new)

    def test_a_definition_that_is_switched_off_or_has_another_password_ends_its_tokens(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        secured(cluster, "jwt-ended")
        token = log_in(server, "jwt-ended")
        assert admitted(server, "/jwt-ended", token)
        cluster.write("zato.security.jwt.edit", name="jwt-ended", is_active=False)
        assert not admitted(server, "/jwt-ended", token)
        cluster.write("zato.security.jwt.edit", name="jwt-ended", is_active=True, ttl=7200)
        assert admitted(server, "/jwt-ended", token)
        cluster.write("zato.security.jwt.edit", name="jwt-ended", password="new")
        assert not admitted(server, "/jwt-ended", token)
        assert admitted(server, "/jwt-ended", log_in(server, "jwt-ended", "new"))

    def test_bad_keys_are_refused_when_they_are_given(
        self, cluster: ClusterUnderTest, key: RSAPrivateKey
    ) -> None:
        for fields, field in (
            ({"signing_key": "canary-short"}, "signing_key"),
            ({"algorithm": "RS256"}, "public_keys"),
            ({"algorithm": "RS256", "public_keys": private_pem(key)}, "public_keys"),
            ({"public_keys": public_pem(key)}, "public_keys"),
        ):
            with pytest.raises(RemoteInvalidInput, match=f"{field}: ") as refused:
                cluster.write("zato.security.jwt.create", name="jwt-bad", username="x", **fields)
            assert "canary" not in str(refused.value)

    def test_an_outgoing_connection_brings_tokens_of_its_definition(
        self, cluster: ClusterUnderTest, server: ServerUnderTest, key: RSAPrivateKey
    ) -> None:
        secured(cluster, "jwt-out", algorithm="RS256", signing_key=private_pem(key))
        cluster.write(
            "zato.outgoing-rest.create",
            name="jwt-out",
            host=cluster.servers[0].url,
            url_path="/jwt-out",
            security="jwt-out",
        )
        cluster.deploy(
            jwt_caller=(
                "from zato.server.service import Service\n\n\nclass Call(Service):\n    name = 'jwt.call'\n\n"
                "    def handle(self):\n"
                "        answer = self.out.rest['jwt-out'].conn.post(self.cid, {})\n"
                "        self.response.payload = {'status': answer.status_code, 'data': answer.data}\n"
            )
        )
        cluster.channel("jwt-call", "jwt.call")
        answer = server.post("/jwt-call").json()
        assert (answer["status"], answer["data"]["caller"]) == (200, "jwt-out")


class TestLoggingOut:
    @pytest.mark.parametrize("way", ["bearer", "bare", "body"])
    def test_a_token_that_was_logged_out_is_refused_by_every_worker(
        self, cluster: ClusterUnderTest, server: ServerUnderTest, way: str
    ) -> None:
        name = f"jwt-leaves-{way}"
        secured(cluster, name)
        token, other = log_in(server, name), log_in(server, name)
        assert all(admitted_by_any(one, f"/{name}", token) for one in cluster.servers)
        given: dict[str, Any] = {
            "bearer": {"headers": bearer(token)},
            "bare": {"headers": {"Authorization": token}},
            "body": {"json": {"token": token}},
        }[way]
        answer = server.post(LOG_OUT, **given)
        assert (answer.status_code, answer.json()) == (200, {})
        cluster.is_everywhere(lambda one: not admitted_by_any(one, f"/{name}", token), 5)
        assert all(admitted_by_any(one, f"/{name}", other) for one in cluster.servers)
        again = server.post(LOG_OUT, **given)
        assert (again.status_code, again.headers["WWW-Authenticate"]) == (401, "JWT")

    def test_what_is_no_token_cannot_be_logged_out(self, server: ServerUnderTest) -> None:
        assert server.post(LOG_OUT).status_code == 400
        assert server.post(LOG_OUT, json={}).status_code == 400
        assert server.post(LOG_OUT, json={"token": 5}).status_code == 400
        assert server.post(LOG_OUT, json={"token": "no token"}).status_code == 401
        assert server.post(LOG_OUT, headers=bearer("a.b.c")).status_code == 401

    def test_a_worker_that_starts_later_refuses_it_too(
        self, cluster: ClusterUnderTest, server: ServerUnderTest
    ) -> None:
        secured(cluster, "jwt-restarted")
        token, other = log_in(server, "jwt-restarted"), log_in(server, "jwt-restarted")
        server.post(LOG_OUT, headers=bearer(token))
        victim = server.workers()[0]
        server.disconnect()
        victim.kill()

        def is_whole() -> bool:
            pids = [worker.pid for worker in server.workers()]
            return len(pids) == server.worker_count and victim.pid not in pids and server.is_ready()

        wait_until(is_whole, 30)
        assert not admitted_by_any(server, "/jwt-restarted", token)
        assert admitted_by_any(server, "/jwt-restarted", other)


class TestWebSockets:
    def test_a_token_opens_a_session_and_logging_it_out_ends_it(
        self, cluster: ClusterUnderTest, server: ServerUnderTest, connect: Callable[[str], ChannelClient]
    ) -> None:
        secured(cluster, "jwt-ws")
        address = f"ws://{LOOPBACK}:{free_port()}/jwt-ws"
        cluster.write(
            "zato.channel.web-socket.create",
            name="jwt-ws",
            address=address,
            service="t.raw",
            security="jwt-ws",
        )
        token, other = log_in(server, "jwt-ws"), log_in(server, "jwt-ws")
        leaving, staying = connect(address), connect(address)
        assert leaving.log_in("whoever", token)["meta"]["msg_type"] == "zwsx.rspa"
        assert staying.log_in("", other)["meta"]["msg_type"] == "zwsx.rspa"
        assert leaving.ask("a")["meta"]["status"] == 200
        server.post(LOG_OUT, headers=bearer(token))
        assert is_refusal(leaving.receive())
        assert leaving.closed() == 1008
        assert staying.ask("b")["meta"]["status"] == 200
        refused = connect(address)
        assert is_refusal(refused.log_in("jwt-ws", token))
        cluster.write("zato.security.jwt.edit", name="jwt-ws", ttl=60)
        assert staying.ask("c")["meta"]["status"] == 200
        cluster.write("zato.security.jwt.edit", name="jwt-ws", is_active=False)
        assert is_refusal(staying.receive())
