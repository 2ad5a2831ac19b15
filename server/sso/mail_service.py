"""Sends the e-mails that were stored."""

from __future__ import annotations

import logging
import random
import time
import traceback
from typing import TYPE_CHECKING, Any, Final

import orjson

from junctor.server.admin.service import AdminService
from junctor.server.audit.trail import ERROR, OK, REFUSED, Event
from junctor.server.email.message import SMTPMessage
from junctor.server.service.call import Call
from junctor.server.service.channel import CHANNEL, DATA_FORMAT, ChannelInfo
from junctor.server.sso.audited import TRUSTED
from junctor.server.sso.mail import FIELD, SERVICE
from junctor.sql.errors import (
    CallFailed,
    ConnectionFailed,
    InvalidInput,
    JunctorError,
    MailRefused,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from junctor.server.context import Context

FIRST_WAIT: Final = 5.0  # seconds until the second attempt
MAX_WAIT: Final = 300.0  # seconds, to which waits grow
log = logging.getLogger(__name__)


class SendMail(AdminService):
    """Sends a stored e-mail; only ``sso/mail.py`` can make its input, which is encrypted."""

    name = SERVICE

    def handle(self) -> None:
        """``sealed``: the e-mail.

        While the mail server cannot be reached, it is stored anew, to be tried later and later, for as long as its token lives; a call
        that waited in its lane would make those of others wait.  What the server refuses for good is raised: the queue tries it a few
        times, and keeps it as a dead letter.
        """
        sealed = self.text(self.fields, "sealed")
        sso = self.context.sso
        job = orjson.loads(sso.protection.unseal(sealed, FIELD))
        left = job["expires"] - time.time()
        if left <= 0:
            self._note(job, REFUSED, "It is too late: what is in the e-mail has expired.")
            return
        try:
            _send(self.context, job["message"], self.cid)
        except JunctorError as error:
            self._note(job, ERROR, str(error))
            if isinstance(error, InvalidInput) or (isinstance(error, MailRefused) and error.is_permanent):
                raise
            wait = min(FIRST_WAIT * 2 ** min(job["attempt"], 10), MAX_WAIT) * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
            if wait >= left:
                raise
            log.warning("The mail %s is tried again in %d s: %s", job["mail"], wait, error)
            sso.mail.store({**job, "attempt": job["attempt"] + 1}, self.cid, delay=wait)
        else:
            self._note(job, OK, "")

    def _note(self, job: dict[str, Any], outcome: str, reason: str) -> None:
        event = Event(
            cid=self.cid,
            op="mail.send",
            outcome=outcome,
            actor=TRUSTED,
            target=job["target"],
            reason=reason,
            extra={"mail": job["mail"]},
        )
        try:
            self.context.sso.audit.note(event)
        except (
            StoreUnavailable
        ) as error:  # the mail is sent, or will be tried again: it must not be sent twice for this
            log.error("What became of a mail could not be audited: %s", error)


def _send(context: Context, message: dict[str, Any], cid: str) -> None:
    """Raises a ``JunctorError``, none of which says anything of the message."""
    settings = context.sso.settings
    if service := settings["email_service"]:
        _hand_over(context, service, message, cid)
    elif name := settings["smtp_conn"]:
        context.email.smtp[name].send(SMTPMessage(**message))
    else:
        raise ConnectionFailed("There is neither an SMTP connection nor an e-mail service in the settings.")


def _hand_over(context: Context, service: str, message: dict[str, Any], cid: str) -> None:
    """Has a service send the message: ``from``, ``to``, ``cc``, ``bcc``, ``subject``, ``body``, ``is_html`` and ``headers``."""
    payload = {"from" if key == "from_" else key: value for key, value in message.items()}
    call = Call(service, payload, cid=cid, channel=ChannelInfo(CHANNEL.INVOKE), data_format=DATA_FORMAT.DICT)
    try:
        context.invoker.invoke(call)
    except Exception as error:  # noqa: BLE001 - logged below
        # boundary: the service of somebody else, whose message may have the token in it, and is not shown for that reason
        frames = "".join(traceback.format_tb(error.__traceback__))
        log.error(
            "E-mail service %s failed with %s:\n%s", service, type(error).__name__, frames, extra={"cid": cid}
        )
        raise CallFailed(
            f"E-mail service {service!r} failed with {type(error).__name__} (CID {cid})."
        ) from None
