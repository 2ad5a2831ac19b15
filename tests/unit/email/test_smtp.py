"""Sending to real mail servers, good and bad ones."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from junctor.server.email import smtp
from junctor.server.email.connections import Email
from junctor.server.email.message import SMTPMessage
from junctor.server.email.session import MAX_REPLY_LINES, without_addresses
from junctor.server.email.smtp import SmtpConfig, SmtpConnection
from junctor.sql.errors import (
    ConnectionFailed,
    ConnectionInactive,
    ConnectionNotFound,
    ConnectionTimeout,
    InvalidInput,
    MailRefused,
)
from junctor.sql.secrets import Secret
from tests.helpers.certificate import certificate
from tests.helpers.mail_server import PASSWORD, PLAIN, SSL, STARTTLS, USERNAME, MailServer
from tests.helpers.ports import LOOPBACK, free_port

MESSAGE = SMTPMessage("a@example.com", ["b@example.com", "c@example.com"], "Subject", "Body\n.\n..\n")


def connection(fields: dict[str, Any], **more: Any) -> SmtpConnection:
    given = {"name": "mail", **fields, **more}
    return SmtpConnection(SmtpConfig(**{**given, "password": Secret(given.get("password", ""))}))


@contextmanager
def answering(*answers: bytes) -> Iterator[dict[str, Any]]:
    """The fields of a connection to a server that greets with the first answer, and gives one more for each line."""
    with socket.create_server((LOOPBACK, 0)) as listener:

        def serve() -> None:
            connected, _ = listener.accept()
            with connected, connected.makefile("rb") as lines:
                for number, answer in enumerate(answers):
                    if number and not lines.readline():
                        return
                    connected.sendall(answer)
                lines.read()

        thread = threading.Thread(target=serve)
        thread.start()
        yield {"host": LOOPBACK, "port": listener.getsockname()[1], "mode": PLAIN}
        thread.join()


@pytest.mark.parametrize("has_auth", [False, True])
@pytest.mark.parametrize("mode", [PLAIN, SSL, STARTTLS])
def test_a_message_arrives_whichever_way_the_server_encrypts(mode: str, has_auth: bool) -> None:
    with MailServer(mode, has_auth) as server:
        message_id = connection(server.fields).send(MESSAGE)
    (received,) = server.received
    assert received.message["message-id"] == message_id
    assert (received.sender, received.recipients) == ("a@example.com", ("b@example.com", "c@example.com"))
    assert received.text.splitlines() == ["Body", ".", ".."]
    assert server.logins == ([(USERNAME, PASSWORD)] if has_auth else [])


@pytest.mark.parametrize("mode", [SSL, STARTTLS])
def test_a_server_that_cannot_prove_who_it_is_gets_nothing(mode: str) -> None:
    with MailServer(mode, has_auth=True) as server:
        for ca_certs in ("", certificate()[0]):
            with pytest.raises(ConnectionFailed, match="its certificate is not trusted"):
                connection(server.fields, ca_certs=ca_certs).send(MESSAGE)
        with pytest.raises(ConnectionFailed, match=r"not trusted: .*match"):
            connection(server.fields, host="localhost").send(MESSAGE)
        assert server.logins == server.received == []
        connection(server.fields, ca_certs="", tls_verify=False).send(MESSAGE)
    assert len(server.received) == 1


def test_encryption_is_never_given_up_because_the_server_offers_none() -> None:
    with (
        MailServer(PLAIN, has_auth=True) as server,
        pytest.raises(ConnectionFailed, match="offers no encryption"),
    ):
        connection(server.fields, mode=STARTTLS).send(MESSAGE)
    assert server.logins == server.received == []


def test_wrong_credentials_are_an_error_that_does_not_have_them() -> None:
    with MailServer(STARTTLS, has_auth=True) as server:
        with pytest.raises(MailRefused, match="refused to log in: 535") as refused:
            connection(server.fields, password="wrong-canary").send(MESSAGE)
        assert refused.value.is_permanent
        with pytest.raises(MailRefused, match="530"):
            connection(server.fields, username="", password="").send(MESSAGE)
    assert "canary" not in str(refused.value)
    with (
        answering(b"220 x\r\n", b"250-x\r\n250 AUTH GSSAPI\r\n") as fields,
        pytest.raises(MailRefused, match="it offers GSSAPI, and neither PLAIN nor LOGIN"),
    ):
        connection(fields, username="u", password="p").send(MESSAGE)


def test_log_in_in_two_steps_for_servers_that_know_no_other() -> None:
    answers = (
        b"220 x\r\n",
        b"250-x\r\n250 AUTH LOGIN\r\n",
        b"334 VXNlcg==\r\n",
        b"334 UGFzcw==\r\n",
        b"235 ok\r\n",
        b"250 ok\r\n",
        b"221 bye\r\n",
    )
    with answering(*answers) as fields:
        assert connection(fields, username="u", password="p").ping() > 0


def test_a_refused_recipient_means_that_nobody_gets_the_message() -> None:
    with MailServer() as server:
        server.refused["c@example.com"] = "550 5.1.1 <c@example.com> is unknown here"
        with pytest.raises(
            MailRefused, match=r"1 of 2 recipients, so that nobody .* 550 5\.1\.1 <\(address\)> is"
        ) as refused:
            connection(server.fields).send(MESSAGE)
        assert refused.value.refused == {"c@example.com": (550, "5.1.1 <(address)> is unknown here")}
        assert "c@example.com" not in str(refused.value)
        assert server.received == []


def test_whether_it_is_of_use_to_try_again_follows_from_the_answer() -> None:
    with MailServer() as server:
        for answer, is_permanent in (("451 later", False), ("554 5.7.1 spam", True)):
            server.answer = answer
            with pytest.raises(MailRefused, match=answer) as refused:
                connection(server.fields).send(MESSAGE)
            assert refused.value.is_permanent is is_permanent


def test_a_server_says_what_it_does_not_take_before_it_is_sent() -> None:
    with (
        MailServer(size=500) as server,
        pytest.raises(MailRefused, match="takes messages of up to 500 bytes, not of"),
    ):
        connection(server.fields).send(SMTPMessage("a@example.com", "b@example.com", "S", "x" * 1000))
    with (
        answering(b"220 x\r\n", b"250 x\r\n") as fields,
        pytest.raises(MailRefused, match="letters other than those of ASCII"),
    ):
        connection(fields).send(SMTPMessage("a@example.com", "jürgen@example.com", "S", "B"))
    with MailServer() as server:
        connection(server.fields).send(SMTPMessage("a@example.com", "jürgen@example.com", "S", "B"))
    assert server.received[0].recipients == ("jürgen@example.com",)


def test_nothing_is_sent_that_is_no_message() -> None:
    unreachable = connection({"host": LOOPBACK, "port": free_port(), "mode": PLAIN})
    with pytest.raises(InvalidInput, match="to: must be 1 to 100"):
        unreachable.send(SMTPMessage("a@example.com"))
    with pytest.raises(ConnectionInactive, match="'mail' is not active"):
        connection(unreachable_fields(), is_active=False).send(MESSAGE)


def unreachable_fields() -> dict[str, Any]:
    return {"host": LOOPBACK, "port": free_port(), "mode": PLAIN}


def test_a_server_that_is_not_there_is_an_error_that_says_so() -> None:
    with pytest.raises(
        ConnectionFailed, match=rf"SMTP connection 'mail' to {LOOPBACK}:\d+ failed: .*refused"
    ):
        connection(unreachable_fields()).send(MESSAGE)


def test_a_server_that_does_not_answer_is_given_up() -> None:
    with answering() as fields, pytest.raises(ConnectionTimeout, match=r"did not answer within 0\.2 s"):
        connection(fields, timeout=0.2).send(MESSAGE)


def test_whether_a_message_was_taken_is_said_when_it_is_not_known() -> None:
    start = (b"220 x\r\n", b"250 x\r\n", b"250 ok\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n")
    with (
        answering(*start) as fields,
        pytest.raises(
            ConnectionTimeout, match=r"did not answer .*, and whether it took the message is not known"
        ),
    ):
        connection(fields, timeout=0.2).send(MESSAGE)


@pytest.mark.parametrize(
    "answer",
    [b"250-x\r\n" * (MAX_REPLY_LINES + 5), b"2" * 10_000, b"hello\r\n", b"\xff\xfe\r\n", b"250-x"],
    ids=["too many lines", "too long", "no code", "bytes", "unfinished"],
)
def test_a_server_that_answers_nonsense_is_given_up(answer: bytes) -> None:
    with answering(b"220 x\r\n", answer) as fields, pytest.raises(ConnectionFailed):
        connection(fields, timeout=0.3).send(MESSAGE)


def test_only_so_many_messages_are_sent_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp, "MAX_CONCURRENT", 1)
    limited = connection(unreachable_fields(), timeout=0.05)
    assert limited._free.acquire(timeout=0)
    with pytest.raises(ConnectionTimeout, match="sends 1 messages already"):
        limited.send(MESSAGE)
    limited._free.release()
    for _ in range(3):  # what fails gives its place back
        with pytest.raises(ConnectionFailed, match="refused"):
            limited.send(MESSAGE)


def test_the_conversation_is_logged_without_what_is_secret(caplog: pytest.LogCaptureFixture) -> None:
    with MailServer(STARTTLS, has_auth=True) as server, caplog.at_level(logging.INFO, "junctor.server.email"):
        connection(server.fields, is_debug=True).send(MESSAGE)
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("junctor")]
    assert "SMTP mail: > AUTH PLAIN" in lines
    assert [line for line in lines if line.startswith("SMTP mail: > RCPT")] == ["SMTP mail: > RCPT"] * 2
    assert any(line.startswith("SMTP mail: < 354") for line in lines)
    for secret in ("example.com", USERNAME, PASSWORD, "AGxx", "Subject", "Body"):
        assert not any(secret in line for line in lines)


def test_a_ping_sends_a_message_only_if_there_is_somebody_to_send_it_to() -> None:
    with MailServer(STARTTLS) as server:
        assert connection(server.fields).ping() > 0
        assert server.received == []
        connection(server.fields, ping_address="ops@example.com").ping()
    assert server.received[0].recipients == ("ops@example.com",)
    assert server.received[0].subject == "Ping of mail"


def test_certificates_that_are_none_are_a_problem_at_once() -> None:
    with pytest.raises(ConnectionFailed, match="CA certificates that cannot be read"):
        connection({"host": LOOPBACK, "port": 1, "mode": SSL}, ca_certs="x").prepare()


def test_services_find_connections_by_name() -> None:
    email, made = Email(), connection(unreachable_fields())
    email.connections["mail"] = made
    assert email.smtp.get("mail").conn is email.smtp["mail"] is email.smtp.mail is made
    with pytest.raises(ConnectionNotFound, match=r"no SMTP connection 'mial'\. Did you mean 'mail'"):
        email.smtp.get("mial")
    assert email.smtp.get("mial", 5) == 5


def test_what_servers_say_is_shown_without_addresses_on_one_line() -> None:
    said = b"5.1.1 <anna@example.com>: unknown\nsee\x1b[31m https://x.example/?a=b@c"
    shown = without_addresses(said)
    assert "anna" not in shown
    assert shown.isprintable()
    assert without_addresses(b"") == "no reason given"
