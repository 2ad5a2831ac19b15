"""E-mails to users: written, sealed and stored as durable calls, which end once the mail server has taken them.

A mail has a token in it as a rule, and an address: so all that is stored of it is encrypted, and a copy of the database has neither.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import make_msgid
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import orjson

from junctor.server.audit.trail import REFUSED, Event
from junctor.server.pubsub.durable import store_call
from junctor.server.service.call import Call
from junctor.server.service.channel import CHANNEL, DATA_FORMAT, ChannelInfo
from junctor.server.sso.audited import TRUSTED
from junctor.server.sso.caller import Caller
from junctor.server.sso.mail_templates import harmless, text_of
from junctor.server.sso.records import User
from junctor.sql.errors import JunctorError

if TYPE_CHECKING:
    from junctor.server.sso.single_sign_on import SingleSignOn

FIELD: Final = "sso.mail"
SERVICE: Final = "zato.sso.mail.send"
NOTICES: Final = frozenset(
    {"password", "email", "totp", "passkey", "recovery-code", "locked", "signup-exists", "linked"}
)
NOTICE_MINUTES: Final = 1440  # for which it is tried to send a mail without a token
AUTOMATIC: Final = {"Auto-Submitted": "auto-generated", "X-Auto-Response-Suppress": "All"}
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """What is particular to one kind of e-mail."""

    name: str
    sender: str = ""
    token: str = ""
    fragment: str = ""
    minutes: int = NOTICE_MINUTES
    template: str = ""
    subject: str = ""
    cc: str = ""
    bcc: str = ""


class Mail:
    """E-mails; each is stored, encrypted, before these return, and sent until it is sent.

    Links lead to ``site_url`` and have the token behind ``#``, which browsers keep to themselves: no server gets it into its log.
    """

    def __init__(self, sso: SingleSignOn) -> None:
        self._sso = sso
        self._warned: Any = None

    def confirm(self, caller: Caller, user: User, token: str) -> None:
        """The token with which a sign-up is confirmed, unless the settings say that somebody else mails it.

        Raises ``StoreUnavailable`` and ``ServiceUnavailable``: then there is no mail.
        """
        settings = self._sso.settings
        if settings["signup_email_confirm_enabled"]:
            letter = Letter(
                name="confirm",
                token=token,
                fragment="confirm_token",
                minutes=settings["signup_confirm_token_valid_for"],
                sender=settings["signup_email_confirm_from"],
                cc=settings["signup_email_confirm_cc"],
                bcc=settings["signup_email_confirm_bcc"],
                template=settings["signup_email_confirm_template"],
            )
            self._store(caller, user, letter)

    def welcome(self, caller: Caller, user: User) -> None:
        """Everything is done, the user can log in."""
        settings = self._sso.settings
        if settings["signup_email_welcome_enabled"]:
            letter = Letter(
                name="welcome",
                sender=settings["signup_email_welcome_from"],
                cc=settings["signup_email_welcome_cc"],
                bcc=settings["signup_email_welcome_bcc"],
                template=settings["signup_email_welcome_template"],
            )
            self._tell(caller, user, letter)

    def reset(self, caller: Caller, user: User, token: str) -> None:
        """The token with which a password is reset.  Raises as ``confirm`` does."""
        settings = self._sso.settings
        letter = Letter(
            name="reset",
            token=token,
            fragment="reset_token",
            minutes=settings["password_reset_valid_for"],
            sender=settings["password_reset_email_from"],
            subject=settings["password_reset_email_title"],
            template=settings["password_reset_email_template"],
        )
        self._store(caller, user, letter)

    def notice(self, caller: Caller, user: User, event: str, *, email: str = "") -> None:
        """Tells a user that something of the account changed: one of ``NOTICES``.

        ``email`` is where to, if not to the current address, as after that was changed.
        """
        if event not in NOTICES:
            raise ValueError(f"There is no notice {event!r}.")
        self._tell(caller, user, Letter(name=f"notice-{event}"), email)

    def _tell(self, caller: Caller, user: User, letter: Letter, email: str = "") -> None:
        """Stores a mail about what has happened already, which does not fail because nobody can be told of it."""
        try:
            self._store(caller, user, letter, email)
        except JunctorError as error:
            log.error(
                "The mail %s to %s is lost: %s", letter.name, user.user_id, error, extra={"cid": caller.cid}
            )

    def _store(self, caller: Caller, user: User, letter: Letter, email: str = "") -> None:
        to = email or self._sso.users.email_of(user)
        sender = letter.sender or self._any_sender()
        problem = self._problem(to, sender)
        if problem:
            self._leave_out(caller, user, letter, problem)
            return
        text = text_of(
            letter.name, self._values(user, letter), template=letter.template, subject=letter.subject
        )
        job = {
            "mail": letter.name,
            "target": user.user_id,
            "expires": time.time() + letter.minutes * 60,
            "attempt": 0,
            "message": {
                "from_": sender,
                "to": to,
                "cc": letter.cc,
                "bcc": letter.bcc,
                "subject": text.subject,
                "body": text.body,
                "is_html": text.is_html,
                # the same for each attempt, so that mailboxes can tell that a mail came twice
                "headers": {**AUTOMATIC, "Message-ID": make_msgid(domain=_domain(sender))},
            },
        }
        self.store(job, caller.cid)

    def store(self, job: dict[str, Any], cid: str, *, delay: float = 0.0) -> None:
        """Stores a mail, to be sent in ``delay`` seconds and for as long as it is good for something."""
        sealed = self._sso.protection.seal(orjson.dumps(job).decode(), FIELD)
        call = Call(
            SERVICE,
            {"sealed": sealed},
            cid=cid,
            channel=ChannelInfo(CHANNEL.INVOKE_ASYNC),
            data_format=DATA_FORMAT.DICT,
        )
        store_call(self._sso.context, call, delay=delay, expiration=max(job["expires"] - time.time(), 1.0))

    def _problem(self, to: str, sender: str) -> str:
        """Why a mail cannot be sent, '' if it can."""
        settings = self._sso.settings
        if not to:
            return "The user has no e-mail address."
        if not settings["smtp_conn"] and not settings["email_service"]:
            return "There is neither an SMTP connection nor an e-mail service in the settings."
        if not sender and not settings["email_service"]:
            return "There is no sender in the settings."
        return ""

    def _leave_out(self, caller: Caller, user: User, letter: Letter, problem: str) -> None:
        settings = self._sso.settings
        if self._warned is not settings and "settings" in problem:
            self._warned = settings
            log.warning("Users get no e-mails: %s", problem)
        event = Event(
            cid=caller.cid,
            op="mail.send",
            outcome=REFUSED,
            actor=TRUSTED,
            target=user.user_id,
            reason=problem,
            extra={"mail": letter.name},
        )
        self._sso.audit.note(event)

    def _any_sender(self) -> str:
        """The sender of mails that have none of their own."""
        settings = self._sso.settings
        names = ("password_reset_email_from", "signup_email_confirm_from", "signup_email_welcome_from")
        host = urlsplit(settings["site_url"]).hostname or ""
        return next((settings[name] for name in names if settings[name]), f"no-reply@{host}" if host else "")

    def _values(self, user: User, letter: Letter) -> dict[str, str]:
        site_url = self._sso.settings["site_url"]
        username = harmless(user.username)
        link = f"{site_url}#{letter.fragment}={letter.token}" if site_url and letter.token else ""
        return {
            "username": username,
            "display_name": harmless(user.display_name) or username,
            "token": letter.token,
            "link": link,
            "site_name": self._sso.settings["site_name"] or urlsplit(site_url).hostname or "this site",
            "site_url": site_url,
            "expiration_time_hours": f"{letter.minutes / 60:g}",
            "expiration_time_minutes": str(letter.minutes),
            "time": f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
        }


def _domain(sender: str) -> str:
    """The domain of a sender, for the identifier of a message; ASCII letters and digits."""
    domain = sender.rpartition("@")[2].strip("<> ")
    return domain if domain.isascii() and domain.replace(".", "").replace("-", "").isalnum() else "localhost"
