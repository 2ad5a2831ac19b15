"""Deploying service files: tried first, then stored as one version of the configuration, from which every worker loads them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, select

from junctor.server.admin.service import DEFAULT_WAIT, MAX_WAIT, AdminService
from junctor.server.service.hot_deploy import LoadedModule, deployment_order, load_source, publish, unload
from junctor.server.service.info import ServiceInfo
from junctor.sql.engine import database_errors
from junctor.sql.errors import DeploymentRefused, InUse, InvalidInput, NotFound
from junctor.sql.store import Store
from junctor.sql.tables.change import ServiceSourceVersion
from junctor.sql.transaction import Transaction

if TYPE_CHECKING:
    from junctor.server.context import Context

MAX_FILES = 500


@dataclass(frozen=True, slots=True)
class Deployed:
    """A deployment that was stored: the version of the configuration that has it, and the services of each file."""

    version: int
    services: Sequence[tuple[str, str]]


def deploy(context: Context, sources: Mapping[str, str], *, who: str, cid: str = "") -> Deployed:
    """Stores files with their services, all of them or none.

    ``sources`` maps file names to their texts.  Each is loaded here first.  Raises ``DeploymentRefused``, naming the file,
    the line and the reason, when one does not load, has a service whose name another file has, or does not have one any
    more that something refers to.
    """
    loaded = _tried(sources)
    names = {module.file_name: {service.name for service in module.services} for module in loaded}
    with context.store.transaction(who=who, cid=cid) as transaction:
        for module in loaded:
            _store(transaction, module, sources[module.file_name], who)
            for service in module.services:
                _store_service(transaction, module.file_name, service, names)
        for module in loaded:
            _remove_missing(transaction, module)
    services = [(module.file_name, service.name) for module in loaded for service in module.services]
    return Deployed(transaction.version, services)


def undeploy(context: Context, file_name: str, *, who: str, cid: str = "") -> int:
    """Deletes a file and its services; the version of the configuration.  Raises ``NotFound``, ``InUse``."""
    with context.store.transaction(who=who, cid=cid) as transaction:
        source = transaction.read_named("service_source", file_name)
        for row in list(transaction.others("service", None, source=source.id)):
            transaction.delete("service", row.name)
        transaction.delete("service_source", file_name)
    return transaction.version


def versions(store: Store, file_name: str) -> list[dict[str, Any]]:
    """The versions of a file, newest first: number, digest, who, when.  Raises ``NotFound`` when there are none."""
    statement = (
        select(
            ServiceSourceVersion.number,
            ServiceSourceVersion.digest,
            ServiceSourceVersion.who,
            ServiceSourceVersion.at,
        )
        .where(ServiceSourceVersion.cluster_id == store.cluster_id, ServiceSourceVersion.name == file_name)
        .order_by(ServiceSourceVersion.number.desc())
    )
    with database_errors(), store.engine.connect() as connection:
        rows = connection.execute(statement).all()
    if not rows:
        raise NotFound("service source", file_name)
    return [
        {"number": row.number, "digest": row.digest, "who": row.who, "at": row.at.isoformat()} for row in rows
    ]


def text_of(store: Store, file_name: str, number: int) -> str:
    """The text of a version of a file; raises ``NotFound``."""
    statement = select(ServiceSourceVersion.content).where(
        ServiceSourceVersion.cluster_id == store.cluster_id,
        ServiceSourceVersion.name == file_name,
        ServiceSourceVersion.number == number,
    )
    with database_errors(), store.engine.connect() as connection:
        found = connection.scalar(statement)
    if found is None:
        raise NotFound("version", f"{file_name}, number {number}")
    return found


def digest_of(source: str) -> str:
    """The SHA-256 of a file's text, in hex."""
    return hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()


def _tried(sources: Mapping[str, str]) -> list[LoadedModule]:
    """The modules, loaded on trial, each after those that it imports; nothing of them stays."""
    loaded: list[LoadedModule] = []
    try:
        for name in deployment_order(sources):
            module = load_source(name, sources[name], f"trial-{digest_of(sources[name])}")
            loaded.append(module)
            publish(module)
    finally:
        for module in reversed(loaded):
            unload(module)
    return loaded


def _store(transaction: Transaction, module: LoadedModule, source: str, who: str) -> None:
    name = module.file_name
    data, digest = {"content": source}, digest_of(source)
    system = {"digest": digest, "deployed_by": who}
    existing = transaction.find("service_source", name)
    if existing is None:
        transaction.create("service_source", data | {"name": name}, system=system)
    elif existing["digest"] != digest:
        transaction.edit("service_source", name, data, system=system)
    if existing is None or existing["digest"] != digest:
        _keep_version(transaction, name, source, who)


