"""Kinds of fields that the settings of Single Sign-On have many of."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import MappedColumn

from junctor.sql.fields import boolean, text


def inform(what: str, default: bool) -> MappedColumn[Any]:
    """Whether a caller is told something that others need not know."""
    return boolean(
        f"Say when {what}",
        f"Whether a caller is told that {what}; otherwise, the answer is the same as to any refusal.",
        default=default,
    )


def template(label: str, what: str) -> MappedColumn[Any]:
    """The text of an e-mail."""
    return text(
        label,
        f"The {what}, with placeholders such as {{username}} and {{token}}; empty = the one that comes with the server.",
        default="",
        max=50_000,
        multiline=True,
    )
