"""What is asked of passkeys, and whether they answered it: WebAuthn without the database.

Attestation is not asked for: which make an authenticator is of decides nothing here.  Users must be verified, by a PIN, a finger or the
like, so that a passkey is two factors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import orjson
import webauthn
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from webauthn.authentication.verify_authentication_response import VerifiedAuthentication
from webauthn.helpers import (
    base64url_to_bytes,
    options_to_json_dict,
    parse_attestation_object,
)
from webauthn.helpers.cose import COSEAlgorithmIdentifier
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AttestationConveyancePreference,
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)
from webauthn.registration.verify_registration_response import VerifiedRegistration

from junctor.server.sso.codes import status_code
from junctor.server.sso.errors import ValidationError, invalid
from junctor.server.sso.records import User

TIMEOUT: Final = 300  # seconds
MAX_CREDENTIAL: Final = 20_000  # bytes of JSON
MAX_CREDENTIAL_ID: Final = 1023  # bytes, the most that the standard allows
MAX_TRANSPORTS: Final = 8
ALGORITHMS: Final = [
    COSEAlgorithmIdentifier.EDDSA,
    COSEAlgorithmIdentifier.ECDSA_SHA_256,
    COSEAlgorithmIdentifier.RSASSA_PKCS1_v1_5_SHA_256,
]
ATTESTATIONS: Final = ("none", "packed")
"""What browsers send when none is asked for: nothing, or what the new key itself signed."""

# what the library raises for input that is not what it should be: much of it comes from the parsers below it
MALFORMED: Final = (
    WebAuthnException,
    InvalidSignature,
    UnsupportedAlgorithm,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RelyingParty:
    """Who passkeys are registered with: ``id`` is its domain, ``origins`` where its pages are."""

    id: str
    name: str
    origins: list[str]

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> RelyingParty:
        """The one of the settings.  Raises ``ValidationError`` (E011002) when there are no passkeys."""
        id_ = settings["webauthn_rp_id"]
        if not id_:
            raise ValidationError(
                status_code.second_factor.not_enrolled,
                True,
                reason="There are no passkeys here: the setting webauthn_rp_id is empty.",
            )
        origins = list(settings["webauthn_origins"]) or [f"https://{id_}"]
        return cls(id_, settings["site_name"] or id_, origins)

    def creation_options(self, user: User, challenge: bytes, registered: Iterable[bytes]) -> dict[str, Any]:
        """What ``navigator.credentials.create`` is to be given for a new passkey of a user, as JSON."""
        options = webauthn.generate_registration_options(
            rp_id=self.id,
            rp_name=self.name,
            user_id=user.user_id.encode(),
            user_name=user.username,
            user_display_name=user.display_name or user.username,
            challenge=challenge,
            timeout=TIMEOUT * 1000,
            attestation=AttestationConveyancePreference.NONE,
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.PREFERRED,
                user_verification=UserVerificationRequirement.REQUIRED,
            ),
            exclude_credentials=_descriptors(registered),
            supported_pub_key_algs=ALGORITHMS,
        )
        return options_to_json_dict(options)

    def request_options(self, challenge: bytes, allowed: Iterable[bytes]) -> dict[str, Any]:
        """What ``navigator.credentials.get`` is to be given, as JSON; without ``allowed``, the user chooses among the passkeys at hand."""
        options = webauthn.generate_authentication_options(
            rp_id=self.id,
            challenge=challenge,
            timeout=TIMEOUT * 1000,
            allow_credentials=_descriptors(allowed),
            user_verification=UserVerificationRequirement.REQUIRED,
        )
        return options_to_json_dict(options)

    def registered(self, credential: Mapping[str, Any], challenge: bytes) -> VerifiedRegistration:
        """A new passkey that answers a challenge.  Raises ``ValidationError`` (E011001)."""

        def verify() -> VerifiedRegistration:
            attestation = parse_attestation_object(
                base64url_to_bytes(credential["response"]["attestationObject"])
            )
            if attestation.fmt not in ATTESTATIONS:
                raise ValueError("an attestation was not asked for")
            verified = webauthn.verify_registration_response(
                credential=dict(credential),
                expected_challenge=challenge,
                expected_rp_id=self.id,
                expected_origin=self.origins,
                require_user_verification=True,
                supported_pub_key_algs=ALGORITHMS,
            )
            if not 16 <= len(verified.credential_id) <= MAX_CREDENTIAL_ID:
                raise ValueError("the credential id is too short or too long")
            return verified

        return _answer(verify)

    def authenticated(
        self, credential: Mapping[str, Any], challenge: bytes, *, public_key: bytes, sign_count: int
    ) -> VerifiedAuthentication:
        """The answer of a passkey to a challenge.  Raises ``ValidationError`` (E011001), also if the passkey was copied."""
        return _answer(
            lambda: webauthn.verify_authentication_response(
                credential=dict(credential),
                expected_challenge=challenge,
                expected_rp_id=self.id,
                expected_origin=self.origins,
                credential_public_key=public_key,
                credential_current_sign_count=sign_count,
                require_user_verification=True,
            )
        )


def checked_credential(credential: Any) -> dict[str, Any]:
    """What a browser sent as the answer of an authenticator, of a bounded size.  Raises ``ValidationError`` (E008002)."""
    if not isinstance(credential, dict) or not isinstance(credential.get("response"), dict):
        raise invalid("credential", "must be a PublicKeyCredential as JSON.")
    if len(orjson.dumps(credential)) > MAX_CREDENTIAL:
        raise invalid("credential", f"must not have more than {MAX_CREDENTIAL} bytes.")
    return credential


def challenge_of(credential: Mapping[str, Any]) -> bytes:
    """The challenge that an answer says it is to.  Raises ``ValidationError`` (E011001)."""

    def parse() -> bytes:
        client_data = orjson.loads(base64url_to_bytes(credential["response"]["clientDataJSON"]))
        return base64url_to_bytes(client_data["challenge"])

    return _answer(parse)


def credential_id_of(credential: Mapping[str, Any]) -> bytes:
    """The id of the passkey that an answer says it is of.  Raises ``ValidationError`` (E011001)."""
    return _answer(lambda: base64url_to_bytes(credential["id"]))


def user_handle_of(credential: Mapping[str, Any]) -> bytes | None:
    """The handle of the user, which is the user id, if the authenticator gave it.  Raises ``ValidationError`` (E011001)."""
    handle = credential["response"].get("userHandle")
    return _answer(lambda: base64url_to_bytes(handle)) if handle else None


def transports_of(credential: Mapping[str, Any]) -> list[str]:
    """How the browser can reach the authenticator of a new passkey, as far as it says so."""
    given = credential["response"].get("transports")
    known = [t for t in given if isinstance(t, str) and len(t) <= 20] if isinstance(given, list) else []
    return known[:MAX_TRANSPORTS]


def false_ids(mac: bytes) -> list[bytes]:
    """Ids of passkeys that do not exist, as a user might have them; the same for the same digest."""
    count = 2 if mac[0] < 50 else 1
    sizes = [(16, 20, 32, 32, 64)[mac[at + 1] % 5] for at in range(count)]
    return [hashlib.shake_256(mac + bytes([at])).digest(size) for at, size in enumerate(sizes)]


def _descriptors(ids: Iterable[bytes]) -> list[PublicKeyCredentialDescriptor]:
    return [PublicKeyCredentialDescriptor(id=id_) for id_ in ids]


def _answer(verify: Callable[[], T]) -> T:
    try:
        return verify()
    except MALFORMED as error:
        reason = f"The passkey's answer is wrong ({type(error).__name__})."
        raise ValidationError(status_code.second_factor.invalid, True, reason=reason) from None