def _store_service(
    transaction: Transaction, file_name: str, service: ServiceInfo, names: Mapping[str, set[str]]
) -> None:
    """Stores a service of a file; ``names`` are those of the services of each file that is deployed now."""
    name = service.name
    existing = transaction.find("service", name)
    system = {"impl_name": service.impl_name, "source": file_name}
    if existing is None:
        transaction.create("service", {"name": name}, system=system)
        return
    other = existing["source"]
    is_free = not other and not existing["is_internal"]
    has_left = other in names and name not in names[other]
    if other != file_name and not is_free and not has_left:
        where = f"in {other}" if other else "in Junctor itself"
        raise DeploymentRefused(file_name, f"there is a service {name!r} already, {where}")
    transaction.edit("service", name, {}, system=system)


def _remove_missing(transaction: Transaction, module: LoadedModule) -> None:
    """Deletes the services that the file has no more."""
    names = {service.name for service in module.services}
    source = transaction.read_named("service_source", module.file_name)
    for row in list(transaction.others("service", None, source=source.id)):
        if row.name not in names:
            try:
                transaction.delete("service", row.name)
            except InUse as error:
                raise DeploymentRefused(
                    module.file_name, f"the file does not have a service any more that is needed: {error}"
                ) from error


def _keep_version(transaction: Transaction, name: str, source: str, who: str) -> None:
    mine = (ServiceSourceVersion.cluster_id == transaction.cluster_id, ServiceSourceVersion.name == name)
    newest = transaction.connection.scalar(select(func.max(ServiceSourceVersion.number)).where(*mine))
    values = {
        "cluster_id": transaction.cluster_id,
        "name": name,
        "number": (newest or 0) + 1,
        "content": source,
        "digest": digest_of(source),
        "who": who,
    }
    transaction.connection.execute(insert(ServiceSourceVersion).values(values))


class Deploy(AdminService):
    """Deploys service files on all servers: all of them, or none when one is refused."""

    name = "junctor.service.deploy"

    def handle(self) -> None:
        """``files``: objects with a ``name`` and a ``content``; ``wait`` in seconds."""
        fields = self.fields
        wait = self.number(fields, "wait", DEFAULT_WAIT, high=MAX_WAIT)
        sources = _sources(fields.get("files"))
        done = deploy(self.context, sources, who=self.who, cid=self.cid)
        listed = [{"file": file, "service": service} for file, service in done.services]
        self.response.payload = {"services": listed} | self.committed(done.version, wait)


class Undeploy(AdminService):
    """Deletes a service file and its services on all servers."""

    name = "zato.service-source.delete"

    def handle(self) -> None:
        """``name`` of the file; ``wait`` in seconds."""
        fields = self.fields
        wait = self.number(fields, "wait", DEFAULT_WAIT, high=MAX_WAIT)
        version = undeploy(self.context, self.text(fields, "name"), who=self.who, cid=self.cid)
        self.response.payload = {"name": fields["name"]} | self.committed(version, wait)


class Rollback(AdminService):
    """Deploys an earlier version of a service file again."""

    name = "junctor.service.rollback"

    def handle(self) -> None:
        """``name`` of the file; ``number`` of the version, by default the one before the newest; ``wait`` in seconds."""
        fields = self.fields
        wait = self.number(fields, "wait", DEFAULT_WAIT, high=MAX_WAIT)
        name = self.text(fields, "name")
        known = versions(self.context.store, name)
        if fields.get("number") is None and len(known) == 1:
            raise InvalidInput.one("number", f"{name} has only one version.")
        number = fields["number"] if fields.get("number") is not None else known[1]["number"]
        if isinstance(number, bool) or not isinstance(number, int):
            raise InvalidInput.one("number", "must be a whole number.")
        source = text_of(self.context.store, name, number)
        done = deploy(self.context, {name: source}, who=self.who, cid=self.cid)
        self.response.payload = {"name": name, "number": number} | self.committed(done.version, wait)


class Versions(AdminService):
    """The versions of a service file, newest first."""

    name = "junctor.service.versions"

    def handle(self) -> None:
        """``name`` of the file."""
        self.response.payload = {"items": versions(self.context.store, self.text(self.fields, "name"))}


def _sources(files: Any) -> dict[str, str]:
    """The files of a request by name; raises ``InvalidInput``."""
    if not isinstance(files, list) or not 0 < len(files) <= MAX_FILES:
        raise InvalidInput.one("files", f"must be a list of 1 to {MAX_FILES} files.")
    found: dict[str, str] = {}
    for position, file in enumerate(files):
        if not _is_file(file):
            raise InvalidInput.one(
                f"files[{position}]", "must be an object with a name and a content, both texts."
            )
        if file["name"] in found:
            raise InvalidInput.one(f"files[{position}]", f"there is another {file['name']!r} before it.")
        found[file["name"]] = file["content"]
    return found


def _is_file(file: Any) -> bool:
    return isinstance(file, dict) and all(isinstance(file.get(key), str) for key in ("name", "content"))
