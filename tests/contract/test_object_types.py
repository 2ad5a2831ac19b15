"""Every object type on every surface: what a declaration says is so everywhere, and nothing more has to be written for it.

A new type is covered by being declared; see ``tests/helpers/samples.py`` for what a declaration cannot say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from junctor.cli import manifest
from junctor.server.admin.objects import OVERRIDDEN
from junctor.server.client import RemoteError
from junctor.server.runtime.live import live_classes
from junctor.sql import base
from junctor.sql.errors import InvalidInput
from junctor.sql.fields import FieldType
from junctor.sql.store import Store
from tests.helpers.cluster import ClusterUnderTest
from tests.helpers.samples import referring, required, sample, settable, wrong_values

ROOT = Path(base.__file__).resolve().parent.parent
KINDS = sorted(base.kinds())
MADE = [kind for kind in KINDS if "create" in base.kind_class(kind).verbs]
SYSTEM = {"id", "version", "is_internal", "owner"}
ANSWER = {"config_version", "converged", "missing"}
SERVICE_FILE = (
    "from zato.server.service import Service\n\n\nclass Contract(Service):\n    name = 'contract.service'\n\n"
    "    def handle(self):\n        self.response.payload = 'ok'\n"
)


@pytest.fixture(scope="module")
def references(cluster: ClusterUnderTest) -> Mapping[str, str]:
    """The name of an object of each type and family that other types refer to."""
    made = {"service": "contract.service", "service_source": "contract.py"}
    cluster.deploy(contract=SERVICE_FILE)
    for kind in base.kinds():
        for target in base.references(base.kind_class(kind)).values():
            if target not in made:
                member = base.members(target)[0]
                cluster.write(f"{prefix(member)}.create", **sample(member, f"contract-{target}", made))
                made[target] = f"contract-{target}"
    return made


@pytest.fixture(scope="module")
def store(cluster: ClusterUnderTest) -> Iterator[Store]:
    """The cluster's store."""
    store = cluster.store()
    yield store
    store.engine.dispose()


def prefix(kind: str) -> str:
    """The first part of the names of a type's administrative services."""
    return base.service_prefix(base.kind_class(kind))


def shown_fields(kind: str) -> set[str]:
    """What surfaces show of an object."""
    cls = base.kind_class(kind)
    secrets = set(base.secrets(cls))
    return (set(base.declared(cls)) - secrets) | SYSTEM | ({"secrets"} if secrets else set())


