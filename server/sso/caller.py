"""Who calls Single Sign-On, through what, and from where."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Caller:
    """The circumstances of a call, which nobody changes; what Zato's services know as RequestCtx.

    It is not frozen because making one of those takes three times as long, and each call makes one.

    ``current_ust`` is the token of the caller's session, '' = none.  ``remote_addr`` is the address of the client, as the trusted proxies
    tell it.  A call ``is_trusted`` when the cluster itself makes it, as for the command line: then nobody has to be logged in.
    """

    cid: str
    current_ust: str = ""
    current_app: str = ""
    remote_addr: str = ""
    user_agent: str = ""
    is_trusted: bool = False
    who: str = ""
    """For a trusted call, the name of the administrator, for the audit trail."""
