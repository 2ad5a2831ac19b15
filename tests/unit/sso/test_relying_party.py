"""What passkeys are asked, and which answers count."""

import secrets

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url

from junctor.server.sso.errors import ValidationError
from junctor.server.sso.relying_party import (
    RelyingParty,
    challenge_of,
    checked_credential,
    credential_id_of,
    false_ids,
    transports_of,
    user_handle_of,
)
from tests.helpers.authenticator import Authenticator

ORIGIN = "https://www.example.com"
PARTY = RelyingParty("example.com", "Example", [ORIGIN])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)


class _User:
    user_id = "zusr123"
    username = "alice"
    display_name = ""


def registration(authenticator, **changes):
    """A challenge and the answer to it."""
    challenge = secrets.token_bytes(32)
    options = PARTY.creation_options(_User, challenge, [])
    return challenge, authenticator.create(options, **changes)


def authentication(authenticator, **changes):
    challenge = secrets.token_bytes(32)
    return challenge, authenticator.get(PARTY.request_options(challenge, []), **changes)


def registered(authenticator):
    challenge, credential = registration(authenticator)
    return PARTY.registered(credential, challenge)


def is_refused(call, *arguments, **named):
    with pytest.raises(ValidationError) as refused:
        call(*arguments, **named)
    return refused.value.sub_status == ["E011001"]


def is_taken_or_refused(call, *arguments):
    try:
        call(*arguments)
    except ValidationError as error:
        return error.sub_status == ["E011001"]
    return True


def test_the_domain_and_the_origins_are_those_of_the_settings():
    settings = {"webauthn_rp_id": "example.com", "webauthn_origins": [], "site_name": ""}

    assert RelyingParty.of(settings) == RelyingParty("example.com", "example.com", ["https://example.com"])
    settings |= {"webauthn_origins": [ORIGIN], "site_name": "Example"}
    assert RelyingParty.of(settings) == PARTY


def test_without_a_domain_there_are_no_passkeys():
    with pytest.raises(ValidationError) as refused:
        RelyingParty.of({"webauthn_rp_id": "", "webauthn_origins": [], "site_name": ""})

    assert refused.value.sub_status == ["E011002"]


def test_a_new_passkey_is_to_verify_its_user_and_to_say_nothing_of_its_make():
    options = PARTY.creation_options(_User, b"c" * 32, [b"old"])

    assert options["authenticatorSelection"]["userVerification"] == "required"
    assert options["authenticatorSelection"]["residentKey"] == "preferred"
    assert options["attestation"] == "none"
    assert [descriptor["id"] for descriptor in options["excludeCredentials"]] == [bytes_to_base64url(b"old")]
    assert base64url_to_bytes(options["user"]["id"]) == b"zusr123"


def test_what_an_authenticator_made_is_taken():
    verified = registered(authenticator := Authenticator(ORIGIN))

    assert verified.credential_id == authenticator.keys[0].id
    assert verified.user_verified


@pytest.mark.parametrize(
    "changes",
    [
        {"origin": "https://www.example.org"},
        {"origin": "http://www.example.com"},
        {"type": "webauthn.get"},
        {"challenge": bytes_to_base64url(b"another challenge, of 32 bytes..")},
    ],
)
def test_an_answer_to_somebody_else_registers_nothing(changes):
    challenge, credential = registration(Authenticator(ORIGIN), **changes)

    assert is_refused(PARTY.registered, credential, challenge)


def test_a_passkey_whose_user_was_not_verified_is_refused():
    challenge, credential = registration(Authenticator(ORIGIN, is_verifying=False))

    assert is_refused(PARTY.registered, credential, challenge)


def test_a_passkey_of_another_domain_is_refused():
    authenticator, challenge = Authenticator(ORIGIN), secrets.token_bytes(32)
    other = RelyingParty("example.org", "Other", [ORIGIN])
    credential = authenticator.create(other.creation_options(_User, challenge, []))

    assert is_refused(PARTY.registered, credential, challenge)


def test_an_attestation_that_nobody_asked_for_is_refused():
    challenge, credential = registration(Authenticator(ORIGIN))
    attestation = cbor2.loads(base64url_to_bytes(credential["response"]["attestationObject"]))
    attestation |= {"fmt": "android-safetynet", "attStmt": {"ver": "1", "response": b"x"}}
    credential["response"]["attestationObject"] = bytes_to_base64url(cbor2.dumps(attestation))

    assert is_refused(PARTY.registered, credential, challenge)


