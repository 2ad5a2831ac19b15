"""Services of sign-ups: the validation that comes with the server, and what follows a sign-up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from junctor.server.admin.service import AdminService
from junctor.server.sso import signup_aftermath
from junctor.server.sso.codes import status_code

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn


class Validate(AdminService):
    """Says whether somebody may sign up, by the rules of the settings."""

    name = "zato.sso.signup.validate"

    def handle(self) -> None:
        """``username``, ``password``, ``email``; the answer has ``is_valid``, the codes ``sub_status``, and whether they may be shown."""
        codes, informs = problems(self.context.sso, self.fields)
        self.response.payload = {"is_valid": not codes, "sub_status": codes, "return_status": informs}


class ValidateAlias(Validate):
    """The same, by the name that Zato's documentation has for it."""

    name = "zato.sso.user.validate"


class AfterSignUp(AdminService):
    """Does what follows a sign-up; only ``signup_aftermath.py`` can make its input, which is encrypted."""

    name = signup_aftermath.SERVICE

    def handle(self) -> None:
        """``sealed``: what happened."""
        signup_aftermath.follow(self.context.sso, self.text(self.fields, "sealed"))


def problems(sso: SingleSignOn, given: Mapping[str, Any]) -> tuple[list[str], bool]:
    """The codes of what is wrong with a sign-up, of one of its fields at a time, and whether the settings say that they may be shown.

    Whether a name or an address is taken is not among them: that is known for sure when the user is stored.
    """
    settings, policy = sso.settings, sso.policy
    username, email = given.get("username") or "", given.get("email") or ""
    if codes := policy.username_problems(username):
        return codes, settings["signup_inform_if_user_invalid"]
    if not email and settings["signup_is_email_required"]:
        return [status_code.email.missing], settings["signup_inform_if_email_invalid"]
    if email and (codes := policy.email_problems(email)):
        return codes, settings["signup_inform_if_email_invalid"]
    codes = policy.password_problems(given.get("password") or "", about=[username, email])
    return codes, settings["password_inform_if_invalid"] if codes else False


SERVICES: Final = (Validate, ValidateAlias, AfterSignUp)
