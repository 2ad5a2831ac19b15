"""Administration of connections to mail servers beyond what every object has."""

from __future__ import annotations

from junctor.server.admin.service import AdminService
from junctor.sql.errors import ConnectionFailed
from junctor.sql.objects.email import EmailSmtp


class Ping(AdminService):
    """Tries an SMTP connection out: connects, encrypts, logs in, and sends a message to its ping address if there is one."""

    name = "zato.email.smtp.ping"

    def handle(self) -> None:
        """``id``, or ``name``.  Answers with ``is_ok`` and ``info``, a sentence; raises ``NotFound``."""
        fields, store = self.fields, self.context.store
        id_ = fields.get("id")
        if isinstance(id_, int) and not isinstance(id_, bool):
            name = store.get_by_id(EmailSmtp.kind, id_).name
        else:
            name = store.get(EmailSmtp.kind, self.text(fields, "name")).name
        try:
            seconds = self.context.email.smtp[name].ping()
        except ConnectionFailed as error:
            self.response.payload = {"is_ok": False, "info": str(error)}
        else:
            self.response.payload = {"is_ok": True, "info": f"{name} works; it took {seconds:.3f} s."}
