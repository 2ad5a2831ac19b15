"""server/service/hot_deploy.py"""

import importlib
import inspect
import linecache
import logging
import pickle
import sys
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from junctor.server.service import hot_deploy
from junctor.server.service.hot_deploy import deployment_order, load_source, publish, unload
from junctor.sql.errors import DeploymentRefused

SERVICE = """# -*- coding: utf-8 -*-
from __future__ import absolute_import, division, print_function, unicode_literals

from dataclasses import dataclass
from junctor.server.service.base import Service

@dataclass
class Order:
    id: int

class GetOrder(Service):
    def handle(self):
        self.response.payload = {version!r}

    @staticmethod
    def fail():
        raise ValueError({version!r})
"""
BASE = "from junctor.server.service.base import Service\n"


@pytest.fixture
def load():
    loaded = []

    def load(source, version="1", file_name="orders_x.py"):
        loaded.append(load_source(file_name, source, version))
        return loaded[-1]

    before = set(sys.modules)
    yield load
    for module in loaded:
        unload(module)
    assert not hot_deploy._published
    assert not [name for name in set(sys.modules) - before if "@" in name or name.endswith("_x")]


def refused(source, *, file_name="orders_x.py", version="1", **options):
    before, lines = set(sys.modules), set(linecache.cache)
    with pytest.raises(DeploymentRefused) as caught:
        load_source(file_name, source, version, **options)
    assert not [name for name in set(sys.modules) - before if "@" in name]
    assert not [name for name in set(linecache.cache) - lines if "@" in name]
    return caught.value


def test_a_file_is_loaded_with_its_services(load):
    loaded = load(SERVICE.format(version="1"))
    [service] = loaded.services
    assert (service.name, service.impl_name) == ("orders-x.get-order", "orders_x.GetOrder")
    assert (service.file_name, service.version) == ("orders_x.py", "1")
    assert (loaded.name, loaded.key, loaded.module.__name__) == ("orders_x", "orders_x@1", "orders_x@1")
    assert service.cls.logger.name == "orders_x.GetOrder"


def test_each_version_is_a_module_of_its_own(load):
    one, two = (load(SERVICE.format(version=version), version) for version in "12")
    assert one.module.GetOrder is not two.module.GetOrder
    for version, loaded in (("1", one), ("2", two)):
        order = loaded.module.Order(5)
        assert pickle.loads(pickle.dumps(order)) == order
        assert repr(version) in inspect.getsource(loaded.module.GetOrder)
        with pytest.raises(ValueError, match=version) as caught:
            loaded.module.GetOrder.fail()
        text = "".join(traceback.format_exception(caught.value))
        assert f'File "orders_x.py@{version}", line 17, in fail' in text
        assert f"raise ValueError({version!r})" in text
        linecache.checkcache()
        assert linecache.getline(f"orders_x.py@{version}", 17).strip() == f"raise ValueError({version!r})"


def test_the_same_version_can_be_loaded_again(load):
    one, two = (load(SERVICE.format(version="1")) for _ in range(2))
    assert (one.key, two.key) == ("orders_x@1", "orders_x@1.2")
    assert one.module is not two.module


def test_other_files_import_the_newest_published_version(load):
    one = load("value = 1", "1", "helper_x.py")
    assert one.services == ()
    with pytest.raises(ImportError):
        importlib.import_module("helper_x")
    publish(one)
    assert load("from helper_x import value").module.value == 1
    two = load("value = 2", "2", "helper_x.py")
    assert load("from helper_x import value").module.value == 1
    publish(two)
    publish(two)
    assert load("from helper_x import value").module.value == 2
    unload(two)
    assert load("from helper_x import value").module.value == 1
    unload(one)
    assert "No module named 'helper_x'" in refused("import helper_x").reason


def test_an_old_version_can_be_forgotten_while_the_new_one_is_published(load):
    one, two = (load(f"value = {version}", version, "helper_x.py") for version in "12")
    publish(one)
    publish(two)
    unload(one)
    assert load("from helper_x import value").module.value == 2


def test_only_classes_of_the_file_itself_are_its_services(load):
    publish(load(BASE + "class Base(Service):\n    def handle(self): pass\n", "1", "base_x.py"))
    source = (
        BASE
        + "from base_x import Base\n"
        + "from junctor.server.service.hook_services import PubSubHook, AdminService\n"
        + "class Common(Service):\n    def help(self): pass\n"
        + "class A(Common):\n    def handle(self): pass\n"
        + "class B(Base): name = 'b'\n"
        + "class C(Base): zato_dont_import = True\n"
        + "class D(C): name = 'd'\n"
        + "class E(Base):\n    @classmethod\n    def before_add_to_store(cls, logger): return False\n"
        + "class F(Service):\n    def handle_GET(self): pass\n"
        + "Alias = A\n"
    )
    assert [service.name for service in load(source).services] == ["orders-x.a", "b", "d", "orders-x.f"]