def expected(kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What surfaces show of the fields that were given: all but secrets."""
    return {key: value for key, value in given.items() if key not in base.secrets(base.kind_class(kind))}


def version(cluster: ClusterUnderTest) -> int:
    """The newest version of the configuration."""
    found: int = cluster.invoke("junctor.cluster.wait", {})["version"]
    return found


# Files that make objects of their own, and objects have fields: what every cluster has from its start, topics of services, chaos.
MAKE_OBJECTS = (
    "server/admin/builtin.py",
    "server/outgoing/websocket_subscriptions.py",  # at the remote end
    "server/pubsub/durable.py",
    "server/pubsub/service_topics.py",
    "server/sso/oidc/rest_channels.py",
    "server/sso/rest_channels.py",
    "cli/chaos/scenery.py",
)


class TestDeclarations:
    @pytest.mark.parametrize("kind", KINDS)
    def test_each_field_tells_people_what_it_is(self, kind: str) -> None:
        cls = base.kind_class(kind)
        assert cls.label
        assert re.fullmatch(r"[A-Z].*[.]", (cls.__doc__ or "").partition("\n")[0])
        labels = [field.label for field in base.declared(cls).values()]
        assert len(set(labels)) == len(labels)
        for name, field in base.declared(cls).items():
            assert re.fullmatch(r"[A-Z][^.]*", field.label), name
            assert re.fullmatch(r"(?s)\S.*\S[.]", field.help), name

    @pytest.mark.parametrize("kind", KINDS)
    def test_numbers_have_limits_and_a_unit_when_they_are_of_something(self, kind: str) -> None:
        without_unit = {"port", "access_log_sample"}  # a name that happens to be a number, and a ratio
        for name, field in base.declared(base.kind_class(kind)).items():
            if field.type is FieldType.INTEGER:
                assert None not in (field.min, field.max), name
                assert field.unit or name in without_unit, name

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_default_is_itself_a_valid_value(self, kind: str) -> None:
        from junctor.sql.fields import check

        for name, field in base.declared(base.kind_class(kind)).items():
            if not field.required:
                assert check(name, field, field.default)[1] is None

    @pytest.mark.parametrize("kind", KINDS)
    def test_workers_keep_a_live_counterpart_or_the_type_says_that_they_need_none(self, kind: str) -> None:
        assert (kind in live_classes()) == base.kind_class(kind).needs_live

    @pytest.mark.parametrize("kind", KINDS)
    def test_no_other_file_repeats_a_types_fields(self, kind: str) -> None:
        """A list of a type's fields outside of its declaration would be one more place to change.

        Live classes take their fields out, ``settings["field"]`` reads one where it is needed, and migrations are history; services
        of the files have fields of their own.
        """
        allowed = ("sql/objects/", "sql/migrations/", "tests/", "docs/", "client/", "deploy/")
        live = {
            Path(module.replace("junctor.", "").replace(".", "/")).as_posix() for module in live_modules()
        }
        own = {name for name in settable(kind) if "_" in name and name not in ("is_active", "data_format")}
        repeated = {}
        for path in sorted(ROOT.glob("*/**/*.py")):
            relative = path.relative_to(ROOT).as_posix()
            if relative.startswith((*allowed, ".")) or relative.removesuffix(".py") in live:
                continue
            text = path.read_text("utf-8")
            found = {name for name in own if re.search(rf"(?<!settings\[)[\"']{name}[\"']\s*[:\]]", text)}
            if len(found) > 2:
                repeated[relative] = found
        for name in MAKE_OBJECTS:
            repeated.pop(name, None)
        assert not repeated


def live_modules() -> set[str]:
    """The modules that live classes are in."""
    return {cls.__module__ for cls in live_classes().values()}


class TestSurfaces:
    @pytest.mark.parametrize("kind", KINDS)
    def test_the_json_schema_has_the_fields_that_can_be_given(
        self, cluster: ClusterUnderTest, kind: str
    ) -> None:
        schema = base.json_schema(base.kind_class(kind))
        declared = base.declared(base.kind_class(kind))
        given = {"name", *settable(kind)}
        assert set(schema["properties"]) == given
        assert set(schema["required"]) == {name for name in given if declared[name].required}
        assert schema["additionalProperties"] is False
        for name, item in schema["properties"].items():
            field = declared[name]
            assert (item["title"], item["description"]) == (field.label, field.help)
            assert item.get("x-unit", "") == field.unit
            assert item.get("writeOnly", False) == field.is_secret
            assert "default" not in item or not field.is_secret
        whole = cluster.invoke("junctor.enmasse.schema")
        if kind in MADE:
            assert whole["properties"][kind]["items"] == schema
        else:
            assert kind not in whole["properties"]

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_command_line_knows_the_same_fields_and_verbs(self, kind: str) -> None:
        (info,) = [info for info in manifest.load() if info.kind == kind]
        cls = base.kind_class(kind)
        assert (info.label, info.service, set(info.verbs)) == (cls.label, prefix(kind), set(cls.verbs))
        declared = base.declared(cls)
        assert [field.name for field in info.fields] == list(declared)
        for field in info.fields:
            same = declared[field.name]
            assert (field.label, field.help, field.unit) == (same.label, same.help, same.unit)
            assert (field.required, field.is_secret, field.reference) == (
                same.required,
                same.is_secret,
                same.reference,
            )

    @pytest.mark.parametrize("kind", KINDS)
    def test_there_is_a_service_for_each_verb_and_no_other(
        self, cluster: ClusterUnderTest, kind: str
    ) -> None:
        names = {item["name"] for item in services(cluster)}
        verbs = {*base.kind_class(kind).verbs, "get", "get-list"}
        for verb in ("create", "edit", "delete", "get", "get-list"):
            assert (f"{prefix(kind)}.{verb}" in names) == (verb in verbs), verb

    @pytest.mark.parametrize("kind", KINDS)
    def test_objects_that_there_are_are_shown_alike_by_themselves_and_in_lists(
        self, cluster: ClusterUnderTest, references: Mapping[str, str], kind: str
    ) -> None:
        if kind in MADE:
            cluster.write(f"{prefix(kind)}.create", **required(kind, f"shown-{kind}", references))
        listed = cluster.invoke(f"{prefix(kind)}.get-list", {"internal": True, "limit": 5})["items"]
        assert listed
        for item in listed:
            assert set(item) == shown_fields(kind)
            assert cluster.invoke(f"{prefix(kind)}.get", {"id": item["id"]}) == item
            assert cluster.invoke(f"{prefix(kind)}.get", {"name": item["name"]}, server=1) == item


def services(cluster: ClusterUnderTest) -> list[dict[str, Any]]:
    """Every service of the cluster."""
    listed: list[dict[str, Any]] = cluster.invoke("zato.service.get-list", {"internal": True, "limit": 1000})[
        "items"
    ]
    return listed


class TestLifeThroughTheAPI:
    @pytest.mark.parametrize("kind", MADE)
    def test_an_object_is_created_read_changed_and_deleted(
        self, cluster: ClusterUnderTest, references: Mapping[str, str], kind: str
    ) -> None:
        name = f"life-{kind}"
        given = sample(kind, name, references)
        created = cluster.write(f"{prefix(kind)}.create", **given)
        assert set(created) == shown_fields(kind) | ANSWER
        assert {key: created[key] for key in expected(kind, given)} == expected(kind, given)
        read = cluster.invoke(f"{prefix(kind)}.get", {"name": name}, server=1)
        assert read == {key: value for key, value in created.items() if key not in ANSWER}
        (listed,) = cluster.invoke(f"{prefix(kind)}.get-list", {"query": name})["items"]
        assert listed == read

        other = sample(kind, name, references, variant=1)
        edited = cluster.write(f"{prefix(kind)}.edit", **other, expected_version=1)
        assert set(edited) == set(created)
        assert {key: edited[key] for key in expected(kind, other)} == expected(kind, other)
        assert (edited["id"], edited["version"]) == (created["id"], 2)
        assert edited["config_version"] > created["config_version"]
        for secret in base.secrets(base.kind_class(kind)):
            assert edited["secrets"][secret] != created["secrets"][secret] != ""

        gone = cluster.write(f"{prefix(kind)}.delete", name=name)
        assert (gone["id"], gone["name"]) == (created["id"], name)
        with pytest.raises(RemoteError) as refused:
            cluster.invoke(f"{prefix(kind)}.get", {"name": name})
        assert (refused.value.status, refused.value.error) == (404, "NotFound")

    @pytest.mark.parametrize("kind", MADE)
    def test_what_must_be_given_is_enough_and_the_rest_has_the_declared_defaults(
        self, cluster: ClusterUnderTest, references: Mapping[str, str], kind: str
    ) -> None:
        given = required(kind, f"least-{kind}", references)
        made = cluster.write(f"{prefix(kind)}.create", **given)
        for name, field in settable(kind).items():
            if field.is_secret:
                assert made["secrets"][name] == ""
            elif name not in given:
                assert made[name] == (list(field.default) if field.type is FieldType.LIST else field.default)
        cluster.write(f"{prefix(kind)}.delete", name=f"least-{kind}")

    @pytest.mark.parametrize("kind", MADE)
    def test_every_wrong_field_is_named_at_once(
        self, cluster: ClusterUnderTest, references: Mapping[str, str], kind: str
    ) -> None:
        fields = settable(kind)
        for position in range(max(len(wrong_values(field)) for field in fields.values())):
            given: dict[str, Any] = {"name": f"wrong-{kind}"}
            for name, field in fields.items():
                values = wrong_values(field)
                given[name] = values[position % len(values)]
            with pytest.raises(InvalidInput) as refused:
                cluster.invoke(f"{prefix(kind)}.create", given)
            assert {problem.field for problem in refused.value.problems} == set(fields)
            assert all(problem.message.endswith(".") for problem in refused.value.problems)

    @pytest.mark.parametrize("kind", MADE)
    def test_missing_and_unknown_fields_are_refused(
        self, cluster: ClusterUnderTest, references: Mapping[str, str], kind: str
    ) -> None:
        needed = {name for name, field in settable(kind).items() if field.required}
        if needed:
            with pytest.raises(InvalidInput) as refused:
                cluster.invoke(f"{prefix(kind)}.create", {"name": f"none-{kind}"})
            assert {problem.field for problem in refused.value.problems} == needed
        given = required(kind, f"none-{kind}", references) | {"colour": 1, "is_internal": True, "id": 5}
        with pytest.raises(InvalidInput) as refused:
            cluster.invoke(f"{prefix(kind)}.create", given)
        assert {problem.field for problem in refused.value.problems} == {"colour", "is_internal", "id"}

    @pytest.mark.parametrize("kind", MADE)
    def test_a_name_is_there_once(
        self, cluster: ClusterUnderTest, references: Mapping[str, str], kind: str
    ) -> None:
        one, two = (required(kind, f"{name}-{kind}", references) for name in ("once", "twice"))
        cluster.write(f"{prefix(kind)}.create", **one)
        cluster.write(f"{prefix(kind)}.create", **two)
        same = required(kind, f"third-{kind}", references) | {"name": one["name"]}
        for verb, fields in (("create", same), ("edit", {"name": two["name"], "new_name": one["name"]})):
            with pytest.raises(RemoteError) as refused:
                cluster.invoke(f"{prefix(kind)}.{verb}", fields)
            assert (refused.value.status, refused.value.error) == (409, "AlreadyExists")
        for item in (one, two):
            cluster.write(f"{prefix(kind)}.delete", name=item["name"])

    @pytest.mark.parametrize("kind", MADE)
    def test_of_two_who_edit_one_version_the_second_is_told(
        self, cluster: ClusterUnderTest, references: Mapping[str, str], kind: str
    ) -> None:
        name = f"race-{kind}"
        cluster.write(f"{prefix(kind)}.create", **sample(kind, name, references))
        cluster.write(f"{prefix(kind)}.edit", **sample(kind, name, references, variant=1), expected_version=1)
        with pytest.raises(RemoteError) as refused:
            cluster.invoke(f"{prefix(kind)}.edit", {"name": name, "expected_version": 1})
        assert (refused.value.status, refused.value.error) == (409, "EditConflict")
        cluster.write(f"{prefix(kind)}.delete", name=name)

    @pytest.mark.parametrize("kind", MADE)
    def test_an_edit_without_a_difference_is_no_change(
        self, cluster: ClusterUnderTest, references: Mapping[str, str], kind: str
    ) -> None:
        given = sample(kind, f"same-{kind}", references)
        created = cluster.write(f"{prefix(kind)}.create", **given)
        edited = cluster.write(f"{prefix(kind)}.edit", **given)
        assert (edited["version"], edited["config_version"]) == (1, created["config_version"])
        cluster.write(f"{prefix(kind)}.delete", name=given["name"])

    @pytest.mark.parametrize(
        ("kind", "field"),
        [(kind, field) for kind in MADE for field in base.references(base.kind_class(kind))],
    )
    def test_what_is_in_use_is_not_deleted_and_a_new_name_reaches_its_users(
        self, cluster: ClusterUnderTest, references: Mapping[str, str], kind: str, field: str
    ) -> None:
        target = base.references(base.kind_class(kind))[field]
        user = f"user-{kind}-{field}"
        for member in base.members(target):
            if member not in MADE:
                continue
            used = f"used-{kind}-{field}-{member}"
            cluster.write(f"{prefix(member)}.create", **required(member, used, references))
            given = referring(kind, user, references, field) | {field: used}
            cluster.write(f"{prefix(kind)}.create", **given)
            with pytest.raises(RemoteError, match=re.escape(repr(user))) as refused:
                cluster.invoke(f"{prefix(member)}.delete", {"name": used})
            assert (refused.value.status, refused.value.error) == (409, "InUse")
            cluster.write(f"{prefix(member)}.edit", name=used, new_name=f"{used}-2")
            assert cluster.invoke(f"{prefix(kind)}.get", {"name": user})[field] == f"{used}-2"
            cluster.write(f"{prefix(kind)}.delete", name=user)
            cluster.write(f"{prefix(member)}.delete", name=f"{used}-2")

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if "edit" in base.kind_class(kind).verbs])
    def test_what_code_knows_by_its_name_is_not_renamed(self, cluster: ClusterUnderTest, kind: str) -> None:
        if base.kind_class(kind).is_renamable:
            return  # and what may be renamed is, in the test of references
        (item,) = cluster.invoke(f"{prefix(kind)}.get-list", {"internal": True, "limit": 1})["items"]
        with pytest.raises(InvalidInput, match="cannot be changed: code knows it by this name"):
            cluster.invoke(f"{prefix(kind)}.edit", {"name": item["name"], "new_name": "another.name"})

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if "edit" in base.kind_class(kind).verbs])
    def test_what_the_server_sets_cannot_be_given(self, cluster: ClusterUnderTest, kind: str) -> None:
        declared = base.declared(base.kind_class(kind))
        read_only = [name for name, field in declared.items() if field.read_only]
        items = cluster.invoke(f"{prefix(kind)}.get-list", {"internal": True, "limit": 1})["items"]
        for name in read_only:
            with pytest.raises(InvalidInput, match=f"{name}: is set by the server"):
                cluster.invoke(f"{prefix(kind)}.edit", {"name": items[0]["name"], name: "x"})


class TestBulk:
    @pytest.mark.parametrize("kind", MADE)
    def test_objects_are_created_changed_and_deleted_by_documents(
        self, cluster: ClusterUnderTest, references: Mapping[str, str], kind: str
    ) -> None:
        name, owner = f"bulk-{kind}", f"owner-{kind}"
        for variant in (0, 1):
            given = sample(kind, name, references, variant=variant)
            cluster.write("junctor.enmasse.import", document={kind: [given]}, owner=owner)
            read = cluster.invoke(f"{prefix(kind)}.get", {"name": name})
            assert {key: read[key] for key in expected(kind, given)} == expected(kind, given)
            assert (read["version"], read["owner"]) == (variant + 1, owner)
            before = version(cluster)
            again = cluster.invoke("junctor.enmasse.import", {"document": {kind: [given]}})
            assert (again["changes"], again["config_version"]) == ([], before)
        cluster.write("junctor.enmasse.import", document={}, owner=owner, prune=True)
        assert cluster.invoke(f"{prefix(kind)}.get-list", {"query": name})["total"] == 0

    @pytest.mark.parametrize("kind", MADE)
    def test_an_export_has_what_differs_from_the_defaults_and_importing_it_is_no_change(
        self, cluster: ClusterUnderTest, references: Mapping[str, str], kind: str
    ) -> None:
        full = sample(kind, f"export-a-{kind}", references)
        least = required(kind, f"export-b-{kind}", references)
        if "url_path" in least:
            least["url_path"] = f"/export-b-{kind}"
        cluster.write("junctor.enmasse.import", document={kind: [full, least]})
        document = cluster.invoke("junctor.enmasse.export")["document"]
        exported = {item["name"]: item for item in document[kind]}
        assert exported[least["name"]] == expected(kind, least)
        fields = settable(kind)
        assert exported[full["name"]] == {
            key: value
            for key, value in expected(kind, full).items()
            if key == "name" or fields[key].required or value != fields[key].default
        }
        before = version(cluster)
        answer = cluster.invoke("junctor.enmasse.import", {"document": document})
        assert (answer["changes"], version(cluster)) == ([], before)
        assert cluster.invoke("junctor.enmasse.export")["document"] == document
        for item in (full, least):
            cluster.write(f"{prefix(kind)}.delete", name=item["name"])

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in MADE])
    def test_types_that_nobody_creates_are_not_in_documents(
        self, cluster: ClusterUnderTest, kind: str
    ) -> None:
        assert kind not in cluster.invoke("junctor.enmasse.export", {"internal": True})["document"]
        with pytest.raises(InvalidInput, match=f"{kind}: is not a type of objects"):
            cluster.invoke("junctor.enmasse.import", {"document": {kind: []}})


class TestSecrets:
    @pytest.mark.parametrize("kind", [kind for kind in KINDS if base.secrets(base.kind_class(kind))])
    def test_no_secret_is_in_any_answer_log_change_or_export(
        self, cluster: ClusterUnderTest, references: Mapping[str, str], store: Store, kind: str
    ) -> None:
        name = f"secret-{kind}"
        answers: list[Any] = []
        for verb, variant in (("create", 0), ("edit", 1)):
            answers.append(
                cluster.write(f"{prefix(kind)}.{verb}", **sample(kind, name, references, variant=variant))
            )
        given = sample(kind, name, references)
        wrong = given | dict.fromkeys(base.secrets(base.kind_class(kind)), "canary-" + "x" * 1000)
        for refused in (given, wrong, given | {"colour": 1}):
            with pytest.raises((RemoteError, InvalidInput)) as error:
                cluster.invoke(f"{prefix(kind)}.create", refused)
            answers.append(str(error.value))
        answers += [
            cluster.invoke("junctor.enmasse.import", {"document": {kind: [given]}, "dry_run": True}),
            cluster.invoke(f"{prefix(kind)}.get", {"name": name}),
            cluster.invoke(f"{prefix(kind)}.get-list", {"query": name}),
            cluster.invoke("junctor.enmasse.export", {"internal": True}),
            cluster.invoke("junctor.config.history", {"limit": 50}),
            cluster.invoke("junctor.cluster.status"),
            cluster.write(f"{prefix(kind)}.delete", name=name),
        ]
        with store.engine.connect() as connection:
            changes = connection.exec_driver_sql("SELECT c::text FROM config_change c").scalars().all()
        last = cluster.servers[1].get("/zato/ping").headers["X-Zato-CID"]
        cluster.servers[1].logged("access", cid=last)
        logs = [
            path.read_text("utf-8")
            for server in cluster.servers
            for path in (*server.directory.glob("logs/*.log*"), server.directory / "output")
        ]
        for text in (*map(repr, answers), *changes, *logs):
            assert f"canary-{kind}" not in text
            assert "canary-xxx" not in text


def test_verbs_that_have_a_service_of_their_own_are_verbs_of_the_type() -> None:
    for kind, verb in OVERRIDDEN:
        assert verb in base.kind_class(kind).verbs
