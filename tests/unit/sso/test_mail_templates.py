"""Texts of e-mails: what is put into them stays text."""

from __future__ import annotations

import pytest

from junctor.server.sso.mail import NOTICES
from junctor.server.sso.mail_templates import MAX_NAME, filled, harmless, packaged, text_of

VALUES = {
    "username": "anna",
    "display_name": "Anna",
    "token": "tok3n",
    "site_name": "Shop",
    "site_url": "https://shop.example",
    "link": "https://shop.example#confirm_token=tok3n",
    "expiration_time_hours": "24",
    "time": "2026-11-24 10:00",
}
ALL = ["confirm", "welcome", "reset", *(f"notice-{event}" for event in sorted(NOTICES))]


@pytest.mark.parametrize("name", ALL)
def test_each_packaged_text_has_a_subject_and_leaves_no_placeholder(name: str) -> None:
    text = text_of(name, VALUES)
    assert text.subject
    assert "Hello Anna" in text.body
    assert not set("{}%") & set(text.subject + text.body)
    assert max(map(len, text.body.splitlines())) < 160
    assert packaged(name).startswith("Subject: ")


def test_a_text_with_a_token_says_it_and_the_link_and_how_long_it_works() -> None:
    for name in ("confirm", "reset"):
        body = text_of(name, VALUES).body
        assert "\ntok3n\n" in body
        assert f"\n{VALUES['link']}\n" in body
        assert "for 24 h" in body


def test_without_a_link_its_line_is_left_out() -> None:
    body = text_of("confirm", VALUES | {"link": ""}).body
    assert "\n\n\n" not in body
    assert filled("a\n\n{link}\n\nb", {"link": ""}) == "a\n\nb"
    assert filled("{link}\n{token}", {"link": "", "token": "t"}) == "t"


def test_values_are_put_in_once_and_never_executed() -> None:
    evil = {
        "username": "{token}",
        "display_name": "%(token)s {username.__class__} {0} {{x}}",
        "token": "secret",
    }
    assert filled("{username}", evil) == "{token}"
    assert filled("{display_name}", evil) == evil["display_name"]
    for template in (
        "{username.__class__}",
        "{username!r}",
        "{0}",
        "{}",
        "{username:>9}",
        "%s %(x",
        "{a{username}}"[:2],
    ):
        assert filled(template, evil) == template


def test_placeholders_have_the_forms_that_templates_of_zato_have() -> None:
    assert filled("{data.token} {token} %(token)s %(data.token)s", VALUES) == "tok3n tok3n tok3n tok3n"
    assert (
        filled("{unknown} %(unknown)s { token } 100 % {", VALUES) == "{unknown} %(unknown)s { token } 100 % {"
    )


def test_settings_replace_the_text_the_subject_or_both() -> None:
    text = text_of("reset", VALUES, template="Code {token}\n", subject="New {site_name}\npassword")
    assert (text.subject, text.body, text.is_html) == ("New Shop password", "Code tok3n", False)
    text = text_of("reset", VALUES, template="Subject: Own {username}\n\nCode", subject="Title")
    assert (text.subject, text.body) == ("Own anna", "Code")
    assert text_of("reset", VALUES, template=" \n").body == text_of("reset", VALUES).body


def test_values_in_html_are_escaped() -> None:
    template = "<!DOCTYPE html>\n<html>{username}</html>"
    text = text_of("confirm", VALUES | {"username": "<script>&"}, template=template)
    assert text.is_html
    assert "&lt;script&gt;&amp;" in text.body


def test_names_in_mails_to_strangers_are_no_links_and_short() -> None:
    assert harmless("Visit https://evil.example/x\r\nnow\u202e") == "Visit https evil.example x now"
    assert len(harmless("x" * 500)) == MAX_NAME
    assert harmless("Anna-Maria Müller (Berlin)") == "Anna-Maria Müller (Berlin)"
    assert harmless("") == ""


def test_a_text_that_there_is_not_is_a_mistake() -> None:
    with pytest.raises(FileNotFoundError):
        text_of("absent", VALUES)
