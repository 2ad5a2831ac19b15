"""All endpoints, in the order of the documentation."""

from __future__ import annotations

from typing import Final

from junctor.server.sso.endpoints.accounts import LINKED, PERSONAL_DATA
from junctor.server.sso.endpoints.attributes import ATTRIBUTES
from junctor.server.sso.endpoints.factors import FACTORS, PASSKEYS
from junctor.server.sso.endpoints.sessions import SESSIONS
from junctor.server.sso.endpoints.signing_in import SIGNING_IN
from junctor.server.sso.endpoints.users import USERS

GROUPS: Final = {
    "Signing up and in": SIGNING_IN,
    "Users": USERS,
    "Sessions": SESSIONS,
    "Attributes": ATTRIBUTES,
    "Second factors": FACTORS,
    "Passkeys": PASSKEYS,
    "Linked accounts": LINKED,
    "Personal data": PERSONAL_DATA,
}
ENDPOINTS: Final = tuple(endpoint for group in GROUPS.values() for endpoint in group)
