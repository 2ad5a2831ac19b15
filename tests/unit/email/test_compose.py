"""From what services write to what mail servers get: nothing that is given becomes a header, a recipient or a command of its own."""

from __future__ import annotations

import email
from email import policy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from junctor.server.email import compose as composing
from junctor.server.email.compose import Composed, compose
from junctor.server.email.message import SMTPMessage
from junctor.sql.errors import InvalidInput

CONTROL = ["\r\nBcc: eve@example.com", "\nX: y", "\r", "\x00", "\x7f", "\u2028", "\u0085"]


def message(**fields: Any) -> SMTPMessage:
    return SMTPMessage(
        **{"from_": "a@example.com", "to": "b@example.com", "subject": "S", "body": "B\n", **fields}
    )


def parsed(made: Composed) -> Any:
    return email.message_from_bytes(made.data, policy=policy.default)


def test_a_message_is_written_as_mail_servers_expect_it() -> None:
    made = compose(message(to=["Jürgen <j@example.com>, k@example.com"], cc="c@example.com", body="Grüße\n"))
    assert made.data.isascii()
    assert b"\r\n" in made.data
    assert b"\n" not in made.data.replace(b"\r\n", b"")
    found = parsed(made)
    assert (found["from"], found["to"], found["cc"]) == (
        "a@example.com",
        "Jürgen <j@example.com>, k@example.com",
        "c@example.com",
    )
    assert found.get_content().splitlines() == ["Grüße"]
    assert found["message-id"] == made.message_id
    assert found["date"].datetime.tzinfo is not None
    assert made.recipients == ("j@example.com", "k@example.com", "c@example.com")


def test_hidden_recipients_are_in_the_envelope_alone() -> None:
    made = compose(message(bcc=["h@example.com", "b@example.com"]))
    assert made.recipients == ("b@example.com", "h@example.com")
    assert b"h@example.com" not in made.data
    assert compose(message(to=None, bcc="h@example.com")).recipients == ("h@example.com",)


def test_international_addresses_are_ascii_where_they_can_be() -> None:
    made = compose(message(to="jürgen@bücher.example", from_="Ä <a@straße.example>"))
    assert made.recipients == ("jürgen@xn--bcher-kva.example",)
    assert made.sender == "a@xn--strae-oqa.example"
    assert made.is_utf8
    assert "jürgen@xn--bcher-kva.example" in made.data.decode()
    assert not compose(message(to="j@bücher.example")).is_utf8