def test_an_id_that_can_be_guessed_is_refused():
    challenge, credential = registration(Authenticator(ORIGIN, id_size=8))

    assert is_refused(PARTY.registered, credential, challenge)


def test_the_signature_of_the_key_is_what_counts():
    authenticator = Authenticator(ORIGIN)
    public_key = registered(authenticator).credential_public_key
    stranger = Authenticator(ORIGIN)
    registered(stranger)
    challenge, credential = authentication(authenticator)
    _, false = authentication(stranger)

    assert PARTY.authenticated(credential, challenge, public_key=public_key, sign_count=0).new_sign_count == 1
    credential["response"]["signature"] = false["response"]["signature"]
    assert is_refused(PARTY.authenticated, credential, challenge, public_key=public_key, sign_count=0)


def test_a_passkey_that_has_counted_less_than_before_was_copied():
    authenticator = Authenticator(ORIGIN)
    public_key = registered(authenticator).credential_public_key
    challenge, credential = authentication(authenticator)

    for count, copied in ((0, False), (1, True), (5, True)):
        check = (PARTY.authenticated, credential, challenge)
        if copied:
            assert is_refused(*check, public_key=public_key, sign_count=count)
        else:
            check[0](*check[1:], public_key=public_key, sign_count=count)


def test_a_passkey_that_does_not_count_is_taken_each_time():
    authenticator = Authenticator(ORIGIN, counts=False)
    public_key = registered(authenticator).credential_public_key
    for _ in range(2):
        challenge, credential = authentication(authenticator)
        PARTY.authenticated(credential, challenge, public_key=public_key, sign_count=0)


@given(JSON, JSON, JSON)
def test_whatever_is_sent_as_a_registration_is_refused_in_good_order(client_data, attestation, more):
    credential = {
        "id": "AAAA",
        "rawId": "AAAA",
        "type": "public-key",
        "response": {"clientDataJSON": client_data, "attestationObject": attestation, "transports": more},
    }

    assert is_refused(PARTY.registered, credential, b"challenge")
    assert isinstance(transports_of(credential), list)


@given(JSON, JSON, JSON, JSON)
def test_whatever_is_sent_as_an_answer_is_refused_in_good_order(id_, client_data, data, handle):
    credential = {
        "id": id_,
        "rawId": id_,
        "type": "public-key",
        "response": {
            "clientDataJSON": client_data,
            "authenticatorData": data,
            "signature": "AAAA",
            "userHandle": handle,
        },
    }

    assert is_refused(PARTY.authenticated, credential, b"challenge", public_key=b"x", sign_count=0)
    for parse in (challenge_of, credential_id_of, user_handle_of):
        assert is_taken_or_refused(parse, credential)


@given(st.data())
def test_a_registration_with_any_bytes_changed_is_refused_or_taken_in_good_order(data):
    challenge, credential = registration(Authenticator(ORIGIN))
    attestation = bytearray(base64url_to_bytes(credential["response"]["attestationObject"]))
    for _ in range(data.draw(st.integers(1, 3))):
        attestation[data.draw(st.integers(0, len(attestation) - 1))] = data.draw(st.integers(0, 255))
    credential["response"]["attestationObject"] = bytes_to_base64url(bytes(attestation))

    assert is_taken_or_refused(PARTY.registered, credential, challenge)


@pytest.mark.parametrize("given_", [None, [], "x", {}, {"response": "x"}])
def test_what_is_no_credential_is_said_to_be_none(given_):
    with pytest.raises(ValidationError) as refused:
        checked_credential(given_)

    assert refused.value.sub_status == ["E008002"]


def test_a_credential_of_any_size_is_refused():
    with pytest.raises(ValidationError) as refused:
        checked_credential({"response": {"attestationObject": "A" * 30_000}})

    assert refused.value.sub_status == ["E008002"]


def test_made_up_ids_look_like_those_of_authenticators_and_stay_the_same():
    macs = [secrets.token_bytes(32) for _ in range(200)]
    lists = [false_ids(mac) for mac in macs]

    assert lists == [false_ids(mac) for mac in macs]
    assert {len(id_) for ids in lists for id_ in ids} == {16, 20, 32, 64}
    assert {len(ids) for ids in lists} == {1, 2}