@pytest.mark.parametrize(
    ("source", "reason", "line"),
    [
        ("x = 1\nprint 'x'\n", "SyntaxError: Missing parentheses", 2),
        ("if 1:\nx = 1\n", "IndentationError: expected an indented block", 2),
        ("\nimport missing_x\n", "ModuleNotFoundError: No module named 'missing_x'", 2),
        ("def f():\n    return 1 / 0\n\nf()\n", "ZeroDivisionError: division by zero", 2),
        ("import json\njson.loads('{')\n", "JSONDecodeError", 2),
        ("import sys\nsys.exit(5)\n", "SystemExit: 5", 2),
        ("x = '\x00'", "null byte", None),
        ("(" * 1000 + ")" * 1000, "", 1),
        (BASE + "\nclass A(Service):\n    input = 5\n    def handle(self): pass\n", "A: input must be", 3),
        (BASE + "class A(Service):\n    def hande(self): pass\n", "A: there is no handle", 2),
        (
            BASE + "class A(Service):\n    name = 'a b'\n    def handle(self): pass\n",
            "A: the name of a service has no",
            2,
        ),
        (
            BASE
            + "class A(Service):\n    name = 'a'\n    def handle(self): pass\n"
            + "class B(Service):\n    name = 'a'\n    def handle(self): pass\n",
            "B: it has the name 'a', and so has A",
            5,
        ),
        (
            BASE
            + "class A(Service):\n    def handle(self): pass\n"
            + "    @classmethod\n    def before_add_to_store(cls, logger): raise KeyError('x')\n",
            "A: KeyError: 'x'",
            2,
        ),
    ],
)
def test_a_file_that_does_not_load_is_refused_with_the_reason_and_the_line(source, reason, line):
    error = refused(source)
    assert error.file_name == "orders_x.py"
    assert reason in error.reason
    assert line is None or error.line == line


@pytest.mark.parametrize(
    "file_name",
    [
        "",
        "a",
        ".py",
        "1.py",
        "a-b.py",
        "a b.py",
        "../a.py",
        "a/b.py",
        "é.py",
        "a.py\n",
        "a.pyc",
        "a" * 300 + ".py",
        "a.b.py",
    ],
)
def test_file_names_that_are_no_modules_are_refused(file_name):
    assert "a file's name is" in refused("", file_name=file_name).reason


def test_a_version_is_a_plain_word():
    assert "is not a version" in refused("", version="a b").reason


@pytest.mark.parametrize(
    "source", ["#" * (5 * 1024 * 1024 + 1), b"#" * (5 * 1024 * 1024 + 1), "é" * (3 * 1024 * 1024)]
)
def test_a_file_that_is_too_large_is_refused(source):
    assert "more than 5,242,880" in refused(source).reason


def test_the_declared_encoding_counts(load):
    assert load("# -*- coding: latin-1 -*-\nx = 'é'\n".encode("latin-1")).module.x == "é"
    assert load("x = 'é'\n".encode()).module.x == "é"
    assert load("\ufeffx = 'é'\n".encode()).module.x == "é"
    assert load("# -*- coding: latin-1 -*-\nx = 'é'\n").module.x == "é"
    for source in (b"x = '\xe9'\n", b"# coding: unheard-of\n"):
        assert "the encoding is not" in refused(source).reason


def test_a_file_that_never_finishes_loading_is_refused():
    error = refused("import gevent\n\ngevent.sleep(60)\n", timeout=0.01)
    assert (error.reason, error.line) == ("it did not finish loading in 0.01 s", 3)


def test_a_broken_file_does_not_replace_the_one_that_works(load):
    publish(load("value = 1", "1", "helper_x.py"))
    refused("value = 2\n1 / 0\n", file_name="helper_x.py", version="2")
    assert load("from helper_x import value").module.value == 1


def test_the_names_of_installed_modules_keep_their_meaning(load, caplog):
    loaded = load(SERVICE.format(version="1"), "1", "json.py")
    with caplog.at_level(logging.WARNING):
        publish(loaded)
    assert loaded.services[0].name == "json.get-order"
    assert "json.py cannot be imported by other files: there is a module 'json' already" in caplog.text
    assert importlib.import_module("json").loads("1") == 1
    unload(loaded)
    assert importlib.import_module("json").loads("1") == 1
    assert "other files cannot import it" in refused("x = 1", file_name="json.py").reason


def test_files_are_ordered_by_what_they_import():
    sources = {
        "a.py": "import c",
        "b.py": b"def f():\n    from a import x",
        "c.py": "import os",
        "d.py": "(",
        "e.py": "",
    }
    order = deployment_order(sources)
    assert sorted(order) == sorted(sources)
    assert order.index("c.py") < order.index("a.py") < order.index("b.py")
    assert deployment_order({"b.py": "import a", "a.py": "import b"}) == ["a.py", "b.py"]
    assert deployment_order({}) == []


@given(st.binary() | st.text())
def test_any_source_is_loaded_or_refused(source):
    try:
        compiled = compile(source, "x", "exec")
    except (SyntaxError, ValueError):
        compiled = None
    if compiled is None or not compiled.co_names:
        try:
            unload(load_source("anything_x.py", source, "1"))
        except DeploymentRefused as error:
            assert error.reason  # noqa: PT017 - either outcome is right
