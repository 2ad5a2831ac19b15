"""E-mails from services, through configured SMTP connections, to a real mail server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.cluster import ClusterUnderTest
from tests.helpers.mail_server import STARTTLS, MailServer

SENDER = """
from zato.common import SMTPMessage
from zato.server.service import Service


class Send(Service):
    name = "m.send"

    def handle(self):
        message = SMTPMessage()
        message.from_ = "shop@example.com"
        message.to = "anna@example.com"
        message.subject = "Grüße"
        message.body = "Hello\\n"
        message.attach("a.txt", "contents")
        self.response.payload = {"id": self.email.smtp.get(self.request.payload["connection"]).conn.send(message)}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[MailServer]:
    with MailServer(STARTTLS, has_auth=True) as made:
        yield made


@pytest.fixture
def mailing(cluster: ClusterUnderTest) -> ClusterUnderTest:
    """The cluster with the service that sends, on channel /m-send."""
    if cluster.invoke("zato.service.get-list", {"query": "m.send"})["total"] == 0:
        cluster.deploy(mail_sender=SENDER)
        cluster.channel("m-send", "m.send")
    return cluster


def test_a_service_sends_a_message_over_an_encrypted_connection(
    mailing: ClusterUnderTest, server: MailServer
) -> None:
    mailing.write("zato.email.smtp.create", name="m-mail", **server.fields)
    answer = mailing.servers[1].post("/m-send", json={"connection": "m-mail"})
    assert answer.status_code == 200, mailing.servers[1].output()
    received = server.wait("anna@example.com")
    assert (received.subject, received.text.strip()) == ("Grüße", "Hello")
    assert received.message["message-id"] == answer.json()["id"]


def test_an_error_is_the_services_and_a_ping_says_what_is_wrong(
    mailing: ClusterUnderTest, server: MailServer
) -> None:
    fields = server.fields | {"password": "wrong-canary"}
    created = mailing.write(
        "zato.email.smtp.create", name="m-wrong", ping_address="ops@example.com", **fields
    )
    answer = mailing.servers[0].post("/m-send", json={"connection": "m-wrong"})
    assert answer.status_code == 500
    mailing.servers[0].logged(level="ERROR", cid=answer.json()["cid"])
    assert "wrong-canary" not in mailing.servers[0].output()
    ping = mailing.invoke("zato.email.smtp.ping", {"name": "m-wrong"})
    assert ping["is_ok"] is False
    assert "refused to log in: 535" in ping["info"]
    mailing.write("zato.email.smtp.edit", name="m-wrong", password=server.fields["password"])
    ping = mailing.invoke("zato.email.smtp.ping", {"id": created["id"]}, server=1)
    assert ping["is_ok"] is True
    assert server.wait("ops@example.com").subject == "Ping of m-wrong"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"mode": "plain", "username": "u", "password": "p"}, "mode: must be starttls or ssl"),
        ({"password": "p"}, "username: is required with a password"),
        ({"host": "user@mail.example.com"}, "host: must be a host name"),
        ({"ca_certs": "none"}, "ca_certs: must be certificates"),
        ({"ping_address": "nobody"}, "ping_address: must be an e-mail address"),
    ],
)
def test_a_connection_that_cannot_work_safely_is_refused(
    mailing: ClusterUnderTest, fields: dict[str, str], problem: str
) -> None:
    with pytest.raises(Exception, match=problem):
        mailing.invoke("zato.email.smtp.create", {"name": "m-no", "host": "mail.example.com", **fields})
