"""server/service/naming.py"""

import pytest

from junctor.server.service.naming import implementation_name, problem_with_name, service_name


@pytest.mark.parametrize(
    ("module", "cls", "name"),
    [
        ("my_module", "MyService", "my-module.my-service"),
        ("api", "ILikeWSDLDocs", "api.i-like-wsdl-docs"),
        ("crm.customers", "GetCustomer2Data", "crm.customers.get-customer2-data"),
        ("zato.server.service.internal.ping_pong", "Ping", "zato.ping-pong.ping"),
        ("a", "HTTPServer", "a.http-server"),
        ("a", "Get_Customer", "a.get-customer"),
        ("orders@3f2a", "Create", "orders.create"),
    ],
)
def test_names_are_derived_from_modules_and_classes(module, cls, name):
    assert service_name(module, cls) == name


def test_the_implementation_name_leaves_the_version_out():
    assert implementation_name("orders@3f2a", "Create") == "orders.Create"


@pytest.mark.parametrize("name", ["", None, 5, "a b", "a\n", "x" * 201, "a\x00"])
def test_what_cannot_be_a_name_is_told(name):
    assert problem_with_name(name)


@pytest.mark.parametrize("name", ["a", "crm.get-customer", "zato.ping", "é", "x" * 200])
def test_ordinary_names_are_fine(name):
    assert problem_with_name(name) == ""
