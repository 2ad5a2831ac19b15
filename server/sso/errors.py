"""How Single Sign-On refuses."""

from __future__ import annotations

from collections.abc import Sequence

from junctor.server.sso.codes import status_code
from junctor.sql.errors import JunctorError


class ValidationError(JunctorError):
    """A call of Single Sign-On was refused.

    ``sub_status`` has the codes, ``status`` is 'error' or 'warning'.  Without ``return_status``, a remote caller gets nothing but
    ``E005001``; the codes are for services of the cluster and for the audit trail, as ``reason`` is.  ``retry_after``, in seconds, is told
    to everybody.  ``field`` is what the codes are about.
    """

    def __init__(
        self,
        sub_status: str | Sequence[str] = status_code.auth.not_allowed,
        return_status: bool = False,
        status: str = status_code.error,
        *,
        reason: str = "",
        field: str = "",
        retry_after: int = 0,
    ) -> None:
        codes = [sub_status] if isinstance(sub_status, str) else list(sub_status)
        super().__init__(reason or f"Refused: {', '.join(codes)}.")
        self.sub_status = codes
        self.status = status
        self.return_status = return_status
        self.reason = reason
        self.field = field
        self.retry_after = retry_after

    @property
    def shown(self) -> list[str]:
        """The codes that a remote caller gets."""
        return self.sub_status if self.return_status else [status_code.auth.not_allowed]


class InvalidTOTPError(ValidationError):
    """A one-time password or a recovery code is wrong."""

    def __init__(self, sub_status: str = status_code.second_factor.invalid, *, reason: str = "") -> None:
        super().__init__(sub_status, True, reason=reason, field="totp_code")


def not_allowed(reason: str) -> ValidationError:
    """The refusal that tells a remote caller nothing; ``reason`` is for the audit trail."""
    return ValidationError(reason=reason)


def missing(field: str) -> ValidationError:
    """A field is not given that is needed."""
    return ValidationError(
        status_code.common.missing_input, True, reason=f"{field} is required.", field=field
    )


def invalid(field: str, reason: str) -> ValidationError:
    """A field has a value that it cannot have."""
    return ValidationError(status_code.common.invalid_input, True, reason=f"{field} {reason}", field=field)
