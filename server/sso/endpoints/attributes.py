"""Endpoints about attributes of users and of sessions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from junctor.server.sso.attributes import EntityAttributes
from junctor.server.sso.codes import status_code
from junctor.server.sso.endpoints.declaration import MAX_ITEMS, Endpoint, Field, Given, Output, Type, Who
from junctor.server.sso.endpoints.vocabulary import CURRENT_APP, CURRENT_UST, SUPER_USER_CODES, path
from junctor.server.sso.errors import missing

Of = Callable[[Given], EntityAttributes]
CODES: Final = (
    *SUPER_USER_CODES,
    status_code.user_id.invalid,
    status_code.common.invalid_input,
    status_code.common.missing_input,
)
MAX_SECONDS: Final = 100 * 366 * 86_400
NAME: Final = Field(name="name", help="Name of one attribute.", max=200)
NAMES: Final = Field(
    name="data", help="Names of many attributes, instead of `name`.", type=Type.TEXTS, max=MAX_ITEMS
)
WRITTEN: Final = (
    NAME,
    Field(
        name="value",
        help="Value of one attribute; anything that JSON can have.",
        type=Type.ANY,
        is_nullable=True,
    ),
    Field(
        name="data",
        help="Many attributes, instead of `name` and `value`: objects of name, value, expiration and encrypt.",
        type=Type.OBJECTS,
        max=MAX_ITEMS,
    ),
    Field(
        name="expiration",
        help="Seconds from now after which it is gone; never, if not given.",
        type=Type.INTEGER,
        min=-MAX_SECONDS,
        max=MAX_SECONDS,
    ),
    Field(name="encrypt", help="Whether the value is encrypted in the database.", type=Type.BOOLEAN),
)
DECRYPT: Final = Field(
    name="decrypt", help="Whether an encrypted value is shown; true by default.", type=Type.BOOLEAN
)
READ: Final = (
    Output(name="found", help="Whether there is such an attribute.", type=Type.BOOLEAN),
    Output(name="name", help="Its name."),
    Output(name="value", help="Its value.", type=Type.ANY, is_kept=True),
    Output(name="creation_time", help="When it was created.", type=Type.TIME),
    Output(name="last_modified", help="When it was last changed.", type=Type.TIME),
    Output(name="expiration_time", help="When it will be gone.", type=Type.TIME),
    Output(name="is_encrypted", help="Whether it is encrypted in the database.", type=Type.BOOLEAN),
    Output(
        name="result",
        help="For many: an object of those that exist, by their names.",
        type=Type.OBJECT,
        is_kept=True,
    ),
)


def of_user(given: Given) -> EntityAttributes:
    """The attributes of the user that is meant."""
    return given.sso.attributes.of_user(given.caller, given.text("user_id"))


def of_session(given: Given) -> EntityAttributes:
    """The attributes of the session that is meant."""
    return given.sso.attributes.of_session(given.caller, given.text("target_ust"))


def writes(of: Of, method: str) -> Callable[[Given], None]:
    """What writes one attribute with this method of the attributes, or many with the one for many."""

    def write(given: Given) -> None:
        more = {"expiration": given.values.get("expiration"), "encrypt": given.flag("encrypt")}
        attributes = of(given)
        if given.values.get("data") is not None:
            getattr(attributes, f"{method}_many")(given.values["data"], **more)
            return
        if "value" not in given.values:
            raise missing("value")
        getattr(attributes, method)(given.text("name"), given.values["value"], **more)

    return write


def gets(of: Of) -> Callable[[Given], dict[str, Any]]:
    """What reads one attribute, or many."""

    def get(given: Given) -> dict[str, Any]:
        decrypt = given.flag("decrypt", default=True)
        if given.values.get("data") is not None:
            return {"result": of(given).get_many(given.values["data"], decrypt=decrypt)}
        name = given.text("name")
        found = of(given).get(name, decrypt=decrypt)
        if found is None:
            return {"found": False, "name": name}
        return {"found": True, **found.to_dict()}

    return get


def deletes(of: Of) -> Callable[[Given], None]:
    """What deletes one attribute, or many."""

    def delete(given: Given) -> None:
        if given.values.get("data") is not None:
            of(given).delete_many(given.values["data"])
        else:
            of(given).delete(given.text("name"))

    return delete


def exists(of: Of) -> Callable[[Given], dict[str, Any]]:
    """What says whether there is an attribute; or which of many there are."""

    def exist(given: Given) -> dict[str, Any]:
        if given.values.get("data") is not None:
            return {"result": of(given).exists_many(given.values["data"])}
        return {"result": of(given).exists(given.text("name"))}

    return exist


def names(of: Of) -> Callable[[Given], dict[str, Any]]:
    """What lists the names of all attributes."""
    return lambda given: {"result": of(given).names()}


def endpoints(kind: str, whose: Field, of: Of) -> Iterator[Endpoint]:
    """The endpoints of attributes of a kind."""
    asks = (CURRENT_UST, CURRENT_APP, whose)
    yield from _writing(kind, asks, of)
    yield from _reading(kind, asks, of)


def _writing(kind: str, asks: tuple[Field, ...], of: Of) -> Iterator[Endpoint]:
    for method, verb, summary, codes in (
        ("POST", "create", f"Create attributes of a {kind}", (status_code.attr.already_exists,)),
        ("PATCH", "update", f"Change attributes of a {kind}", (status_code.attr.no_such_attr,)),
        ("PUT", "set", f"Create or change attributes of a {kind}", ()),
    ):
        yield Endpoint(
            method=method,
            path=path(f"{kind}/attr"),
            summary=summary,
            description="All of those given, or none.",
            who=Who.OWNER_OR_SUPER_USER,
            action=writes(of, verb),
            fields=(*asks, *WRITTEN),
            codes=(*CODES, *codes),
        )
    yield Endpoint(
        method="DELETE",
        path=path(f"{kind}/attr"),
        summary=f"Delete attributes of a {kind}",
        description="They need not exist.",
        who=Who.OWNER_OR_SUPER_USER,
        action=deletes(of),
        fields=(*asks, NAME, NAMES),
        codes=CODES,
    )


def _reading(kind: str, asks: tuple[Field, ...], of: Of) -> Iterator[Endpoint]:
    yield Endpoint(
        method="GET",
        path=path(f"{kind}/attr"),
        summary=f"Read attributes of a {kind}",
        who=Who.OWNER_OR_SUPER_USER,
        action=gets(of),
        fields=(*asks, NAME, NAMES, DECRYPT),
        outputs=READ,
        codes=CODES,
    )
    yield Endpoint(
        method="GET",
        path=path(f"{kind}/attr/exists"),
        summary=f"Which attributes of a {kind} there are",
        who=Who.OWNER_OR_SUPER_USER,
        action=exists(of),
        fields=(*asks, NAME, NAMES),
        outputs=(
            Output(
                name="result",
                help="true or false for one; for many, an object of these, by their names.",
                type=Type.ANY_RESULT,
            ),
        ),
        codes=CODES,
    )
    yield Endpoint(
        method="GET",
        path=path(f"{kind}/attr/names"),
        summary=f"Names of all attributes of a {kind}",
        who=Who.OWNER_OR_SUPER_USER,
        action=names(of),
        fields=asks,
        outputs=(Output(name="result", help="Names.", type=Type.TEXTS, is_kept=True),),
        codes=CODES,
    )


ATTRIBUTES: Final = (
    *endpoints(
        "user", Field(name="user_id", help="Whose they are; the caller's, if not given.", max=200), of_user
    ),
    *endpoints(
        "session",
        Field(
            name="target_ust",
            help="The token of the session that they are of; the caller's, if not given.",
            is_secret=True,
        ),
        of_session,
    ),
)
