"""The register of object types."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from junctor.sql import base, fields
from junctor.sql.base import Object
from junctor.sql.errors import UnknownKind
from junctor.sql.fields import FieldType

KINDS = sorted(base.kinds())


def test_the_object_types_of_the_foundation_are_there() -> None:
    expected = {
        "cluster",
        "server",
        "service",
        "service_source",
        "security_basic_auth",
        "security_api_key",
        "channel_rest",
        "outgoing_rest",
    }
    assert expected <= set(KINDS)
    assert "security" not in KINDS, "a family is no type"


def test_a_type_comes_after_those_that_it_refers_to() -> None:
    order = list(base.kinds())
    for kind, cls in base.kinds().items():
        for target in base.references(cls).values():
            for member in base.members(target):
                assert member == kind or order.index(member) < order.index(kind), f"{kind} before {member}"


@pytest.mark.parametrize("kind", KINDS)
def test_each_type_says_what_people_need_to_know(kind: str) -> None:
    cls = base.kind_class(kind)
    assert cls.kind == kind
    assert cls.label
    assert (cls.__doc__ or "").strip()
    assert cls.verbs <= {"create", "edit", "delete"}
    assert re.fullmatch(r"zato\.[a-z-]+(\.[a-z-]+)?", base.service_prefix(cls))
    for name, field in base.declared(cls).items():
        assert re.fullmatch(r"[a-z_]+", name)
        assert field.label, name
        assert re.fullmatch(r"[^a-z].*\.", field.help), f"{kind}.{name}: the help must be a sentence"
        if field.type is FieldType.INTEGER:
            assert field.min is not None, name
            assert field.max is not None, name
        if field.is_secret:
            assert not field.required, name


@pytest.mark.parametrize("kind", KINDS)
def test_each_default_is_a_value_that_the_field_takes(kind: str) -> None:
    for name, field in base.declared(base.kind_class(kind)).items():
        if not field.required:
            _, problem = fields.check(name, field, None)
            assert problem is None


def test_names_are_unique_across_types() -> None:
    prefixes = [base.service_prefix(cls) for cls in base.kinds().values()]
    aliases = [alias for cls in base.kinds().values() for alias in cls.enmasse_aliases]
    commands = [alias for cls in base.kinds().values() for alias in cls.command_aliases]
    for names in (prefixes, aliases, commands):
        assert len(set(names)) == len(names)


def test_the_name_comes_first_and_other_fields_in_the_order_of_their_declaration() -> None:
    names = list(base.declared(base.kind_class("channel_rest")))
    assert names[:5] == ["name", "is_active", "url_path", "match_slash", "method"]


def test_a_member_has_the_fields_of_its_family() -> None:
    cls = base.kind_class("security_basic_auth")
    assert list(base.declared(cls)) == ["name", "is_active", "username", "realm", "password"]
    assert base.columns(cls)["name"].table.name == "security"
    assert base.columns(cls)["password"].table.name == "security_basic_auth"
    assert base.secrets(cls) == ["password"]


def test_a_family_has_members_and_a_type_has_itself() -> None:
    assert base.members("security") == ("security_api_key", "security_basic_auth", "security_jwt")
    assert base.members("service") == ("service",)
    assert base.members("unknown") == ("unknown",)


def test_references_name_the_types_that_they_point_at() -> None:
    assert base.references(base.kind_class("channel_rest")) == {"service": "service", "security": "security"}
    assert base.references(base.kind_class("server")) == {}


def test_an_unknown_type_is_refused_with_those_there_are() -> None:
    with pytest.raises(UnknownKind, match=r"no object type 'channel_soap'; there are: .*channel_rest"):
        base.kind_class("channel_soap")


def test_a_type_may_override_the_name_of_its_services() -> None:
    assert base.service_prefix(base.kind_class("channel_rest")) == "zato.channel-rest"
    assert base.service_prefix(base.kind_class("security_basic_auth")) == "zato.security.basic-auth"


def test_the_schema_of_a_type_has_what_surfaces_may_give() -> None:
    schema = base.json_schema(base.kind_class("service"))
    assert schema["title"] == "Service"
    assert list(schema["properties"]) == ["name", "is_active", "slow_threshold"]
    assert schema["required"] == ["name"]
    assert schema["additionalProperties"] is False

    channel = base.json_schema(base.kind_class("channel_rest"))
    assert channel["required"] == ["name", "url_path", "service"]
    assert channel["properties"]["timeout"]["x-unit"] == "s"


def test_another_package_adds_a_type_through_an_entry_point(tmp_path: Path) -> None:
    (tmp_path / "more.dist-info").mkdir()
    (tmp_path / "more.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: more\nVersion: 1\n")
    (tmp_path / "more.dist-info" / "entry_points.txt").write_text("[junctor.objects]\nfax = more_fax\n")
    (tmp_path / "more_fax.py").write_text(
        "from junctor.sql.base import Object\n"
        "from junctor.sql.fields import text\n"
        "from sqlalchemy.orm import Mapped\n"
        "class Fax(Object):\n"
        "    __tablename__ = kind = 'fax'\n"
        "    label = 'Fax machine'\n"
        "    number: Mapped[str] = text('Number', 'What to dial.')\n"
    )
    program = "from junctor.sql import base; print(list(base.declared(base.kind_class('fax'))), 'service' in base.kinds())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "['name', 'number'] True", done.stderr


def test_a_type_has_no_check_of_its_own_unless_it_declares_one() -> None:
    assert list(Object.check({}, None, None)) == []  # type: ignore[arg-type]
