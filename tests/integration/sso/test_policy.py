"""What passwords, user names and e-mail addresses must be like."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from junctor.server.sso import password_strength
from junctor.server.sso.policy import Policy
from tests.helpers.sso import SsoUnderTest

SHORT, LONG, INVALID, COMMON, WEAK = "E003002", "E003003", "E003001", "E003009", "E003008"
GOOD = "wombat kazoo theremin 9"


@pytest.fixture
def policy(sso: SsoUnderTest) -> Policy:
    """The rules, as they are by default but for the least length, which is 8."""
    return sso.sso.policy


def test_a_password_that_is_long_and_hard_to_guess_is_good(policy: Policy) -> None:
    assert policy.password_problems(GOOD) == []


def test_lengths_are_counted_in_composed_characters(sso: SsoUnderTest) -> None:
    sso.settings(password_min_length=15, password_min_complexity=0)
    policy = sso.sso.policy

    assert policy.password_problems("übergrößenträger"[:15]) == []
    assert policy.password_problems("u\u0308" * 14) == [SHORT]
    assert policy.password_problems("xyzzy" * 205) == [LONG]


def test_all_problems_are_told_at_once(policy: Policy) -> None:
    assert policy.password_problems("monkey") == [SHORT, COMMON, WEAK]


@pytest.mark.parametrize("password", ["PassWord1", "qwertyuiop", "1234567890"])
def test_a_common_password_is_refused_in_any_case(sso: SsoUnderTest, password: str) -> None:
    sso.settings(password_min_complexity=0)

    assert sso.sso.policy.password_problems(password) == [COMMON]


def test_a_listed_password_is_refused_as_a_whole_alone(sso: SsoUnderTest) -> None:
    sso.settings(password_reject_list=["Wombat Kazoo"])

    assert sso.sso.policy.password_problems("wombat kazoo") == [INVALID]
    assert sso.sso.policy.password_problems("wombat kazoo theremin") == []
    sso.settings(password_reject_list=[])
    assert sso.sso.policy.password_problems("wombat kazoo") == []


@pytest.mark.parametrize(
    "password",
    ["alice.example", "ALICE-2026!!", "example.com1234", "alice@example.com", "lovelace1815", "aliceexample"],
)
def test_what_everybody_knows_of_the_user_is_no_password(sso: SsoUnderTest, password: str) -> None:
    sso.settings(password_min_complexity=0)
    about = ["alice", "alice@example.com", "Ada Lovelace"]

    assert sso.sso.policy.password_problems(password, about=about) == [COMMON]


def test_the_name_of_the_site_is_no_password(sso: SsoUnderTest) -> None:
    sso.settings(site_name="Example Bank", password_min_complexity=0)

    assert sso.sso.policy.password_problems("!ExampleBank!42") == [COMMON]


def test_a_passphrase_may_have_such_a_word_in_it(policy: Policy) -> None:
    assert policy.password_problems("alice plays the theremin badly", about=["alice"]) == []


def test_what_zxcvbn_finds_weak_is_refused(sso: SsoUnderTest) -> None:
    assert sso.sso.policy.password_problems("aaaaaaaaaaaaaaaaaaaa") == [WEAK]
    sso.settings(password_min_complexity=0)
    assert sso.sso.policy.password_problems("aaaaaaaaaaaaaaaaaaaa") == []


def test_whitespace_is_allowed_unless_the_settings_forbid_it(sso: SsoUnderTest) -> None:
    sso.settings(signup_password_allow_whitespace=False)

    assert sso.sso.policy.password_problems(GOOD) == [INVALID]


def test_half_a_character_is_no_password(policy: Policy) -> None:
    assert policy.password_problems("\ud800" * 20) == [INVALID]


def test_a_long_password_is_scored_by_its_strongest_piece() -> None:
    assert password_strength.score("a" * 32 + "Zq8#vT2!pLm4&xW9", [], 4) == 4
    assert password_strength.score("a" * 5000, [], 4) < 4


@pytest.mark.parametrize(
    ("username", "codes"),
    [
        ("alice", []),
        ("Ada.Lovelace-1815", []),
        ("añá", []),
        ("", ["E001001"]),
        ("x" * 129, ["E001003"]),
        ("ﷺ" * 100, ["E001003"]),
        ("two words", ["E001004"]),
        ("non\u00a0breaking", ["E001004"]),
        ("nul\0", ["E001001"]),
        ("\ud800", ["E001001"]),
        ("zero\u200bwidth", ["E001001"]),
        ("right\u202eleft", ["E001001"]),
        ("TheAdmin", ["E001001"]),
        ("\uff52\uff4f\uff4f\uff54", ["E001001"]),
    ],
)
def test_a_user_name_must_be_one(policy: Policy, username: str, codes: list[str]) -> None:
    assert policy.username_problems(username) == codes


def test_super_users_may_give_a_reserved_name(policy: Policy) -> None:
    assert policy.username_problems("administrator", is_reserved_allowed=True) == []
    assert policy.email_problems("admin@example.com", is_reserved_allowed=True) == []


@pytest.mark.parametrize(
    ("email", "codes"),
    [
        ("alice@example.com", []),
        ("alice+news@sub.example.com", []),
        ("ü@exämple.com", []),
        ("alice", ["E002001"]),
        ("", ["E002001"]),
        ("alice@", ["E002001"]),
        ("alice@localhost", ["E002001"]),
        ("alice@example.com\0", ["E002001"]),
        ("al ice@example.com", ["E002004"]),
        ("alice@example.com\r\nBcc:bob@example.com", ["E002004"]),
        ("a" * 130 + "@example.com", ["E002003"]),
        ("Root@example.com", ["E002001"]),
        ("alice@admin.example.com", []),
    ],
)
def test_an_email_address_must_be_one(policy: Policy, email: str, codes: list[str]) -> None:
    assert policy.email_problems(email) == codes


@given(st.text(max_size=60))
def test_no_password_makes_the_lists_fail(text: str) -> None:
    password_strength.is_common(text)
    password_strength.is_made_of(text, password_strength.known_words([text, "alice"]))
