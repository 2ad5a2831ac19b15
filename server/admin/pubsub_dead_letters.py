"""Dead letters of publish/subscribe for administrators: browse, edit, deliver after all, delete."""

from __future__ import annotations

from typing import Any

from junctor.server.admin.pubsub import MAX_ID, MessageService
from junctor.server.pubsub import dead_letters
from junctor.server.pubsub.browse import EDITABLE, find_queue
from junctor.server.pubsub.dead_letters import BATCH, Chosen
from junctor.server.pubsub.maintenance import tell_owners
from junctor.sql.errors import InvalidInput


class DeadLetterService(MessageService):
    """A service about dead letters."""

    zato_dont_import = True

    def letter_id(self, fields: dict[str, Any]) -> int:
        """The ``id`` of a dead letter.  Raises ``InvalidInput``."""
        if "id" not in fields:
            raise InvalidInput.one("id", "is required.")
        return int(self.number(fields, "id", 0, high=MAX_ID))

    def chosen(self, fields: dict[str, Any]) -> Chosen:
        """Which dead letters are meant.  Raises ``InvalidInput``, ``NotFound``."""
        ids = fields.get("ids")
        if ids is not None:
            is_list = isinstance(ids, list) and 0 < len(ids) <= BATCH
            if not is_list or not all(type(item) is int and 0 <= item < MAX_ID for item in ids):
                raise InvalidInput.one("ids", f"must be a list of 1 to {BATCH} ids of dead letters.")
        has_queue = fields.get("sub_key") or fields.get("subscription")
        return Chosen(
            ids,
            self.topic_id(fields, is_needed=False),
            self.queue(fields).sub_id if has_queue else 0,
            self.wanted(fields),
        )

    def several(self, fields: dict[str, Any]) -> Chosen:
        """The same for what is done to them; all there are must be meant expressly, with ``all``.  Raises ``InvalidInput``."""
        said = (
            "ids",
            "topic_name",
            "sub_key",
            "subscription",
            "msg_id",
            "correl_id",
            "query",
            "since",
            "until",
        )
        if not any(fields.get(name) for name in said) and not self.flag(fields, "all"):
            raise InvalidInput.one(
                "ids", "is required, or another choice; 'all' is every dead letter there is."
            )
        return self.chosen(fields)


class GetList(DeadLetterService):
    """Dead letters, newest first."""

    name = "zato.pubsub.dead-letter.get-list"

    def handle(self) -> None:
        """``topic_name``, ``sub_key``, ``ids``; the rest as in ``zato.pubsub.topic.get-gd-message-list``; times are those of death."""
        page = dead_letters.dead_letters(self.context.store, self.chosen(self.fields))
        self.response.payload = {"items": page.items, "cursor": page.cursor}


class Get(DeadLetterService):
    """A dead letter with all of its data."""

    name = "zato.pubsub.dead-letter.get"

    def handle(self) -> None:
        """``id``."""
        self.response.payload = dead_letters.dead_letter(self.context.store, self.letter_id(self.fields))


class Edit(DeadLetterService):
    """Changes a dead letter, before it is delivered after all."""

    name = "zato.pubsub.dead-letter.edit"

    def handle(self) -> None:
        """``id``; new ``data``, ``mime_type``, ``priority``, ``correl_id``, ``in_reply_to``."""
        fields, store = self.fields, self.context.store
        letter_id = self.letter_id(fields)
        dead_letters.edit(store, letter_id, {name: fields[name] for name in EDITABLE if name in fields})
        self.logger.info("Dead letter %d was changed by %s.", letter_id, self.who)
        self.response.payload = dead_letters.dead_letter(store, letter_id)


class Redrive(DeadLetterService):
    """Puts dead letters back into the queues of their subscriptions, at the end, or into another one."""

    name = "zato.pubsub.dead-letter.redrive"

    def handle(self) -> None:
        """``ids``, or what ``zato.pubsub.dead-letter.get-list`` takes, or ``all``; ``to_sub_key``, another subscription.

        A call takes 500 of them; the answer has their ``count``, and ``is_complete`` is false if there may be more.
        """
        fields, context = self.fields, self.context
        chosen, target = self.several(fields), self.text(fields, "to_sub_key", "")
        target_id = find_queue(context.store, sub_key=target).sub_id if target else 0
        queued = dead_letters.redrive(context.store, chosen, target_id)
        count = sum(queued.values())
        if queued:
            tell_owners(context, list(queued))
        self.logger.info("%d dead letters are delivered after all, for %s.", count, self.who)
        self.response.payload = {"count": count, "is_complete": count < BATCH}


class Delete(DeadLetterService):
    """Deletes dead letters."""

    name = "zato.pubsub.dead-letter.delete"

    def handle(self) -> None:
        """As ``zato.pubsub.dead-letter.redrive``."""
        count = dead_letters.delete(self.context.store, self.several(self.fields))
        self.logger.info("%d dead letters were deleted by %s.", count, self.who)
        self.response.payload = {"count": count, "is_complete": count < BATCH}


SERVICES = (GetList, Get, Edit, Redrive, Delete)
