"""Keys, codes and what authenticators scan."""

import base64
import re
from urllib.parse import parse_qs, unquote, urlsplit

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from junctor.server.sso.errors import ValidationError
from junctor.server.sso.totp_codes import checked_key, checked_label, new_key, qr_svg, step_of, uri

RFC_KEY = base64.b32encode(b"12345678901234567890").decode()
NOW = 1_700_000_015.0
CURRENT = int(NOW // 30)


@pytest.mark.parametrize(
    ("now", "code"),
    [(59, "287082"), (1111111109, "081804"), (1234567890, "005924"), (20000000000, "353130")],
)
def test_codes_are_those_of_the_rfc(now, code):
    assert step_of(RFC_KEY, code, now=now, after=0) == now // 30


@pytest.mark.parametrize("step", [CURRENT - 1, CURRENT, CURRENT + 1])
def test_the_code_of_this_step_and_of_its_neighbours_is_right(step):
    code = pyotp.TOTP(RFC_KEY).generate_otp(step)

    assert step_of(RFC_KEY, code, now=NOW, after=0) == step


@pytest.mark.parametrize("step", [CURRENT - 2, CURRENT + 2])
def test_the_code_of_another_step_is_wrong(step):
    assert step_of(RFC_KEY, pyotp.TOTP(RFC_KEY).generate_otp(step), now=NOW, after=0) is None


@pytest.mark.parametrize("after", [CURRENT, CURRENT + 1])
def test_a_code_of_a_step_that_is_used_up_is_wrong(after):
    assert step_of(RFC_KEY, pyotp.TOTP(RFC_KEY).generate_otp(CURRENT), now=NOW, after=after) is None


def test_spaces_that_people_type_do_not_matter():
    code = pyotp.TOTP(RFC_KEY).generate_otp(CURRENT)

    assert step_of(RFC_KEY, f" {code[:3]} {code[3:]}", now=NOW, after=0) == CURRENT


@given(st.text(max_size=10))
def test_anything_else_is_wrong(code):
    right = {pyotp.TOTP(RFC_KEY).generate_otp(CURRENT + at) for at in (-1, 0, 1)}
    if "".join(code.split()) not in right:
        assert step_of(RFC_KEY, code, now=NOW, after=0) is None


def test_a_new_key_has_160_bits_and_is_another_one_each_time():
    assert len(base64.b32decode(new_key())) == 20
    assert new_key() != new_key()


def test_a_given_key_may_have_spaces_and_padding_and_small_letters():
    assert checked_key("gezd gnbv gy3t qojq gezd gnbv gy3t qojq") == RFC_KEY
    assert checked_key(base64.b32encode(bytes(range(16))).decode()) == "AAAQEAYEAUDAOCAJBIFQYDIOB4"


@pytest.mark.parametrize("key", ["GEZDGNBVGY3TQOJQ", "not base 32!", "1" * 32, "A" * 201, "ß" * 32, "A" * 27])
def test_a_key_that_is_none_or_too_short_is_refused(key):
    with pytest.raises(ValidationError) as refused:
        checked_key(key)

    assert refused.value.sub_status == ["E008002"]
    assert key not in str(refused.value)


def test_a_label_is_short_and_printable():
    assert checked_label("  Alice at work ") == "Alice at work"
    for label in ("x" * 201, "a\nb", "a\x00b"):
        with pytest.raises(ValidationError):
            checked_label(label)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=200))
def test_the_uri_says_what_the_authenticator_needs(label):
    parts = urlsplit(uri(RFC_KEY, label, "Example & Sons"))

    assert (parts.scheme, parts.netloc) == ("otpauth", "totp")
    assert parse_qs(parts.query) == {"secret": [RFC_KEY], "issuer": ["Example & Sons"]}
    assert unquote(parts.path).endswith(label)


def test_the_qr_code_is_an_image_that_a_page_can_contain():
    svg = qr_svg(uri(RFC_KEY, "alice", ""))

    assert re.match(r"<svg [^>]*viewBox=", svg)
    assert svg.endswith("</svg>")
    assert "script" not in svg
