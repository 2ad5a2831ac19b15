"""server/compat.py"""

import importlib
import subprocess
import sys
import textwrap

import pytest

from junctor.server import compat
from junctor.server.service import types
from junctor.server.service.base import Service
from junctor.server.service.hot_deploy import load_source, unload
from junctor.sql import errors


@pytest.fixture(autouse=True)
def _installed():
    compat.install()
    yield
    compat.uninstall()


ZATO_FILE = '''# -*- coding: utf-8 -*-
from __future__ import absolute_import, division, print_function, unicode_literals

# Zato
from zato.common import CHANNEL, DATA_FORMAT, ZatoException, Inactive, TimeoutException, ParsingException
from zato.common.api import CHANNEL as CHANNEL2
from zato.common.exception import BadRequest, NotFound, Forbidden, Reportable, Unauthorized
from zato.server.connection.http_soap import BadRequest as BadRequest2
from zato.server.service import AsIs, Bool, Boolean, CSV, Date, DateTime, Dict, Float, Int, Integer, List, ListOfDicts
from zato.server.service import Nested, Opaque, PubSubHook, Service, Unicode, UTC, UUID, WSXAdapter, WSXHook
from zato.server.service.internal import AdminService
from zato.simpleio import Secret
import zato.server.service as by_module

class GetOrder(Service):
    """ Returns an order.
    """
    class SimpleIO:
        input_required = 'id', AsIs('code_id')
        input_optional = (Boolean('flag'),)
        output_required = Integer('id')

    def handle(self):
        if self.channel.type == CHANNEL.HTTP_SOAP:
            raise BadRequest(self.cid, 'No such order')
'''


def test_a_service_file_written_for_zato_loads_unchanged():
    loaded = load_source("zato_file_x.py", ZATO_FILE, "1")
    unload(loaded)
    assert [service.name for service in loaded.services] == ["zato-file-x.get-order"]
    assert [type(elem) for elem in loaded.services[0].io.input] == [types.Int, types.AsIs, types.Bool]
    assert loaded.module.Service is loaded.module.by_module.Service is Service
    assert loaded.module.BadRequest is loaded.module.BadRequest2 is errors.BadRequest
    assert loaded.module.CHANNEL is loaded.module.CHANNEL2


def test_errors_are_raised_and_caught_with_zatos_classes():
    common, exception = (
        importlib.import_module("zato.common"),
        importlib.import_module("zato.common.exception"),
    )
    error = common.ZatoException("cid", "oops")
    assert (error.cid, error.msg, str(error)) == ("cid", "oops", "oops")
    assert common.ZatoException(None, "oops").cid == ""
    for cls, status in (
        ("BadRequest", 400),
        ("Unauthorized", 401),
        ("Forbidden", 403),
        ("NotFound", 404),
        ("MethodNotAllowed", 405),
        ("Conflict", 409),
        ("TooManyRequests", 429),
        ("InternalServerError", 500),
        ("ServiceUnavailable", 503),
    ):
        raised = getattr(exception, cls)("cid", "oops")
        assert (raised.status, raised.cid, raised.msg, str(raised)) == (status, "cid", "oops", "oops")
        assert isinstance(raised, common.ZatoException)
        assert isinstance(raised, exception.Reportable)
    parsing = common.ParsingException("cid", "oops")
    assert isinstance(parsing, errors.InvalidInput)
    assert (parsing.cid, [str(problem) for problem in parsing.problems]) == ("cid", ["oops"])


def test_one_class_catches_what_is_inactive_and_one_what_takes_too_long():
    common = importlib.import_module("zato.common")
    for error in (errors.ServiceInactive("a"), errors.ConnectionInactive("a")):
        assert isinstance(error, common.Inactive)
    for error in (errors.CallTimeout("a"), errors.ConnectionTimeout("a")):
        assert isinstance(error, common.TimeoutException)


@pytest.mark.parametrize("name", sorted(compat.MODULES))
def test_every_module_can_be_imported_with_all_its_names(name):
    module = importlib.import_module(name)
    for attribute, value in compat.MODULES[name].items():
        assert getattr(module, attribute) is value


def test_a_name_that_is_not_there_is_an_import_error():
    with pytest.raises(ImportError, match="RESTAdapter"):
        exec("from zato.server.service import RESTAdapter")
    with pytest.raises(AttributeError, match=r"Junctor has no 'missing' in 'zato.simpleio'"):
        _ = importlib.import_module("zato.simpleio").missing
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("zato.server.missing")


def test_installing_twice_is_installing_once():
    compat.install()
    assert sys.meta_path.count(compat._FINDER) == 1


def run(code, *path):
    """What a new interpreter prints, without the packages of this one; ``path`` comes first on its path."""
    start = f"import sys; sys.path[:0] = {[str(item) for item in path]!r}\n"
    return subprocess.run(
        [sys.executable, "-c", start + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout


@pytest.fixture
def zato_packages(tmp_path):
    """A real ``zato`` namespace with ``zato.client``, and with ``zato.common``, which that imports."""
    for package, source in (
        (
            "client",
            "from zato.common.extra import VALUE\nfrom zato.common import OWN\nfrom zato.common.api import ZATO_OK",
        ),
        ("common", "OWN = 'own'\nCHANNEL = 'theirs'"),
    ):
        (tmp_path / "zato" / package).mkdir(parents=True)
        (tmp_path / "zato" / package / "__init__.py").write_text(source)
    (tmp_path / "zato" / "common" / "extra.py").write_text("VALUE = 5")
    return tmp_path


@pytest.mark.parametrize("first", ["compat.install()", "import zato.client; compat.install()"])
def test_an_installed_zato_client_works_beside_the_aliases(zato_packages, first):
    if "zato.client; " in first:
        (zato_packages / "zato" / "common" / "api.py").write_text("ZATO_OK = 'ok'")
    code = f"""
        from junctor.server import compat
        {first}
        import zato.client, zato.common, zato.common.extra
        from zato.server.service import Service
        print(zato.client.VALUE, zato.client.OWN, zato.common.CHANNEL.AMQP, zato.client.__file__.startswith(sys.path[0]))
    """
    assert run(code, zato_packages) == "5 own amqp True\n"


def test_an_installed_module_that_does_not_import_does_not_stand_in_the_way(zato_packages):
    (zato_packages / "zato" / "common" / "__init__.py").write_text("import missing_x")
    code = """
        from junctor.server import compat
        compat.install()
        from zato.common import CHANNEL
        print(CHANNEL.AMQP)
    """
    assert run(code, zato_packages) == "amqp\n"


def test_without_any_zato_package_the_aliases_are_all_there_is():
    code = """
        sys.modules.pop("zato", None)
        sys.path[:] = [item for item in sys.path]
        from junctor.server import compat
        compat.install()
        import zato.server.service
        print(zato.server.service.Service.__module__)
        compat.uninstall()
        print([name for name in compat.MODULES if name in sys.modules])
    """
    assert run(code) == "junctor.server.service.base\n[]\n"