@pytest.mark.parametrize("bad", CONTROL)
@pytest.mark.parametrize("field", ["from_", "to", "cc", "bcc", "subject"])
def test_a_line_break_is_refused_wherever_a_header_could_end(field: str, bad: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{field}: must be") as refused:
        compose(message(**{field: f"x@example.com{bad}"}))
    assert "example" not in str(refused.value)


@pytest.mark.parametrize("bad", CONTROL)
def test_a_line_break_is_refused_in_headers_and_names_of_attachments(bad: str) -> None:
    with pytest.raises(InvalidInput, match=r"headers\.X-A"):
        compose(message(headers={"X-A": f"1{bad}"}))
    with pytest.raises(InvalidInput, match="headers"):
        compose(message(headers={f"X-A{bad}": "1"}))
    with pytest.raises(InvalidInput, match=r"attachments\.0\.name"):
        compose(message(attachments=[{"name": f"a{bad}.txt", "contents": ""}]))


@pytest.mark.parametrize(
    "bad",
    [
        "a@",
        "@b.c",
        "a",
        "a@b@c",
        "<a@b.c",
        "a b@c.d",
        "a..b@c.d",
        "a@-b.c",
        "a@b..c",
        "a@b c",
        "x" * 65 + "@b.c",
        "a@" + "b" * 64 + ".c",
        "a@xn\u00ad\u00df\u2024.c/",
        "a@b.c d@e.f",
    ],
)
def test_what_is_no_address_is_refused_and_not_shown(bad: str) -> None:
    with pytest.raises(InvalidInput, match=r"^to: (must|has a domain)") as refused:
        compose(message(to=bad))
    assert len(bad) < 5 or bad not in str(refused.value)


def test_there_is_one_sender_and_a_bounded_number_of_recipients() -> None:
    for sender in (None, "", "a@b.c, d@e.f"):
        with pytest.raises(InvalidInput, match="from_: must be one"):
            compose(message(from_=sender))
    with pytest.raises(InvalidInput, match="to: must be 1 to 100"):
        compose(message(to=""))
    with pytest.raises(InvalidInput, match="to: must be 1 to 100"):
        compose(message(to=[f"a{number}@example.com" for number in range(101)]))


def test_further_headers_are_taken_but_none_that_follows_from_the_message() -> None:
    found = parsed(compose(message(headers={"Reply-To": "r@example.com", "X-Täg".replace("ä", "a"): "Grün"})))
    assert (found["reply-to"], found["x-tag"]) == ("r@example.com", "Grün")
    own = {"Message-ID": "<1@example.com>", "Date": "Tue, 24 Nov 2026 10:00:00 +0000"}
    assert parsed(compose(message(headers=own)))["date"].datetime.hour == 10
    for name in ("Bcc", "from", "To", "Subject", "MIME-Version", "Content-Type", "Resent-To"):
        with pytest.raises(InvalidInput, match="must not have"):
            compose(message(headers={name: "x"}))


def test_attachments_have_the_type_of_their_names() -> None:
    written = message(body="<p>Hi</p>", is_html=True)
    for name, contents in (
        ("täble.csv", "a;ä\n"),
        ("a.png", b"\x89PNG"),
        ("b.tar.gz", b"x"),
        ("c.eml", b"y"),
        ("d", b"z"),
    ):
        written.attach(name, contents)
    found = list(parsed(compose(written)).walk())
    assert [part.get_content_type() for part in found] == [
        "multipart/mixed",
        "text/html",
        "text/csv",
        "image/png",
        *["application/octet-stream"] * 3,
    ]
    assert found[2].get_filename() == "täble.csv"
    assert found[2].get_content() == "a;ä\n"
    assert found[3].get_content() == b"\x89PNG"
    for bad in ({}, {"name": "a"}, {"name": "a", "contents": 5}, None):
        with pytest.raises(InvalidInput, match=r"attachments\.0"):
            compose(message(attachments=[bad]))


def test_the_body_is_in_the_character_set_that_is_asked_for() -> None:
    found = parsed(compose(message(body="é\n", charset="iso-8859-1")))
    assert found.get_content().splitlines() == ["é"]
    with pytest.raises(InvalidInput, match="body: has characters"):
        compose(message(body="€", charset="iso-8859-1"))
    for charset in ("utf-16", "rot13", "base64", "nothing", None, "cp037", "\x00"):
        with pytest.raises(InvalidInput, match="charset"):
            compose(message(charset=charset))
    with pytest.raises(InvalidInput, match="body"):
        compose(message(body="\ud800"))
    with pytest.raises(InvalidInput, match="body"):
        compose(message(body=b"bytes"))


def test_a_message_has_a_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composing, "MAX_SIZE", 2000)
    with pytest.raises(InvalidInput, match="at most 2,000 bytes, has"):
        compose(message(body="x\n" * 1000))
    with pytest.raises(InvalidInput, match="attachments: must have at most 2,000"):
        compose(message(attachments=[{"name": "a", "contents": "x" * 2001}]))


@given(text=st.text(max_size=60), field=st.sampled_from(["from_", "to", "cc", "bcc", "subject", "body"]))
def test_no_text_becomes_a_header_or_a_recipient(text: str, field: str) -> None:
    try:
        made = compose(message(**{field: text}))
    except InvalidInput:
        return
    found = parsed(made)
    expected = {"From", "To", "Subject", "Date", "Message-ID", "MIME-Version"}
    assert {name.lower() for name in found} - {name.lower() for name in expected} <= {
        "cc",
        "content-type",
        "content-transfer-encoding",
    }
    for address in (made.sender, *made.recipients):
        assert address.isprintable()
        assert address.count("@") >= 1
